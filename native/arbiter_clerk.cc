#include "arbiter_clerk.h"

#include "link/remote_arbiter.h"

namespace lockstep {
namespace {

// Lives as long as the environment that serves.
struct Clerk {
  std::shared_ptr<ArbiterCounter> counter;
  Napi::ThreadSafeFunction serve;
  uint64_t number = 0;
};

void environment_ends(void* self) {
  std::unique_ptr<Clerk> clerk(static_cast<Clerk*>(self));
  clerk->counter->close(clerk->number);  // from here on nobody calls `serve`
  clerk->serve.Release();
}

}  // namespace

Napi::Value serve_arbiter(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto* clerk = new Clerk{
      ArbiterCounter::named(info[0].As<Napi::String>().Utf8Value()),
      Napi::ThreadSafeFunction::New(env, info[2].As<Napi::Function>(), "lockstep arbiter", 0, 1),
  };
  napi_add_env_cleanup_hook(env, environment_ends, clerk);
  auto hand = [serve = clerk->serve](const ArbiterCounter::Request& request) {
    serve.NonBlockingCall([request](Napi::Env env, Napi::Function serve) {
      serve.Call({
          Napi::Number::New(env, request.number),
          Napi::String::New(env, request.is_claim ? "claim" : "arm"),
          Napi::String::New(env, request.pair_id),
          Napi::Number::New(env, request.generation),
          Napi::String::New(env, request.asker_id),
      });
    });
  };
  clerk->number = clerk->counter->open(std::move(hand), info[1].As<Napi::Number>().Uint32Value());
  return env.Undefined();
}

Napi::Value answer_arbiter(const Napi::CallbackInfo& info) {
  const std::string answer = info[2].As<Napi::String>().Utf8Value();
  const Claim claim = answer == "won" ? Claim::kWon : answer == "lost" ? Claim::kLost : Claim::kUnreachable;
  ArbiterCounter::named(info[0].As<Napi::String>().Utf8Value())
      ->answer(info[1].As<Napi::Number>().Int64Value(), claim);
  return info.Env().Undefined();
}

}  // namespace lockstep
