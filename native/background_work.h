// A promise for what a thread of libuv's does: the event loop goes on meanwhile.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "napi_common.h"

namespace lockstep {

template <typename Result>
class BackgroundWork : public Napi::AsyncWorker {
 public:
  using Work = std::function<Result()>;                           // on that thread; may throw Failure
  using Answer = std::function<Napi::Value(Napi::Env, Result&)>;  // back on JavaScript's

  // `inputs` are kept until it is done.
  static Napi::Value start(Napi::Env env, std::initializer_list<Napi::Value> inputs, Work work,
                           Answer answer) {
    auto* self = new BackgroundWork(env, std::move(work), std::move(answer));
    for (const Napi::Value& input : inputs)
      self->inputs_.push_back(Napi::Persistent(input.As<Napi::Object>()));
    Napi::Promise promise = self->deferred_.Promise();
    self->Queue();
    return promise;
  }

 protected:
  void Execute() override {
    try {
      result_ = std::make_unique<Result>(work_());
    } catch (const Failure& failure) {
      failure_ = std::make_unique<Failure>(failure);
    } catch (const std::exception& error) {
      failure_ = std::make_unique<Failure>("ERR_LOCKSTEP_INTERNAL", error.what());
    }
  }
  void OnOK() override {
    if (failure_)
      deferred_.Reject(js_failure(Env(), *failure_).Value());
    else
      deferred_.Resolve(answer_(Env(), *result_));
  }

 private:
  BackgroundWork(Napi::Env env, Work work, Answer answer)
      : Napi::AsyncWorker(env),
        deferred_(Napi::Promise::Deferred::New(env)),
        work_(std::move(work)),
        answer_(std::move(answer)) {}

  Napi::Promise::Deferred deferred_;
  std::vector<Napi::ObjectReference> inputs_;
  Work work_;
  Answer answer_;
  std::unique_ptr<Result> result_;
  std::unique_ptr<Failure> failure_;
};

// The bytes of a Uint8Array that is kept.
inline std::span<const uint8_t> bytes_of(const Napi::Value& value) {
  auto array = value.As<Napi::Uint8Array>();
  return {array.Data(), array.ByteLength()};
}

}  // namespace lockstep
