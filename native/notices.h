// From the machine's threads to JavaScript, in batches: notices for the listener, answers for promises.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "machine.h"

namespace lockstep {

class Notices : public MachineListener, public std::enable_shared_from_this<Notices> {
 public:
  Notices(Napi::Env env, Napi::Function listener);
  // The JavaScript thread. Nothing is delivered afterwards.
  void close();
  void ref(Napi::Env env, bool keep_alive);

  // Any thread: `make` builds one notice on the JavaScript thread.
  using Make = std::function<Napi::Object(Napi::Env)>;
  void notice(Make make);
  // Any thread: runs on the JavaScript thread.
  void call(std::function<void(Napi::Env)> body);

  void on_state(const char* state) override;
  void on_ended(const MachineEnd& end) override;
  void on_failed(const Failure& failure) override;
  void on_pair(const PairEvent& event) override;
  void on_warning(const std::string& code, const std::string& detail) override;
  // `trace`: whose batch it is; the last one of a trace may arrive after the next has begun.
  void trace_batch(uint32_t trace, std::vector<TraceEntry> entries, uint64_t dropped);

 private:
  struct Entry {
    Make make;
    std::function<void(Napi::Env)> body;
  };
  void push(Entry entry);
  void deliver(Napi::Env env, Napi::Function listener);
  std::mutex mutex_;
  std::vector<Entry> queue_;
  bool closed_ = false;
  Napi::ThreadSafeFunction function_;
};

}  // namespace lockstep
