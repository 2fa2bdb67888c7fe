// A world for pairs without KVM: a fake guest whose every output depends on all that entered it, and when;
// and a console client that checks every byte it gets twice.
#pragma once

#include <poll.h>

#include <atomic>
#include <cinttypes>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "link/connection.h"
#include "link/console_message.h"
#include "link/pair.h"
#include "log/frame.h"
#include "replay/inbox.h"
#include "test/check.h"

namespace lockstep::test {

inline uint64_t clock_us() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000 + static_cast<uint64_t>(t.tv_nsec) / 1000;
}

using Streams = std::array<std::string, kOutputChannels>;

// Records when live and replays when not, as recorder and replayer do. After each event it makes one to three
// accesses, says something at each, and may be interrupted at any of them: at the last it waits. So a side
// that goes on from another position than its peer did says something else.
class FakeGuest {
 public:
  FakeGuest(Pair& pair, Inbox& inbox, bool live, uint64_t seed)
      : pair_(pair), inbox_(inbox), live_(live), random_(seed) {}

  // To the end of input (true), or until stopped or fenced.
  bool run() {
    Event boot;
    if (!position(true, &boot)) return false;
    for (;;) {
      accesses_++;
      if (!say()) return false;
      Event event;
      if (!position(accesses_ > hash_ % 3, &event)) return false;
      if (!saw_eof_) continue;
      accesses_++;
      if (!say()) return false;
      const End end{accesses_, 0, EndReason::kExited, static_cast<uint32_t>(hash_ & 0x7f)};
      if (live_ && !took_over_) {
        encoder_.append(end);
        flush();
      }
      ended_ = true;
      pair_.finish(end, 20'000);
      return true;
    }
  }
  void quit() {
    quit_ = true;
    inbox_.wake();
  }
  const Streams& history() const { return history_; }
  const std::string& frames() const { return frames_; }  // that it sent, as they stand in their channel
  bool live() const { return live_; }
  bool ended() const { return ended_; }
  std::atomic<uint64_t> execute_delay_us{0};  // a slow shadow

 private:
  // True with what entered here, if anything: the guest goes on; false: it is over.
  bool position(bool wait, Event* event) {
    bool entered = false;
    if (!live_ && !replay(event, &entered)) return false;
    if (live_ && !entered && !record(wait, event, &entered)) return false;
    return true;
  }

  bool replay(Event* event, bool* entered) {
    for (;;) {
      if (!record_) {
        record_.emplace();
        auto next = pair_.next(&*record_);
        if (next != RecordSource::Next::kRecord) record_.reset();
        if (next == RecordSource::Next::kLive) {
          live_ = took_over_ = true;  // nobody follows: what happens from here on goes into no frame
          return true;
        }
        if (next != RecordSource::Next::kRecord) return false;
      }
      if (auto* e = std::get_if<Event>(&*record_)) {
        if (e->accesses > accesses_) return true;
        if (e->accesses != accesses_ || e->lsn != lsn_ + 1)
          throw std::runtime_error("the replay went astray");
        *event = *e;
        apply(*event);
        *entered = true;
        record_.reset();
        if (execute_delay_us) {
          timespec pause{0, static_cast<long>(execute_delay_us * 1000)};
          nanosleep(&pause, nullptr);
        }
        pair_.executed(lsn_);
        return true;
      }
      auto* progress = std::get_if<Progress>(&*record_);
      if (progress != nullptr && progress->lsn == lsn_ && progress->accesses >= accesses_) return true;
      record_.reset();
    }
  }

  bool record(bool wait, Event* event, bool* entered) {
    const bool at_boot = lsn_ == 0;
    event->inputs = inbox_.take({64, 0, 0, 0});
    if (!wait && event->inputs.empty()) return !quit_;
    if (event->inputs.empty() && !at_boot) {
      flush();
      // Now and then time passes without input: an event of its own, at a moment nobody can foresee.
      pollfd p{inbox_.fd(), POLLIN, 0};
      poll(&p, 1, random_() % 4 == 0 ? 1 : 50);
      event->inputs = inbox_.take({64, 0, 0, 0});
    }
    if (quit_) return false;
    event->lsn = lsn_ + 1;
    event->accesses = accesses_;
    event->time_us = clock_us();
    uint64_t input_before = input_bytes_;
    if (!took_over_) encoder_.append(*event);
    apply(*event);
    if (input_bytes_ != input_before || saw_eof_) pair_.input_logged(input_bytes_, saw_eof_, lsn_);
    *entered = true;
    return true;
  }

  void apply(const Event& event) {
    lsn_ = event.lsn;
    accesses_ = 0;
    mix(lsn_);
    mix(*event.time_us);
    for (const Input& input : event.inputs) {
      mix(static_cast<uint64_t>(input.kind));
      for (uint8_t b : input.bytes) mix(b);
      if (input.kind == InputKind::kEof) saw_eof_ = true;
      if (input.kind != InputKind::kData) continue;
      echo_.append(input.bytes.begin(), input.bytes.end());
      input_bytes_ += input.bytes.size();
    }
  }
  void mix(uint64_t v) {
    hash_ = (hash_ ^ v) * 0x9e3779b97f4a7c15ull;
    hash_ ^= hash_ >> 29;
  }

  bool say() {
    char text[32];
    snprintf(text, sizeof text, "%016" PRIx64 ".%u ", hash_, static_cast<unsigned>(accesses_));
    if (!echo_.empty() && !emit(0, "[" + std::exchange(echo_, {}) + "]")) return false;
    const std::string frame = std::string("\x14\0", 2) + "frame" + std::string(text, 15);
    frames_ += frame;
    if (!put_out(kNetworkChannel, frame)) return false;
    return emit(accesses_ == 1 ? 0 : accesses_ == 2 ? 1 : 4, text);
  }
  bool emit(uint8_t channel, const std::string& text) {
    history_[channel] += text;
    return put_out(channel, text);
  }
  bool put_out(uint8_t channel, const std::string& text) {
    if (live_) {
      flush();
      pair_.progress(lsn_, accesses_ - 1);
    }
    return pair_.output(channel, lsn_, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }
  void flush() {
    Bytes frame = encoder_.take();
    if (!frame.empty()) pair_.frame(frame, lsn_);
  }

  Pair& pair_;
  Inbox& inbox_;
  std::atomic<bool> live_;
  std::mt19937_64 random_;
  FrameEncoder encoder_;
  std::optional<Record> record_;
  Streams history_;
  std::string echo_, frames_;
  uint64_t lsn_ = 0, accesses_ = 0, hash_ = 1, input_bytes_ = 0;
  bool saw_eof_ = false, took_over_ = false;
  std::atomic<bool> ended_{false}, quit_{false};
};

// What a client of the console must do, in its shortest form.
class TestClient {
 public:
  TestClient(std::vector<std::string> addresses, std::string input, size_t ahead)
      : input_(std::move(input)), ahead_(ahead) {
    for (auto& a : addresses) sides_.push_back({std::move(a), nullptr, 0, {}});
  }

  bool ended() const { return ended_; }
  const Streams& have() const { return have_; }
  uint64_t generation() const { return generation_; }
  size_t have_bytes() const {
    size_t sum = 0;
    for (const auto& s : have_) sum += s.size();
    return sum;
  }
  // What was typed, as the guest echoed it.
  std::string echoed() const {
    std::string all;
    bool inside = false;
    for (char c : have_[0]) {
      if (c == '[' || c == ']') {
        inside = c == '[';
      } else if (inside) {
        all += c;
      }
    }
    return all;
  }
  bool acknowledges = true;  // false: a reader that stands still
  size_t types_until =
      SIZE_MAX;  // holds the rest of the input back: however slow the test, the guest still runs

  void step(int timeout_ms) {
    if (ended_) {
      poll(nullptr, 0, 1);
      return;
    }
    std::vector<pollfd> fds;
    bool missing = false;
    for (Side& side : sides_) {
      if (!side.connection) connect(side);
      missing = missing || !side.connection;
      int fd = side.connection ? side.connection->fd() : -1;
      fds.push_back(
          {fd, static_cast<short>(POLLIN | (fd >= 0 && side.connection->unsent() ? POLLOUT : 0)), 0});
    }
    poll(fds.data(), fds.size(), missing ? std::min(timeout_ms, 1) : timeout_ms);
    for (size_t i = 0; i < sides_.size() && !ended_; i++) {
      if (fds[i].revents == 0 || !sides_[i].connection) continue;
      sides_[i].connection->flush();
      read(sides_[i]);
    }
    feed();
  }

 private:
  struct Side {
    std::string address;
    std::unique_ptr<Connection> connection;
    uint64_t generation;  // 0: not welcomed
    std::string error;
  };

  void connect(Side& side) {
    int error = 0;
    auto stream = connect_stream(side.address, 0, &error);
    if (!stream) return;
    side.connection = std::make_unique<Connection>(std::move(stream));
    console_message::Hello hello{kConsoleVersion, pair_id_, {}};
    for (uint8_t c : {0, 1, 4}) hello.have.push_back({c, have_[c].size()});
    side.connection->send(encode_console(hello));
  }

  void read(Side& side) {
    auto filled = side.connection->fill();
    ConsoleMessage message;
    while (size_t used = parse_console(side.connection->unread(), &message)) {
      handle(side, message);
      side.connection->consume(used);
    }
    if (filled == Connection::Fill::kClosed || ended_) {
      side.connection.reset();
      side.generation = 0;
    }
  }

  void handle(Side& side, const ConsoleMessage& message) {
    if (const auto* welcome = std::get_if<console_message::Welcome>(&message)) {
      if (pair_id_.empty()) pair_id_ = welcome->pair_id;
      side.generation = welcome->generation;
      for (auto& start : welcome->output_start) {
        if (start.offset > have_[start.channel].size()) throw std::runtime_error("output was lost");
      }
      if (welcome->input_offset < acked_) throw std::runtime_error("acknowledged input was lost");
      if (welcome->generation < generation_) return;
      generation_ = welcome->generation;
      sent_ = welcome->input_offset;
      sent_eof_ = welcome->input_ended;
    } else if (const auto* output = std::get_if<console_message::Output>(&message)) {
      std::string& have = have_[output->channel];
      if (output->offset > have.size()) throw std::runtime_error("a gap in the output");
      std::string bytes(output->bytes.begin(), output->bytes.end());
      size_t known = std::min(bytes.size(), have.size() - static_cast<size_t>(output->offset));
      if (have.compare(static_cast<size_t>(output->offset), known, bytes, 0, known) != 0) {
        throw std::runtime_error(
            "a repeat differs: " + have.substr(static_cast<size_t>(output->offset), known) + " became " +
            bytes.substr(0, known));
      }
      have += bytes.substr(known);
      if (acknowledges) {
        side.connection->send(
            encode_console(console_message::OutputAck{output->channel, output->offset + bytes.size()}));
      }
    } else if (const auto* ack = std::get_if<console_message::InputAck>(&message)) {
      acked_ = std::max(acked_, ack->offset);
    } else if (const auto* ended = std::get_if<console_message::Ended>(&message)) {
      for (auto& total : ended->totals) {
        if (total.offset != have_[total.channel].size())
          throw std::runtime_error("the end came before the output");
      }
      ended_ = true;
    } else if (const auto* error = std::get_if<console_message::Error>(&message)) {
      throw std::runtime_error(error->code + ": " + error->text);
    }
  }

  void feed() {
    for (Side& side : sides_) {
      if (!side.connection || side.generation == 0 || side.generation != generation_) continue;
      while (sent_ < std::min(input_.size(), types_until) && sent_ < acked_ + ahead_) {
        size_t n = std::min<size_t>(
            {std::min(input_.size(), types_until) - sent_, acked_ + ahead_ - sent_, 1 + sent_ % 7});
        std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(input_.data()) + sent_, n);
        side.connection->send(encode_console(console_message::Input{sent_, bytes}));
        sent_ += n;
      }
      if (sent_ == input_.size() && !sent_eof_) {
        side.connection->send(encode_console(console_message::InputEof{sent_}));
        sent_eof_ = true;
      }
    }
  }

  std::vector<Side> sides_;
  std::string input_, pair_id_;
  size_t ahead_;
  Streams have_;
  uint64_t generation_ = 0, sent_ = 0, acked_ = 0;
  bool sent_eof_ = false, ended_ = false;
};

inline std::string typed_text(size_t bytes) {
  std::string text;
  for (size_t i = 0; i < bytes; i++) text += static_cast<char>('a' + random()() % 26);
  return text;
}

// All that a client saw must be the beginning of what the winner has said since boot.
inline bool is_prefix(const Streams& seen, const Streams& history) {
  for (size_t c = 0; c < seen.size(); c++) {
    if (history[c].compare(0, seen[c].size(), seen[c]) != 0 || history[c].size() < seen[c].size())
      return false;
  }
  return true;
}

}  // namespace lockstep::test
