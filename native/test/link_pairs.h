// Pairs in one process: real sockets, real threads, a fake guest.
#pragma once

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <thread>

#include "link/socket.h"
#include "net/nic.h"
#include "test/link_world.h"

namespace lockstep::test {

inline std::string fresh(const std::string& what) {
  static std::atomic<int> number{0};
  return "/tmp/lockstep-link-" + std::to_string(getpid()) + "-" + std::to_string(number++) + "-" + what;
}

// Forwards bytes between the shadow and the primary until it is cut, or swallows them until it is mended, or
// resets what it has, as a firewall does that forgot a connection.
class Relay {
 public:
  explicit Relay(std::string target)
      : target_(std::move(target)),
        listener_(target_.starts_with("tcp:") ? "tcp:127.0.0.1:0" : "unix:" + fresh("relay")) {
    thread_ = std::thread([this] { run(); });
  }
  ~Relay() {
    over_ = true;
    thread_.join();
  }
  const std::string& address() const { return listener_.address(); }
  enum Reset { kNone, kBoth, kShadowFirst, kPrimaryFirst };
  std::atomic<bool> cut{false}, mute{false};
  std::atomic<Reset> reset{kNone};  // the second end follows when it next says something

 private:
  // The shadow's connection, and ours to the primary.
  struct Cable {
    std::unique_ptr<Connection> ends[2];
    bool is_over() const { return !ends[0] && !ends[1]; }
  };

  void run() {
    while (!over_) {
      std::vector<pollfd> fds{{listener_.fd(), POLLIN, 0}};
      for (Cable& cable : cables_) {
        for (auto& end : cable.ends) fds.push_back(poll_of(end.get()));
      }
      poll(fds.data(), fds.size(), 1);
      const Reset how = reset.exchange(kNone);
      for (size_t i = 0; i < cables_.size(); i++) {
        for (int end = 0; end < 2 && !mute; end++)
          pass(cables_[i], end, fds[1 + 2 * i + size_t(end)].revents);
        if (cut || how == kBoth || how == kShadowFirst) hang_up(cables_[i], 0, true);
        if (cut || how == kBoth || how == kPrimaryFirst) hang_up(cables_[i], 1, true);
      }
      std::erase_if(cables_, [](const Cable& cable) { return cable.is_over(); });
      if (fds[0].revents) take_shadow();
    }
  }

  pollfd poll_of(const Connection* end) const {
    if (!end) return {-1, 0, 0};
    return {end->fd(), static_cast<short>((mute ? 0 : POLLIN) | (end->unsent() ? POLLOUT : 0)), 0};
  }

  void take_shadow() {
    int error;
    Cable cable;
    cable.ends[0] = std::make_unique<Connection>(listener_.accept());
    auto stream = connect_stream(target_, 1000, &error);
    if (!stream) return hang_up(cable, 0, true);
    cable.ends[1] = std::make_unique<Connection>(std::move(stream));
    cables_.push_back(std::move(cable));
  }

  void pass(Cable& cable, int from, short revents) {
    Connection* in = cable.ends[from].get();
    if (!in || !revents) return;
    in->flush();
    if (!(revents & ~POLLOUT)) return;
    if (!cable.ends[1 - from]) return hang_up(cable, from, true);
    if (in->fill() == Connection::Fill::kClosed) {
      // A process that died hangs up, and so does its relay.
      const bool was_reset = in->was_reset();
      hang_up(cable, 0, was_reset);
      hang_up(cable, 1, was_reset);
      return;
    }
    cable.ends[1 - from]->send(in->unread());
    in->consume(in->unread().size());
  }

  static void hang_up(Cable& cable, int end, bool resets) {
    if (!cable.ends[end]) return;
    const linger at_once{1, 0};
    if (resets) setsockopt(cable.ends[end]->fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    cable.ends[end].reset();
  }

  std::string target_;
  Listener listener_;
  std::vector<Cable> cables_;
  std::atomic<bool> over_{false};
  std::thread thread_;
};

// A side: pair, guest and the thread that drives it.
struct Side {
  Inbox inbox;
  std::unique_ptr<Pair> pair;
  std::unique_ptr<FakeGuest> guest;
  std::thread thread;
  std::mutex mutex;
  std::vector<PairEvent> events;
  std::atomic<bool> failed{false};

  PairListener listener() {
    return [this](const PairEvent& event) {
      {
        std::lock_guard lock(mutex);
        events.push_back(event);
      }
      if (event.notice == PairNotice::kFenced && guest) guest->quit();
    };
  }
  void start(bool live, bool waits = true) {
    guest = std::make_unique<FakeGuest>(*pair, inbox, live, random()());
    thread = std::thread([this, live, waits] {
      try {
        if (live && waits && !pair->wait_protected()) return;
        guest->run();
      } catch (const std::exception& error) {
        printf("# a guest failed: %s\n", error.what());
        failed = true;
      }
    });
  }
  void kill() {
    if (pair) pair->stop();
    if (guest) guest->quit();
    if (thread.joinable()) thread.join();
    pair.reset();
  }
  PairEvent first(PairNotice notice) {
    std::lock_guard lock(mutex);
    for (const auto& e : events) {
      if (e.notice == notice) return e;
    }
    return {notice, 0, 0, 0, {}};
  }
  size_t count(PairNotice notice) {
    std::lock_guard lock(mutex);
    return static_cast<size_t>(
        std::count_if(events.begin(), events.end(), [&](const PairEvent& e) { return e.notice == notice; }));
  }
  uint64_t time_of(PairNotice notice) { return first(notice).time_us; }
  ~Side() { kill(); }
};

// Where a side's released frames go.
struct Wire {
  std::mutex mutex;
  std::string stream;
  std::function<size_t(std::span<const uint8_t>)> sender() {
    return [this](std::span<const uint8_t> frames) {
      const size_t whole = send_frames(nullptr, frames);
      std::lock_guard lock(mutex);
      stream.append(frames.begin(), frames.begin() + static_cast<ptrdiff_t>(whole));
      return whole;
    };
  }
};

struct TestPair {
  Wire primary_wire, shadow_wire;
  PairOptions options;
  Side primary, shadow;
  std::unique_ptr<Relay> relay;
  std::string shadow_console = "unix:" + fresh("console-s");

  explicit TestPair(bool with_relay = false, std::function<void(PairOptions&)> change = {}) {
    options.pair_id = "pair" + std::to_string(random()());
    options.link_address = "unix:" + fresh("link");
    options.console_address = "unix:" + fresh("console-p");
    options.arbiter = make_memory_arbiter("test");
    options.send_frames = primary_wire.sender();
    if (change) change(options);
    primary.pair = Pair::primary(options, Bytes(3'000'000, 7), primary.inbox, primary.listener());
    if (with_relay) relay = std::make_unique<Relay>(primary.pair->status().link_address);
    PairOptions o = options;
    o.pair_id.clear();
    o.send_frames = shadow_wire.sender();
    o.console_address = shadow_console;
    o.link_address = relay ? relay->address() : primary.pair->status().link_address;
    Bytes header;
    shadow.pair = Pair::shadow(
        o, shadow.inbox, shadow.listener(), [this](auto f) { log_bytes += f.size(); }, 5000, &header);
    if (header != Bytes(3'000'000, 7)) throw std::runtime_error("the header did not arrive");
  }
  void start() {
    shadow.start(false);
    primary.start(true);
  }
  std::vector<std::string> consoles() { return {options.console_address, shadow_console}; }
  std::atomic<size_t> log_bytes{0};
};

inline void run_until(TestClient& client, const std::function<bool()>& until, uint64_t limit_ms = 30'000) {
  uint64_t deadline = clock_us() + limit_ms * 1000;
  while (!until()) {
    if (clock_us() > deadline) throw std::runtime_error("it took too long");
    client.step(20);
  }
}

}  // namespace lockstep::test
