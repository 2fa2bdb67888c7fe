// NativeMachine of lib/native.ts.
#pragma once

#include <napi.h>

#include <future>
#include <list>

#include "machine.h"
#include "notices.h"

namespace lockstep {

class MachineObject : public Napi::ObjectWrap<MachineObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit MachineObject(const Napi::CallbackInfo& info);
  ~MachineObject() override;

 private:
  Napi::Value start(const Napi::CallbackInfo& info);
  Napi::Value pause(const Napi::CallbackInfo& info);
  Napi::Value resume(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value registers(const Napi::CallbackInfo& info);
  Napi::Value read_memory(const Napi::CallbackInfo& info);
  Napi::Value write_memory(const Napi::CallbackInfo& info);
  Napi::Value digest(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value signal(const Napi::CallbackInfo& info);
  Napi::Value resize(const Napi::CallbackInfo& info);
  Napi::Value interrupt(const Napi::CallbackInfo& info);
  Napi::Value control(const Napi::CallbackInfo& info);
  Napi::Value trace(const Napi::CallbackInfo& info);
  Napi::Value touched_pages(const Napi::CallbackInfo& info);
  Napi::Value pair_status(const Napi::CallbackInfo& info);
  Napi::Value hand_over(const Napi::CallbackInfo& info);
  Napi::Value image_arrived(const Napi::CallbackInfo& info);
  Napi::Value snapshot(const Napi::CallbackInfo& info);
  Napi::Value fork(const Napi::CallbackInfo& info);
  Napi::Value ref(const Napi::CallbackInfo& info);
  Napi::Value unref(const Napi::CallbackInfo& info);

  // Throws unless the vCPU stands still.
  Machine& standing();
  // Does `work`, which may wait for the machine, on a thread of its own once that runs; `answer` makes of its
  // result what the promise is resolved with.
  template <typename Work, typename Answer>
  Napi::Value promise(Napi::Env env, Work work, Answer answer);
  // Stops and joins every thread. Also when the environment goes down with machines running.
  void shut_down();
  static void environment_ends(void* self);

  std::shared_ptr<Notices> notices_;
  std::unique_ptr<Machine> machine_;
  Mode mode_ = Mode::kRun;
  std::list<std::future<void>> jobs_;  // joined before the machine goes
  bool started_ = false, closed_ = false;
};

}  // namespace lockstep
