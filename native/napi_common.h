// Helpers that the N-API files share. Nothing else includes this.
#pragma once

#include <napi.h>

#include <algorithm>
#include <cstdio>
#include <span>
#include <string>

#include "error.h"
#include "log/event.h"

namespace lockstep {

inline Napi::Object to_js_error(Napi::Env env, const Failure& failure) {
  Napi::Object object = Napi::Object::New(env);
  object["code"] = Napi::String::New(env, failure.code);
  object["message"] = Napi::String::New(env, failure.what());
  object["hint"] = Napi::String::New(env, failure.hint);
  object["operation"] = Napi::String::New(env, failure.operation);
  object["errno"] = Napi::Number::New(env, failure.error_number);
  return object;
}

// A JavaScript Error that carries the fields above; lib/ turns it into a LockstepError.
inline Napi::Error js_failure(Napi::Env env, const Failure& failure) {
  Napi::Error error = Napi::Error::New(env, failure.what());
  Napi::Object fields = to_js_error(env, failure);
  for (const char* name : {"code", "hint", "operation", "errno"}) error.Value()[name] = fields.Get(name);
  return error;
}

inline Napi::Error closed_error(Napi::Env env) {
  return js_failure(env, Failure("ERR_LOCKSTEP_CLOSED", "the machine is closed"));
}

// Runs native code; a Failure becomes a thrown JavaScript error.
template <typename Body>
auto guarded(Napi::Env env, Body body) {
  try {
    return body();
  } catch (const Failure& failure) {
    throw js_failure(env, failure);
  }
}

inline Bytes to_bytes(const Napi::Value& value) {
  auto array = value.As<Napi::Uint8Array>();
  return {array.Data(), array.Data() + array.ByteLength()};
}

inline Napi::Uint8Array to_js(Napi::Env env, std::span<const uint8_t> bytes) {
  auto array = Napi::Uint8Array::New(env, bytes.size());
  std::copy(bytes.begin(), bytes.end(), array.Data());
  return array;
}

inline Napi::String hex_digest(Napi::Env env, uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return Napi::String::New(env, text);
}

inline Napi::Object digest_object(Napi::Env env, const Digest& digest) {
  Napi::Object object = Napi::Object::New(env);
  object["registers"] = hex_digest(env, digest.registers);
  object["devices"] = hex_digest(env, digest.devices);
  object["memory"] = hex_digest(env, digest.memory.value_or(0));
  return object;
}

}  // namespace lockstep
