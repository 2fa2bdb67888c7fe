#include "machine_object.h"

#include "machine_config.h"
#include "napi_common.h"

namespace lockstep {

Napi::Function MachineObject::define(Napi::Env env) {
  using M = MachineObject;
  return DefineClass(
      env, "NativeMachine",
      {
          InstanceMethod<&M::start>("start"),               // start(): void
          InstanceMethod<&M::pause>("pause"),               // pause(): Promise<void>
          InstanceMethod<&M::resume>("resume"),             // resume(): void
          InstanceMethod<&M::close>("close"),               // close(): Promise<void>
          InstanceMethod<&M::registers>("registers"),       // registers(): Record<string, bigint>
          InstanceMethod<&M::read_memory>("readMemory"),    // readMemory(address, length): Uint8Array
          InstanceMethod<&M::write_memory>("writeMemory"),  // writeMemory(address, bytes): void
          InstanceMethod<&M::digest>("digest"),             // digest(): Promise<{registers, devices, memory}>
          InstanceMethod<&M::stats>("stats"),               // stats(): NativeStats
          InstanceMethod<&M::signal>("signal"),             // signal(number): void
          InstanceMethod<&M::resize>("resize"),             // resize(rows, columns): void
          InstanceMethod<&M::interrupt>("interrupt"),       // interrupt(vector): void
          InstanceMethod<&M::control>("control"),           // control(op, path): Promise<Uint8Array>
          InstanceMethod<&M::trace>("trace"),               // trace(options | null): void
          InstanceMethod<&M::touched_pages>("touchedPages"),  // touchedPages(): Float64Array
          InstanceMethod<&M::pair_status>("pairStatus"),  // pairStatus(): Record<string, number | boolean>
          InstanceMethod<&M::hand_over>("handOver"),      // handOver(): boolean
          InstanceMethod<&M::snapshot>("snapshot"),       // snapshot(path, force): Promise<NativeSnapshot>
          InstanceMethod<&M::fork>("fork"),               // fork(): Promise<NativeFork>
          InstanceMethod<&M::image_arrived>("imageArrived"),  // imageArrived(): Promise<void>
          InstanceMethod<&M::ref>("ref"),                     // ref(): void
          InstanceMethod<&M::unref>("unref"),                 // unref(): void
      });
}

MachineObject::MachineObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<MachineObject>(info) {
  Napi::Env env = info.Env();
  guarded(env, [&] {
    MachineConfig config = parse_machine_config(info[0].As<Napi::Object>());
    mode_ = config.mode;
    notices_ = std::make_shared<Notices>(env, info[1].As<Napi::Function>());
    try {
      machine_ = std::make_unique<Machine>(std::move(config), *notices_);
    } catch (...) {
      notices_->close();
      throw;
    }
  });
  napi_add_env_cleanup_hook(env, environment_ends, this);
}

MachineObject::~MachineObject() {
  napi_remove_env_cleanup_hook(Env(), environment_ends, this);
  shut_down();
}

// One function for both: a hook is removed only under the address it was added with.
void MachineObject::environment_ends(void* self) { static_cast<MachineObject*>(self)->shut_down(); }

void MachineObject::shut_down() {
  closed_ = true;
  if (machine_) machine_->stop();
  jobs_.clear();
  machine_.reset();
  if (notices_) notices_->close();
}

Machine& MachineObject::standing() {
  if (!machine_) throw closed_error(Env());
  if (started_ && !machine_->standing())
    throw js_failure(
        Env(), Failure("ERR_LOCKSTEP_RUNNING", "the machine is running", "await machine.pause() first"));
  if (!machine_->built())
    throw js_failure(Env(), Failure("ERR_LOCKSTEP_NOT_STARTED", "the shadow has no machine yet"));
  return *machine_;
}

Napi::Value MachineObject::start(const Napi::CallbackInfo& info) {
  if (!machine_) throw closed_error(info.Env());
  if (started_) return info.Env().Undefined();
  started_ = true;
  machine_->start();
  return info.Env().Undefined();
}

Napi::Value MachineObject::pause(const Napi::CallbackInfo& info) {
  if (!machine_) throw closed_error(info.Env());
  auto deferred = std::make_shared<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(info.Env()));
  machine_->control().pause();
  machine_->control().post([notices = notices_, deferred] {
    notices->call([deferred](Napi::Env env) { deferred->Resolve(env.Undefined()); });
  });
  return deferred->Promise();
}

Napi::Value MachineObject::resume(const Napi::CallbackInfo& info) {
  if (!machine_) throw closed_error(info.Env());
  machine_->control().resume();
  return info.Env().Undefined();
}

Napi::Value MachineObject::close(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto deferred = Napi::Promise::Deferred::New(env);
  if (closed_) {
    deferred.Resolve(env.Undefined());
    return deferred.Promise();
  }
  closed_ = true;
  // Joining may take a moment; the event loop goes on meanwhile.
  class Joiner : public Napi::AsyncWorker {
   public:
    Joiner(Napi::Env env, MachineObject* object, Napi::Promise::Deferred deferred)
        : Napi::AsyncWorker(env),
          object_(Napi::Persistent(object->Value())),
          target_(object),
          deferred_(deferred) {
      target_->machine_->stop();
    }
    void Execute() override {
      if (target_->machine_) target_->machine_->join();
      target_->jobs_.clear();
    }
    void OnOK() override {
      // The last notices (the end, the state) go out before the listener is let go.
      auto* target = target_;
      auto deferred = deferred_;
      auto keep = std::make_shared<Napi::ObjectReference>(std::move(object_));
      target->notices_->on_state("closed");
      target->notices_->call([target, deferred, keep](Napi::Env env) {
        target->machine_.reset();
        deferred.Resolve(env.Undefined());
        auto notices = target->notices_;
        notices->close();
      });
    }

   private:
    Napi::ObjectReference object_;
    MachineObject* target_;
    Napi::Promise::Deferred deferred_;
  };
  (new Joiner(env, this, deferred))->Queue();
  return deferred.Promise();
}

Napi::Value MachineObject::registers(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    Machine& machine = standing();
    std::vector<uint64_t> values = register_values(machine.registers());
    Napi::Object object = Napi::Object::New(env);
    for (size_t i = 0; i < values.size(); i++) object[kRegisterNames[i]] = Napi::BigInt::New(env, values[i]);
    kvm_sregs s = machine.segments();
    object["cs"] = Napi::BigInt::New(env, uint64_t{s.cs.selector});
    object["fsBase"] = Napi::BigInt::New(env, static_cast<uint64_t>(s.fs.base));
    object["gsBase"] = Napi::BigInt::New(env, static_cast<uint64_t>(s.gs.base));
    object["cr0"] = Napi::BigInt::New(env, static_cast<uint64_t>(s.cr0));
    object["cr2"] = Napi::BigInt::New(env, static_cast<uint64_t>(s.cr2));
    object["cr3"] = Napi::BigInt::New(env, static_cast<uint64_t>(s.cr3));
    object["cr4"] = Napi::BigInt::New(env, static_cast<uint64_t>(s.cr4));
    return object;
  });
}

Napi::Value MachineObject::read_memory(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    Machine& machine = standing();
    uint64_t address = info[0].As<Napi::Number>().Int64Value(),
             length = info[1].As<Napi::Number>().Int64Value();
    if (!machine.memory().contains(address, length))
      throw Failure("ERR_LOCKSTEP_ADDRESS", "this range is outside the guest's memory of " +
                                                std::to_string(machine.memory().bytes()) + " bytes");
    return to_js(env, machine.memory().view(address, length));
  });
}

Napi::Value MachineObject::write_memory(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    Machine& machine = standing();
    if (mode_ != Mode::kRun)
      throw Failure("ERR_LOCKSTEP_RECORDED", "a write from outside would not be in the log",
                    "write only to machines that are not recorded");
    if (!machine.write_memory(info[0].As<Napi::Number>().Int64Value(), to_bytes(info[1])))
      throw Failure("ERR_LOCKSTEP_ADDRESS", "this range is outside the guest's memory of " +
                                                std::to_string(machine.memory().bytes()) + " bytes");
    return env.Undefined();
  });
}

Napi::Value MachineObject::digest(const Napi::CallbackInfo& info) {
  if (!machine_) throw closed_error(info.Env());
  auto deferred = std::make_shared<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(info.Env()));
  Machine* machine = machine_.get();
  auto compute = [notices = notices_, deferred, machine] {
    Digest digest;
    try {
      digest = machine->digest();
    } catch (const Failure& failure) {
      return notices->call(
          [deferred, failure](Napi::Env env) { deferred->Reject(js_failure(env, failure).Value()); });
    }
    notices->call([deferred, digest](Napi::Env env) { deferred->Resolve(digest_object(env, digest)); });
  };
  if (started_)
    machine->control().post(compute);
  else
    compute();
  return deferred->Promise();
}

Napi::Value MachineObject::stats(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!machine_) throw closed_error(env);
  Machine::Stats s = machine_->stats();
  Napi::Object object = Napi::Object::New(env);
  auto set = [&](const char* name, double value) { object[name] = Napi::Number::New(env, value); };
  set("exits", s.run.exits);
  set("kicks", s.run.kicks);
  set("events", s.run.events);
  set("digests", s.run.digests);
  set("interrupts", s.run.interrupts);
  set("forcedStops", s.run.forced_stops);
  set("longestRunMs", s.run.longest_run_us / 1000.0);
  set("dirtyPages", s.run.dirty_pages);
  set("accesses", s.at.accesses_total);
  set("lsn", s.at.lsn);
  set("timeUs", s.at.time_us);
  set("inputBytes", s.at.input_bytes);
  set("logFrames", s.log.frames);
  set("logEventBytes", s.log.event_bytes);
  set("logInputBytes", s.log.input_bytes);
  set("logDigestBytes", s.log.digest_bytes);
  set("logCheckpointBytes", s.log.checkpoint_bytes);
  set("logFrameBytes", s.log.frame_bytes);
  set("logFileBytes", s.log_file_bytes);
  set("digestsChecked", s.digests_checked);
  set("netFramesIn", s.net.frames_in);
  set("netBytesIn", s.net.bytes_in);
  set("netDroppedIn", s.net.dropped_in);
  set("netFramesOut", s.net.frames_out);
  set("netBytesOut", s.net.bytes_out);
  set("netDroppedOut", s.net.dropped_out);
  set("systemCalls", s.system_calls);
  set("accepted", s.accepted);
  Napi::Object unknown = Napi::Object::New(env);
  for (auto [number, times] : s.unknown_calls)
    unknown[std::to_string(number)] = Napi::Number::New(env, times);
  object["unknownSyscalls"] = unknown;
  return object;
}

Napi::Value MachineObject::signal(const Napi::CallbackInfo& info) {
  if (!machine_) throw closed_error(info.Env());
  machine_->inbox().push(
      {InputKind::kSignal, 0, {static_cast<uint8_t>(info[0].As<Napi::Number>().Uint32Value())}});
  return info.Env().Undefined();
}

Napi::Value MachineObject::resize(const Napi::CallbackInfo& info) {
  if (!machine_) throw closed_error(info.Env());
  uint32_t rows = info[0].As<Napi::Number>().Uint32Value(),
           columns = info[1].As<Napi::Number>().Uint32Value();
  auto low = [](uint32_t v) { return static_cast<uint8_t>(v); };
  machine_->inbox().push(
      {InputKind::kWindow, 0, {low(rows), low(rows >> 8), low(columns), low(columns >> 8)}});
  return info.Env().Undefined();
}

Napi::Value MachineObject::interrupt(const Napi::CallbackInfo& info) {
  if (!machine_) throw closed_error(info.Env());
  machine_->inbox().push(
      {InputKind::kInterrupt, 0, {static_cast<uint8_t>(info[0].As<Napi::Number>().Uint32Value())}});
  return info.Env().Undefined();
}

Napi::Value MachineObject::control(const Napi::CallbackInfo& info) {
  if (!machine_) throw closed_error(info.Env());
  auto deferred = std::make_shared<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(info.Env()));
  std::string path = info[1].As<Napi::String>().Utf8Value();
  auto reply = [notices = notices_, deferred, path](int32_t status, Bytes bytes) {
    notices->call([deferred, status, path, bytes = std::move(bytes)](Napi::Env env) {
      if (status == 0) return deferred->Resolve(to_js(env, bytes));
      std::string what = status == -ESHUTDOWN ? "the machine is over" : path + ": " + std::strerror(-status);
      deferred->Reject(
          js_failure(env, Failure("ERR_LOCKSTEP_GUEST_FILE", what, "", "control", -status)).Value());
    });
  };
  machine_->control_port().request(info[0].As<Napi::Number>().Uint32Value(), path, reply);
  return deferred->Promise();
}

Napi::Value MachineObject::trace(const Napi::CallbackInfo& info) {
  if (!machine_) throw closed_error(info.Env());
  Machine* machine = machine_.get();
  bool on = info[0].IsObject();
  bool exits = false, pages = false;
  size_t limit = 0;
  uint32_t number = 0;
  if (on) {
    auto options = info[0].As<Napi::Object>();
    exits = options.Get("exits").ToBoolean();
    pages = options.Get("dirtyPages").ToBoolean();
    limit = options.Get("limit").As<Napi::Number>().Uint32Value();
    number = options.Get("number").As<Napi::Number>().Uint32Value();
  }
  auto change = [machine, notices = notices_, on, exits, pages, limit, number] {
    try {
      machine->trace(exits, pages, on ? limit : 0,
                     [notices, number](std::vector<TraceEntry> entries, uint64_t dropped) {
                       notices->trace_batch(number, std::move(entries), dropped);
                     });
    } catch (const Failure& failure) {
      notices->on_warning(failure.code, failure.what());
    }
  };
  if (started_)
    machine->control().post(change);
  else
    change();
  return info.Env().Undefined();
}

Napi::Value MachineObject::touched_pages(const Napi::CallbackInfo& info) {
  if (!machine_) throw closed_error(info.Env());
  const std::vector<uint64_t> pages = machine_->traced_pages();
  auto result = Napi::Float64Array::New(info.Env(), pages.size());
  for (size_t i = 0; i < pages.size(); i++) result[i] = static_cast<double>(pages[i]);
  return result;
}

Napi::Value MachineObject::pair_status(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!machine_) throw closed_error(env);
  Napi::Object object = Napi::Object::New(env);
  auto status = machine_->pair_status();
  if (!status) return object;
  object["pairId"] = status->pair_id;
  object["live"] = status->live;
  object["protected"] = status->is_protected;
  object["fenced"] = status->fenced;
  auto set = [&](const char* name, double value) { object[name] = Napi::Number::New(env, value); };
  set("generation", status->generation);
  set("lsnSent", status->lsn_sent);
  set("lsnReceived", status->lsn_received);
  set("lsnAcked", status->lsn_acked);
  set("lsnExecuted", status->lsn_executed);
  set("logBytes", status->log_bytes);
  set("outputBytesHeld", status->output_bytes_held);
  set("outputBytesForgotten", status->output_bytes_forgotten);
  set("linkRoundTripUs", status->link_round_trip_us);
  return object;
}

Napi::Value MachineObject::hand_over(const Napi::CallbackInfo& info) {
  if (!machine_) throw closed_error(info.Env());
  return Napi::Boolean::New(info.Env(), machine_->hand_over());
}

Napi::Value MachineObject::ref(const Napi::CallbackInfo& info) {
  if (!closed_) notices_->ref(info.Env(), true);
  return info.Env().Undefined();
}

Napi::Value MachineObject::unref(const Napi::CallbackInfo& info) {
  if (!closed_) notices_->ref(info.Env(), false);
  return info.Env().Undefined();
}

}  // namespace lockstep
