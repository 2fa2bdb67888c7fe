// Lets a worker thread's JavaScript serve as an arbiter of this process's pairs: `remote:NAME` asks there.
#pragma once

#include <napi.h>

namespace lockstep {

// serveArbiter(name, answerMsMax, serve): void. Until this environment ends.
Napi::Value serve_arbiter(const Napi::CallbackInfo& info);
// answerArbiter(name, number, answer): void
Napi::Value answer_arbiter(const Napi::CallbackInfo& info);

}  // namespace lockstep
