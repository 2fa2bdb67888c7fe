// When a shadow that is behind slows its primary, and when it is given up. In virtual time.
#include "link/lag_watch.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "test/check.h"

namespace lockstep::test {
namespace {

constexpr uint64_t kSecond = 1'000'000;

// A guest that makes as much log as it may, in frames, and a shadow that executes so much of it a second.
struct Race {
  LagWatch lag{1 << 20, 10 * kSecond};
  double make_rate, execute_rate;  // bytes a microsecond
  size_t frame_bytes;
  uint64_t now = 0, sent = 0, most_behind = 0, oldest = 0;
  double executed = 0;

  Race(double make, double execute, size_t frame)
      : make_rate(make), execute_rate(execute), frame_bytes(frame) {
    lag.restart(0, 0);
  }

  // False when the shadow was given up. Acknowledged every 10 ms, and looked at each millisecond.
  bool run(uint64_t for_us) {
    for (const uint64_t end = now + for_us; now < end; now += 1000) {
      executed = std::min(executed + execute_rate * 1000, static_cast<double>(sent));
      if (now % 10'000 == 0) lag.executed(static_cast<uint64_t>(executed), now);
      if (lag.is_lost(now)) return false;
      most_behind = std::max(most_behind, lag.bytes());
      oldest = std::max(oldest, lag.age_us(now));
      if (!lag.is_late(now)) paused_until = 0;
      for (made += make_rate * 1000; now >= paused_until && made >= frame(); made -= frame()) {
        // The frame leaves after its pause; then the next may have one of its own.
        if (paused_until == 0 && lag.pause_us(frame_bytes, now) > 0) {
          paused_until = now + lag.pause_us(frame_bytes, now);
          break;
        }
        paused_until = 0;
        sent += frame_bytes;
        lag.sent(sent, now);
      }
      if (paused_until > 0) made = std::min(made, frame());  // a guest that waits makes nothing
    }
    return true;
  }

 private:
  double frame() const { return static_cast<double>(frame_bytes); }
  double made = 0;
  uint64_t paused_until = 0;
};

TEST(a_shadow_that_keeps_up_slows_nobody) {
  Race race(10, 12, 2000);
  CHECK(race.run(5 * kSecond));
  CHECK(race.sent > 49'000'000 && race.oldest < LagWatch::kAgeUsMax);
}

TEST(a_primary_goes_at_the_rate_of_a_slow_shadow_and_the_lag_settles) {
  // From the rate of a line of 10 Mbit/s down to a tenth of that, with frames of all sizes.
  for (double rate : {1.25, 0.5, 0.125}) {
    for (size_t frame : {200, 5000, 60'000}) {
      Race race(10, rate, frame);
      // What it makes before anything is known of the shadow takes that one long to execute.
      CHECK(race.run(15 * kSecond));
      race.oldest = 0;
      CHECK(race.run(15 * kSecond));
      printf("# %.3f MB/s in frames of %zu: at most %llu bytes and %llu ms behind\n", rate, frame,
             static_cast<unsigned long long>(race.most_behind),
             static_cast<unsigned long long>(race.oldest / 1000));
      CHECK(race.oldest < 3 * LagWatch::kAgeUsMax);
      CHECK(static_cast<double>(race.sent) > rate * 25e6);
      // And when it is fast again, nobody is slowed.
      race.execute_rate = 100;
      CHECK(race.run(kSecond));
      const uint64_t before = race.sent;
      CHECK(race.run(kSecond) && race.sent - before > 9'000'000);
    }
  }
}

TEST(a_shadow_that_stands_still_is_given_up_after_a_while) {
  Race race(10, 12, 2000);
  CHECK(race.run(kSecond));
  race.execute_rate = 0;
  CHECK(race.run(5 * kSecond));
  CHECK(race.lag.bytes() < 4 << 20);
  CHECK(!race.run(10 * kSecond));
}

TEST(more_to_do_than_before_is_no_shadow_that_is_slow) {
  constexpr uint64_t kPathUs = 60'000;
  LagWatch lag{16 << 20, 10 * kSecond};
  lag.restart(0, 0);
  std::deque<std::pair<uint64_t, uint64_t>> on_its_way;  // when it is known to be executed
  uint64_t sent = 0;
  for (uint64_t now = 0; now < 6 * kSecond; now += 1000) {
    while (!on_its_way.empty() && on_its_way.front().first <= now) {
      lag.executed(on_its_way.front().second, now);
      on_its_way.pop_front();
    }
    if (now % 20'000 != 0) continue;
    const size_t frame = now < 3 * kSecond ? 100 : 30'000;
    CHECK(lag.pause_us(frame, now) == 0);
    lag.sent(sent += frame, now);
    on_its_way.emplace_back(now + kPathUs, sent);
  }
}

TEST(one_large_frame_is_not_a_shadow_that_is_lost) {
  LagWatch lag(1000, 10 * kSecond);
  lag.restart(0, 0);
  lag.sent(1'000'000, kSecond);
  CHECK(!lag.is_lost(kSecond + 1000) && lag.is_late(kSecond + 1000));
  CHECK(lag.is_lost(2 * kSecond));
  lag.forgive(2 * kSecond);
  CHECK(!lag.is_lost(2 * kSecond + 1000));
  lag.executed(1'000'000, 2 * kSecond + 2000);
  CHECK(!lag.is_late(20 * kSecond));
}

}  // namespace
}  // namespace lockstep::test
