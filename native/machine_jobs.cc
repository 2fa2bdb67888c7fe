// Snapshots and forks of a NativeMachine: what waits for the machine, for how long nobody knows, and then
// works for a while. So each has a thread of its own, and takes none of libuv's few.
#include "machine_object.h"
#include "napi_common.h"

namespace lockstep {

template <typename Work, typename Answer>
Napi::Value MachineObject::promise(Napi::Env env, Work work, Answer answer) {
  if (closed_ || !machine_) throw closed_error(env);
  auto deferred = std::make_shared<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(env));
  const auto reject = [notices = notices_, deferred](const Failure& failure) {
    notices->call([deferred, failure](Napi::Env env) { deferred->Reject(js_failure(env, failure).Value()); });
  };
  auto job = [machine = machine_.get(), notices = notices_, deferred, reject, work, answer] {
    try {
      auto result = work(*machine);
      notices->call([deferred, answer, result = std::move(result)](Napi::Env env) {
        deferred->Resolve(answer(env, result));
      });
    } catch (const Failure& failure) {
      reject(failure);
    } catch (const std::exception& error) {
      reject(Failure("ERR_LOCKSTEP_INTERNAL", error.what()));
    }
  };
  jobs_.remove_if([](const std::future<void>& done) {
    return done.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  });
  if (started_)
    jobs_.push_back(std::async(std::launch::async, job));
  else
    job();
  return deferred->Promise();
}

Napi::Value MachineObject::snapshot(const Napi::CallbackInfo& info) {
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  const bool force = info[1].ToBoolean();
  return promise(
      info.Env(), [path, force](Machine& machine) { return machine.snapshot(path, force); },
      [](Napi::Env env, const SnapshotInfo& made) {
        Napi::Object object = Napi::Object::New(env);
        object["event"] = Napi::Number::New(env, static_cast<double>(made.lsn));
        object["contentBytes"] = Napi::Number::New(env, static_cast<double>(made.content_bytes));
        object["digest"] = digest_object(env, made.digest);
        return object;
      });
}

Napi::Value MachineObject::fork(const Napi::CallbackInfo& info) {
  return promise(
      info.Env(), [](Machine& machine) { return machine.fork(); },
      [](Napi::Env env, const std::shared_ptr<Fork>& fork) {
        return Napi::External<std::shared_ptr<Fork>>::New(
            env, new std::shared_ptr<Fork>(fork),
            [](Napi::Env, std::shared_ptr<Fork>* data) { delete data; });
      });
}

Napi::Value MachineObject::image_arrived(const Napi::CallbackInfo& info) {
  return promise(
      info.Env(),
      [](Machine& machine) {
        machine.image_arrived();
        return true;
      },
      [](Napi::Env env, bool) { return env.Undefined(); });
}

}  // namespace lockstep
