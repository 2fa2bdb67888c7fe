#include "link/remote_arbiter.h"

#include <chrono>

#include "fault_point.h"

namespace lockstep {

std::shared_ptr<ArbiterCounter> ArbiterCounter::named(const std::string& name) {
  static std::mutex mutex;
  static auto& known = *new std::map<std::string, std::shared_ptr<ArbiterCounter>>;
  std::lock_guard lock(mutex);
  std::shared_ptr<ArbiterCounter>& counter = known[name];
  if (!counter) counter = std::make_shared<ArbiterCounter>();
  return counter;
}

uint64_t ArbiterCounter::open(Hand hand, uint32_t answer_ms_max) {
  std::lock_guard lock(mutex_);
  hand_ = std::move(hand);
  answer_ms_max_ = answer_ms_max;
  return ++clerks_;
}

void ArbiterCounter::close(uint64_t clerk) {
  std::lock_guard lock(mutex_);
  if (clerk != clerks_) return;
  hand_ = nullptr;
  changed_.notify_all();
}

void ArbiterCounter::answer(uint64_t number, Claim claim) {
  std::lock_guard lock(mutex_);
  auto waiting = waiting_.find(number);
  if (waiting == waiting_.end()) return;
  waiting->second = claim;
  changed_.notify_all();
}

Claim ArbiterCounter::ask(Request request, const std::atomic<bool>& cancelled) {
  std::unique_lock lock(mutex_);
  if (!hand_) return Claim::kUnreachable;
  request.number = ++requests_;
  auto waiting = waiting_.try_emplace(request.number, std::nullopt).first;
  hand_(request);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(answer_ms_max_);
  changed_.wait_until(lock, deadline, [&] { return waiting->second || !hand_ || cancelled; });
  const Claim claim = waiting->second.value_or(Claim::kUnreachable);
  waiting_.erase(waiting);
  return claim;
}

void ArbiterCounter::wake() {
  // The lock: whoever has looked at what it waits for, and does not wait yet, must not miss this.
  std::lock_guard lock(mutex_);
  changed_.notify_all();
}

namespace {

class RemoteArbiter final : public Arbiter {
 public:
  explicit RemoteArbiter(const std::string& name) : counter_(ArbiterCounter::named(name)) {}

  bool arm(const std::string& pair_id, uint64_t generation, const std::string& shadow_id) override {
    check_arbiter_id(pair_id);
    return counter_->ask({0, false, pair_id, generation, shadow_id}, cancelled_) == Claim::kWon;
  }

  Claim claim(const std::string& pair_id, uint64_t generation, const std::string& claim_id) override {
    check_arbiter_id(pair_id);
    // Named as in the arbiter of files, where a link(2) decides.
    fault_point("claim-before-link");
    const Claim claim = counter_->ask({0, true, pair_id, generation, claim_id}, cancelled_);
    fault_point("claim-after-link");
    return claim;
  }

  void cancel() override {
    cancelled_ = true;
    counter_->wake();
  }

 private:
  const std::shared_ptr<ArbiterCounter> counter_;
  std::atomic<bool> cancelled_{false};
};

}  // namespace

std::shared_ptr<Arbiter> make_remote_arbiter(const std::string& name) {
  return std::make_shared<RemoteArbiter>(name);
}

}  // namespace lockstep
