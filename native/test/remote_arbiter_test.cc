// An arbiter that another thread serves: no answer, a late one, none that comes because nobody is there.
#include "link/remote_arbiter.h"

#include <atomic>
#include <chrono>
#include <deque>
#include <thread>

#include "test/check.h"

namespace lockstep::test {
namespace {

using Request = ArbiterCounter::Request;

// Serves like a worker does: requests are handed over, and answered from a thread of its own.
class Clerk {
 public:
  explicit Clerk(const std::string& name, uint32_t answer_ms_max = 10'000)
      : counter_(ArbiterCounter::named(name)) {
    number_ = counter_->open(
        [this](const Request& request) {
          std::lock_guard lock(mutex_);
          requests_.push_back(request);
          changed_.notify_all();
        },
        answer_ms_max);
    thread_ = std::thread([this] { serve(); });
  }
  ~Clerk() {
    counter_->close(number_);
    {
      std::lock_guard lock(mutex_);
      over_ = true;
      changed_.notify_all();
    }
    thread_.join();
  }
  std::atomic<bool> silent{false};
  std::atomic<int> asked{0};

 private:
  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return over_ || !requests_.empty(); });
      if (over_) return;
      Request request = requests_.front();
      requests_.pop_front();
      lock.unlock();
      // It is carried out although nobody hears of it.
      Claim answer = Claim::kWon;
      if (request.is_claim) answer = truth_->claim(request.pair_id, request.generation, request.asker_id);
      asked++;
      if (!silent) counter_->answer(request.number, answer);
      lock.lock();
    }
  }

  const std::shared_ptr<ArbiterCounter> counter_;
  const std::shared_ptr<Arbiter> truth_ = make_memory_arbiter("behind the counter");
  uint64_t number_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Request> requests_;
  bool over_ = false;
  std::thread thread_;
};

TEST(a_remote_arbiter_without_a_clerk_is_unreachable) {
  auto arbiter = make_remote_arbiter("nobody");
  CHECK(arbiter->claim("p", 2, "a") == Claim::kUnreachable && !arbiter->arm("p", 2, "s"));
  {
    Clerk clerk("nobody");
    CHECK(arbiter->arm("p", 2, "s") && arbiter->claim("p", 2, "a") == Claim::kWon);
    CHECK(make_remote_arbiter("nobody")->claim("p", 2, "b") == Claim::kLost);
  }
  CHECK(arbiter->claim("p", 2, "a") == Claim::kUnreachable);
  Clerk successor("nobody");
  CHECK(arbiter->claim("p", 2, "a") == Claim::kWon);
}

TEST(a_remote_claim_whose_answer_is_lost_is_read_back) {
  auto arbiter = make_remote_arbiter("mute");
  Clerk clerk("mute", 20);
  clerk.silent = true;
  CHECK(arbiter->claim("r", 2, "a") == Claim::kUnreachable);
  while (clerk.asked == 0) std::this_thread::yield();
  clerk.silent = false;
  // On a busy machine even a clerk that speaks may be late.
  auto ask = [](Arbiter& arbiter, const char* id) {
    Claim answer = Claim::kUnreachable;
    for (int i = 0; i < 1000 && answer == Claim::kUnreachable; i++) answer = arbiter.claim("r", 2, id);
    return answer;
  };
  CHECK(ask(*make_remote_arbiter("mute"), "b") == Claim::kLost && ask(*arbiter, "a") == Claim::kWon);
}

TEST(who_waits_for_a_remote_arbiter_can_be_called_off) {
  auto arbiter = make_remote_arbiter("stuck");
  Clerk clerk("stuck", 3'600'000);
  clerk.silent = true;
  Claim answer = Claim::kWon;
  std::thread asking([&] { answer = arbiter->claim("s", 2, "a"); });
  while (clerk.asked == 0) std::this_thread::yield();
  arbiter->cancel();
  asking.join();
  CHECK(answer == Claim::kUnreachable && arbiter->claim("s", 2, "a") == Claim::kUnreachable);
}

TEST(a_clerk_that_leaves_sends_those_who_wait_away_but_not_its_successors) {
  auto arbiter = make_remote_arbiter("relay");
  Claim answer = Claim::kWon;
  std::thread asking;
  {
    Clerk clerk("relay", 3'600'000);
    clerk.silent = true;
    asking = std::thread([&] { answer = arbiter->claim("t", 2, "a"); });
    while (clerk.asked == 0) std::this_thread::yield();
  }
  asking.join();
  CHECK(answer == Claim::kUnreachable);
  auto counter = ArbiterCounter::named("relay");
  Clerk successor("relay");
  counter->close(1);  // the first clerk, once more and late
  CHECK(arbiter->claim("t", 2, "a") == Claim::kWon);
}

}  // namespace
}  // namespace lockstep::test
