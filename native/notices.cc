#include "notices.h"

#include <map>

#include "napi_common.h"

namespace lockstep {

Notices::Notices(Napi::Env env, Napi::Function listener)
    : function_(Napi::ThreadSafeFunction::New(env, listener, "lockstep machine", 0, 1)) {}

void Notices::close() {
  {
    std::lock_guard lock(mutex_);
    if (closed_) return;
    closed_ = true;
    queue_.clear();
  }
  function_.Release();
}

void Notices::ref(Napi::Env env, bool keep_alive) { keep_alive ? function_.Ref(env) : function_.Unref(env); }
void Notices::notice(Make make) { push({std::move(make), nullptr}); }
void Notices::call(std::function<void(Napi::Env)> body) { push({nullptr, std::move(body)}); }

void Notices::push(Entry entry) {
  std::lock_guard lock(mutex_);
  if (closed_) return;
  queue_.push_back(std::move(entry));
  // One call is under way for everything that is queued.
  if (queue_.size() == 1)
    function_.NonBlockingCall([self = shared_from_this()](Napi::Env env, Napi::Function listener) {
      self->deliver(env, listener);
    });
}

void Notices::deliver(Napi::Env env, Napi::Function listener) {
  std::vector<Entry> entries;
  {
    std::lock_guard lock(mutex_);
    entries.swap(queue_);
  }
  Napi::Array batch = Napi::Array::New(env);
  for (Entry& entry : entries) {
    if (entry.body)
      entry.body(env);
    else
      batch[batch.Length()] = entry.make(env);
  }
  if (batch.Length()) listener.Call({batch});
}

namespace {

Napi::Object typed(Napi::Env env, const char* type) {
  Napi::Object object = Napi::Object::New(env);
  object["type"] = Napi::String::New(env, type);
  return object;
}

Napi::Object to_js_divergence(Napi::Env env, const Divergence& d) {
  Napi::Object object = Napi::Object::New(env);
  object["event"] = Napi::Number::New(env, d.event);
  object["kind"] = d.kind;
  object["where"] = d.where;
  object["expected"] = d.expected;
  object["actual"] = d.actual;
  Napi::Array before = Napi::Array::New(env);
  for (const std::string& line : d.before) before[before.Length()] = Napi::String::New(env, line);
  object["before"] = before;
  return object;
}

const char* name_of(PairNotice notice) {
  switch (notice) {
    case PairNotice::kListening: return "listening";
    case PairNotice::kConnected: return "connected";
    case PairNotice::kArmed: return "armed";
    case PairNotice::kConsoleConnected: return "console-connected";
    case PairNotice::kConsoleLost: return "console-lost";
    case PairNotice::kSuspected: return "suspected";
    case PairNotice::kClaiming: return "claiming";
    case PairNotice::kArbiterUnreachable: return "arbiter-unreachable";
    case PairNotice::kClaimWon: return "claim-won";
    case PairNotice::kClaimLost: return "claim-lost";
    case PairNotice::kAlone: return "alone";
    case PairNotice::kLive: return "live";
    case PairNotice::kFirstOutput: return "first-output";
    case PairNotice::kFenced: return "fenced";
    case PairNotice::kDiverged: return "diverged";
    case PairNotice::kPeerEnded: return "peer-ended";
    case PairNotice::kSlowed: return "slowed";
    case PairNotice::kDropped: return "dropped";
    case PairNotice::kStateSent: return "state-sent";
    case PairNotice::kUnread: return "unread";
    case PairNotice::kResumed: return "resumed";
    case PairNotice::kJoinLost: return "join-lost";
    case PairNotice::kUnheard: return "unheard";
  }
  return "unknown";
}

}  // namespace

void Notices::on_state(const char* state) {
  notice([state](Napi::Env env) {
    Napi::Object object = typed(env, "state");
    object["state"] = Napi::String::New(env, state);
    return object;
  });
}

void Notices::on_ended(const MachineEnd& end) {
  notice([end](Napi::Env env) {
    Napi::Object ended = Napi::Object::New(env);
    ended["reason"] = end.reason;
    ended["status"] = Napi::Number::New(env, end.status);
    ended["detail"] = end.detail;
    if (end.divergence) ended["divergence"] = to_js_divergence(env, *end.divergence);
    Napi::Object object = typed(env, "ended");
    object["ended"] = ended;
    return object;
  });
}

void Notices::on_failed(const Failure& failure) {
  notice([failure](Napi::Env env) {
    Napi::Object object = typed(env, "failed");
    object["error"] = to_js_error(env, failure);
    return object;
  });
}

void Notices::on_pair(const PairEvent& event) {
  notice([event](Napi::Env env) {
    Napi::Object object = typed(env, "pair");
    object["notice"] = Napi::String::New(env, name_of(event.notice));
    object["timeUs"] = Napi::Number::New(env, event.time_us);
    object["lsn"] = Napi::Number::New(env, event.lsn);
    object["generation"] = Napi::Number::New(env, event.generation);
    object["detail"] = event.detail;
    return object;
  });
}

void Notices::on_warning(const std::string& code, const std::string& detail) {
  notice([code, detail](Napi::Env env) {
    Napi::Object object = typed(env, "warning");
    object["code"] = code;
    object["detail"] = detail;
    return object;
  });
}

// Six numbers an entry: position, LSN, address, value, kind, flags.
void Notices::trace_batch(uint32_t trace, std::vector<TraceEntry> entries, uint64_t dropped) {
  notice([trace, entries = std::move(entries), dropped](Napi::Env env) {
    auto exits = Napi::BigUint64Array::New(env, entries.size() * 6);
    uint64_t* out = exits.Data();
    for (const TraceEntry& e : entries)
      for (uint64_t value : {e.position, e.lsn, e.address, e.value, uint64_t{e.kind}, uint64_t{e.flags}})
        *out++ = value;
    Napi::Object object = typed(env, "trace");
    object["trace"] = Napi::Number::New(env, trace);
    object["exits"] = exits;
    object["dropped"] = Napi::Number::New(env, dropped);
    return object;
  });
}

}  // namespace lockstep
