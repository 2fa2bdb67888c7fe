#include "log_object.h"

#include <sstream>

#include "napi_common.h"

namespace lockstep {

namespace {

const char* const kKinds[] = {"data", "eof", "hangup", "signal", "window", "serial", "interrupt", "packet"};
const char* const kReasons[] = {"exited", "signal", "panic", "halted", "shutdown", "closed", "failed"};

Napi::Object to_js(Napi::Env env, const Event& event) {
  Napi::Object object = Napi::Object::New(env);
  object["type"] = "event";
  object["lsn"] = Napi::Number::New(env, event.lsn);
  object["accesses"] = Napi::Number::New(env, event.accesses);
  if (event.time_us) object["timeUs"] = Napi::Number::New(env, *event.time_us);
  Napi::Array inputs = Napi::Array::New(env, event.inputs.size());
  for (uint32_t i = 0; i < event.inputs.size(); i++) {
    const Input& input = event.inputs[i];
    Napi::Object item = Napi::Object::New(env);
    item["kind"] = kKinds[static_cast<int>(input.kind) % 8];
    item["channel"] = Napi::Number::New(env, input.channel);
    item["bytes"] = lockstep::to_js(env, std::span<const uint8_t>(input.bytes));
    inputs[i] = item;
  }
  object["inputs"] = inputs;
  return object;
}

Napi::Object to_js(Napi::Env env, const Digest& digest) {
  Napi::Object object = Napi::Object::New(env);
  object["type"] = "digest";
  object["lsn"] = Napi::Number::New(env, digest.lsn);
  object["registers"] = hex_digest(env, digest.registers);
  object["devices"] = hex_digest(env, digest.devices);
  if (digest.memory) object["memory"] = hex_digest(env, *digest.memory);
  object["whole"] = Napi::Boolean::New(env, digest.whole);
  object["pages"] = Napi::Number::New(env, digest.pages.size());
  Napi::Array channels = Napi::Array::New(env, digest.channels.size());
  for (uint32_t i = 0; i < digest.channels.size(); i++) {
    Napi::Object channel = Napi::Object::New(env);
    channel["bytes"] = Napi::Number::New(env, digest.channels[i].bytes);
    channel["hash"] = hex_digest(env, digest.channels[i].hash);
    channels[i] = channel;
  }
  object["channels"] = channels;
  return object;
}

Napi::Object to_js(Napi::Env env, const End& end) {
  Napi::Object object = Napi::Object::New(env);
  object["type"] = "end";
  object["reason"] = kReasons[static_cast<int>(end.reason) % 7];
  object["status"] = Napi::Number::New(env, end.status);
  return object;
}

Napi::Object to_js(Napi::Env env, const Takeover& takeover) {
  Napi::Object object = Napi::Object::New(env);
  object["type"] = "takeover";
  object["lsn"] = Napi::Number::New(env, takeover.lsn);
  object["generation"] = Napi::Number::New(env, takeover.generation);
  return object;
}

Napi::Object to_js(Napi::Env env, const Checkpoint& checkpoint) {
  Napi::Object object = Napi::Object::New(env);
  object["type"] = "checkpoint";
  object["lsn"] = Napi::Number::New(env, checkpoint.lsn);
  object["accesses"] = Napi::Number::New(env, checkpoint.accesses);
  object["timeUs"] = Napi::Number::New(env, checkpoint.time_us);
  object["pages"] = Napi::Number::New(env, checkpoint.pages.size());
  object["last"] = Napi::Boolean::New(env, checkpoint.last);
  return object;
}

Napi::Object to_js(Napi::Env env, const Progress&) { return Napi::Object::New(env); }  // never in a file

// What `lockstep log info` tells, gathered off the JavaScript thread.
struct Summary {
  LogHeader header;
  FrameEncoder::Counts counts{};
  uint64_t digests = 0, takeovers = 0, checkpoints = 0, file_bytes = 0, whole_bytes = 0, first_us = 0,
           last_us = 0;
  std::optional<End> end;
};

Summary summarise(const std::string& path) {
  Summary summary;
  LogFileReader reader(path);
  summary.header = reader.header();
  FrameDecoder before;
  if (summary.header.start) before.start_from(*summary.header.start);
  FrameEncoder sizes(before);
  while (auto record = reader.next()) {
    sizes.append(*record);
    sizes.take();
    if (auto* event = std::get_if<Event>(&*record)) {
      if (event->time_us) {
        if (!summary.first_us) summary.first_us = *event->time_us;
        summary.last_us = *event->time_us;
      }
    } else if (auto* checkpoint = std::get_if<Checkpoint>(&*record)) {
      summary.checkpoints += checkpoint->last;
      summary.last_us = checkpoint->time_us;
    } else if (std::holds_alternative<Digest>(*record)) {
      summary.digests++;
    } else if (std::holds_alternative<Takeover>(*record)) {
      summary.takeovers++;
    } else if (auto* end = std::get_if<End>(&*record)) {
      summary.end = *end;
    }
  }
  summary.counts = sizes.counts();
  summary.file_bytes = reader.file_bytes();
  summary.whole_bytes = reader.whole_bytes();
  return summary;
}

Napi::Object to_js(Napi::Env env, const Summary& s) {
  Napi::Object object = Napi::Object::New(env);
  auto set = [&](const char* name, double value) { object[name] = Napi::Number::New(env, value); };
  set("version", s.header.version);
  Napi::Object options = Napi::Object::New(env);
  std::stringstream lines(s.header.options);
  for (std::string line; std::getline(lines, line);)
    if (size_t equals = line.find('='); equals != std::string::npos)
      options[line.substr(0, equals)] = Napi::String::New(env, line.substr(equals + 1));
  object["options"] = options;
  set("imageBytes", s.header.image.size());
  std::string sha;
  char pair[3];
  for (uint8_t byte : s.header.image_sha256) {
    std::snprintf(pair, sizeof pair, "%02x", byte);
    sha += pair;
  }
  object["imageSha256"] = sha;
  set("events", s.counts.events + s.checkpoints);  // a forced stop is one, too
  set("digests", s.digests);
  set("takeovers", s.takeovers);
  set("fileBytes", s.file_bytes);
  set("wholeBytes", s.whole_bytes);
  set("eventBytes", s.counts.event_bytes);
  set("inputBytes", s.counts.input_bytes);
  set("checkpoints", s.checkpoints);
  set("checkpointBytes", s.counts.checkpoint_bytes);
  set("digestBytes", s.counts.digest_bytes);
  object["ending"] = s.end ? "ended" : "cut";
  object["endReason"] = s.end ? kReasons[static_cast<int>(s.end->reason) % 7] : "";
  set("endStatus", s.end ? s.end->status : 0);
  set("startEvent", s.header.start ? s.header.start->digest.lsn : 0);
  set("firstTimeUs", s.first_us);
  set("lastTimeUs", s.last_us);
  return object;
}

class Summariser : public Napi::AsyncWorker {
 public:
  Summariser(Napi::Env env, std::string path, Napi::Promise::Deferred deferred)
      : Napi::AsyncWorker(env), path_(std::move(path)), deferred_(deferred) {}
  void Execute() override {
    try {
      summary_ = summarise(path_);
    } catch (const Failure& failure) {
      failure_ = failure;
    }
  }
  void OnOK() override {
    if (failure_)
      deferred_.Reject(js_failure(Env(), *failure_).Value());
    else
      deferred_.Resolve(to_js(Env(), summary_));
  }

 private:
  std::string path_;
  Napi::Promise::Deferred deferred_;
  Summary summary_;
  std::optional<Failure> failure_;
};

}  // namespace

Napi::Function LogReaderObject::define(Napi::Env env) {
  return DefineClass(
      env, "NativeLogReader",
      {
          InstanceMethod<&LogReaderObject::next>("next"),    // next(limit): Record<string, unknown>[]
          InstanceMethod<&LogReaderObject::close>("close"),  // close(): void
      });
}

LogReaderObject::LogReaderObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<LogReaderObject>(info) {
  guarded(info.Env(),
          [&] { reader_ = std::make_unique<LogFileReader>(info[0].As<Napi::String>().Utf8Value()); });
}

Napi::Value LogReaderObject::next(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    Napi::Array batch = Napi::Array::New(env);
    uint32_t limit = info[0].As<Napi::Number>().Uint32Value();
    while (reader_ && batch.Length() < limit) {
      auto record = reader_->next();
      if (!record) break;
      batch[batch.Length()] = std::visit([&](const auto& r) { return to_js(env, r); }, *record);
    }
    return batch;
  });
}

Napi::Value LogReaderObject::close(const Napi::CallbackInfo& info) {
  reader_.reset();
  return info.Env().Undefined();
}

Napi::Value log_info(const Napi::CallbackInfo& info) {
  auto deferred = Napi::Promise::Deferred::New(info.Env());
  (new Summariser(info.Env(), info[0].As<Napi::String>().Utf8Value(), deferred))->Queue();
  return deferred.Promise();
}

Napi::Value log_image(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    LogFileReader reader(info[0].As<Napi::String>().Utf8Value());
    return lockstep::to_js(info.Env(), std::span<const uint8_t>(reader.header().image));
  });
}

Napi::Value repair_recording(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    LogRepair repair = lockstep::repair_log(info[0].As<Napi::String>().Utf8Value());
    Napi::Object object = Napi::Object::New(env);
    object["keptBytes"] = Napi::Number::New(env, repair.kept_bytes);
    object["droppedBytes"] = Napi::Number::New(env, repair.dropped_bytes);
    object["events"] = Napi::Number::New(env, repair.events);
    return object;
  });
}

}  // namespace lockstep
