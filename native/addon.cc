// The addon: what lib/native.ts calls Native.
#include <napi.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arbiter_clerk.h"
#include "block_store_object.h"
#include "kept_descriptor.h"
#include "kvm/probe.h"
#include "link/tls.h"
#include "log_object.h"
#include "machine_config.h"
#include "machine_object.h"
#include "napi_common.h"

namespace lockstep {

namespace {

// One set of constructors for each environment: worker threads load the addon once each.
struct Constructors {
  Napi::FunctionReference machine, log_reader, block_store;
};

Napi::Value machine(const Napi::CallbackInfo& info) {
  return info.Env().GetInstanceData<Constructors>()->machine.New({info[0], info[1]});
}

Napi::Value open_log(const Napi::CallbackInfo& info) {
  return info.Env().GetInstanceData<Constructors>()->log_reader.New({info[0]});
}

Napi::Value open_block_store(const Napi::CallbackInfo& info) {
  return info.Env().GetInstanceData<Constructors>()->block_store.New({info[0], info[1], info[2]});
}

Napi::Value socket_pair(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
      throw_system("ERR_LOCKSTEP_RESOURCES", "socketpair", "the console's socket pair");
    Napi::Array array = Napi::Array::New(env, 2);
    for (uint32_t i = 0; i < 2; i++) array[i] = Napi::Number::New(env, ends[i]);
    return array;
  });
}

// Not fs.closeSync: a worker thread counts Node's own descriptors, and these are not.
Napi::Value close_descriptor(const Napi::CallbackInfo& info) {
  close(info[0].As<Napi::Number>().Int32Value());
  return info.Env().Undefined();
}

Napi::Value probe(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  HostProbe p = probe_host();
  Napi::Object object = Napi::Object::New(env);
  object["error"] = p.error;
  object["errorCode"] = p.error_code;
  object["hint"] = p.hint;
  object["apiVersion"] = Napi::Number::New(env, p.api_version);
  object["backEnd"] = p.back_end;
  object["vendor"] = p.vendor;
  object["cpuModel"] = p.cpu_model;
  object["syncRegs"] = p.sync_regs;
  object["dirtyRing"] = p.dirty_ring;
  object["immediateExit"] = p.immediate_exit;
  object["performanceCounter"] = p.performance_counter;
  object["pageFaults"] = p.page_faults;
  object["emulatedKernelCode"] = p.emulated_kernel_code;
  object["kernelInstructionsPerUs"] = Napi::Number::New(env, p.kernel_instructions_per_us);
  object["syscallArrives"] = p.syscall_arrives;
  object["exitRoundTripUs"] = Napi::Number::New(env, p.exit_round_trip_us);
  return object;
}

Napi::Value arbiter_claim(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    auto text = [&](int i) { return info[i].As<Napi::String>().Utf8Value(); };
    Claim claim = make_arbiter(text(0))->claim(text(1), info[2].As<Napi::Number>().Int64Value(), text(3));
    return Napi::String::New(env, claim == Claim::kWon    ? "won"
                                  : claim == Claim::kLost ? "lost"
                                                          : "unreachable");
  });
}

Napi::Value arbiter_arm(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    auto text = [&](int i) { return info[i].As<Napi::String>().Utf8Value(); };
    return Napi::Boolean::New(
        env, make_arbiter(text(0))->arm(text(1), info[2].As<Napi::Number>().Int64Value(), text(3)));
  });
}

Napi::Value tls_keys(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const TlsKeys keys = make_tls_keys(info[0].As<Napi::Number>().Int32Value());
    Napi::Object files = Napi::Object::New(env);
    files["ca.pem"] = keys.ca_certificate;
    files["ca.key"] = keys.ca_key;
    files["side.pem"] = keys.side_certificate;
    files["side.key"] = keys.side_key;
    files["console.pem"] = keys.console_certificate;
    files["console.key"] = keys.console_key;
    return files;
  });
}

Napi::Value keep_kvm(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    keep_descriptor(kKeptKvm, KvmSystem().fd());
    return info.Env().Undefined();
  });
}

}  // namespace

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* constructors = new Constructors{Napi::Persistent(MachineObject::define(env)),
                                        Napi::Persistent(LogReaderObject::define(env)),
                                        Napi::Persistent(BlockStoreObject::define(env))};
  env.SetInstanceData(constructors);
  auto set = [&](const char* name, auto function) {
    exports[name] = Napi::Function::New(env, function, name);
  };
  set("machine", machine);                  // machine(config, listener): NativeMachine
  set("openLog", open_log);                 // openLog(path): NativeLogReader
  set("openBlockStore", open_block_store);  // openBlockStore(path, front, wanted): NativeBlockStore
  set("compress", compress);                // compress(bytes, level): Promise<Uint8Array>
  set("decompress", decompress);            // decompress(frame, bytesMax): Promise<Uint8Array>
  set("neededFirst", needed_first);         // neededFirst(front): number[]
  set("imageSum", image_sum);               // imageSum(path, front): Promise<string>
  set("logInfo", log_info);
  set("logImage", log_image);
  set("repairLog", repair_recording);
  set("socketPair", socket_pair);            // socketPair(): [number, number]
  set("closeDescriptor", close_descriptor);  // closeDescriptor(fd): void
  set("probe", probe);                       // probe(): Record<string, string | number | boolean>
  set("keepKvm", keep_kvm);                  // keepKvm(): void, for machines made when it cannot be opened
  set("tlsKeys", tls_keys);                  // tlsKeys(days): Record<string, string>
  set("arbiterClaim",
      arbiter_claim);  // arbiterClaim(arbiter, pairId, generation, claimId): 'won' | 'lost' | 'unreachable'
  set("arbiterArm", arbiter_arm);        // arbiterArm(arbiter, pairId, generation, shadowId): boolean
  set("serveArbiter", serve_arbiter);    // serveArbiter(name, answerMsMax, serve): void
  set("answerArbiter", answer_arbiter);  // answerArbiter(name, number, answer): void
  return exports;
}

}  // namespace lockstep

Napi::Object Init(Napi::Env env, Napi::Object exports) { return lockstep::init(env, exports); }
NODE_API_MODULE(NODE_GYP_MODULE_NAME, Init)
