// NativeLogReader and the recording functions of lib/native.ts.
#pragma once

#include <napi.h>

#include "log/log_file.h"

namespace lockstep {

class LogReaderObject : public Napi::ObjectWrap<LogReaderObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit LogReaderObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value next(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  std::unique_ptr<LogFileReader> reader_;
};

Napi::Value log_info(const Napi::CallbackInfo& info);   // logInfo(path): Promise<NativeRecordingInfo>
Napi::Value log_image(const Napi::CallbackInfo& info);  // logImage(path): Uint8Array
Napi::Value repair_recording(
    const Napi::CallbackInfo& info);  // repairLog(path): {keptBytes, droppedBytes, events}

}  // namespace lockstep
