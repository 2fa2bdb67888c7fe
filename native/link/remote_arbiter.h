// An arbiter whose client runs on another thread: a pair's thread asks at a counter, which a clerk serves. So
// a client may be written in a language that this thread does not speak, and none of its waiting is
// unbounded.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "link/arbiter.h"

namespace lockstep {

// What stands between those who ask and the one who serves. A clerk may come, go and come again.
class ArbiterCounter {
 public:
  struct Request {
    uint64_t number = 0;  // names the request in its answer
    bool is_claim = false;
    std::string pair_id;
    uint64_t generation = 0;
    std::string asker_id;  // a claim's or a shadow's
  };
  // Hands a request to the clerk's thread without waiting. Called with the counter locked.
  using Hand = std::function<void(const Request&)>;

  // `name` finds the same counter again, for as long as this process lives.
  static std::shared_ptr<ArbiterCounter> named(const std::string& name);

  // ---- the clerk. An answer that nobody waits for any more is dropped.
  // What open() returns names this clerk to close(): a successor may have come before an old one leaves.
  uint64_t open(Hand hand, uint32_t answer_ms_max);
  void answer(uint64_t number, Claim claim);
  void close(uint64_t clerk);  // whoever waits is told kUnreachable

  // ---- who asks. An armed shadow is answered kWon. kUnreachable after `answer_ms_max` ms, when nobody
  // serves, and as soon as `cancelled` is true, after a wake().
  Claim ask(Request request, const std::atomic<bool>& cancelled);
  void wake();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  Hand hand_;  // empty: closed
  uint64_t clerks_ = 0;
  uint32_t answer_ms_max_ = 0;
  uint64_t requests_ = 0;
  std::map<uint64_t, std::optional<Claim>> waiting_;
};

// Asks at the counter of that name.
std::shared_ptr<Arbiter> make_remote_arbiter(const std::string& name);

}  // namespace lockstep
