// What callers of a pair see. How it works inside: pair_impl.h.
#include "link/pair.h"

#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "error.h"
#include "guest/abi.h"
#include "link/pair_impl.h"

namespace lockstep {

namespace {
// For a console client, at the end of a machine that had none and talked to a network.
constexpr uint32_t kNobodyWaitMs = 1000;
constexpr int kFirstClaimTries = 10;
}  // namespace

uint64_t now_us() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000 + static_cast<uint64_t>(t.tv_nsec) / 1000;
}

std::string random_id() {
  uint8_t bytes[16];
  if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) {
    throw_system("ERR_LOCKSTEP_RANDOM", "getrandom", "making a random id");
  }
  std::string id;
  for (uint8_t b : bytes) {
    id += "0123456789abcdef"[b >> 4];
    id += "0123456789abcdef"[b & 15];
  }
  return id;
}

std::chrono::steady_clock::time_point at_us(uint64_t us) {
  return std::chrono::steady_clock::time_point(std::chrono::microseconds(us));
}

namespace {

int make_wake_fd() {
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) throw_system("ERR_LOCKSTEP_LISTEN", "eventfd", "making a wake-up descriptor");
  return fd;
}

}  // namespace

std::unique_ptr<Pair> Pair::primary(PairOptions options, Bytes header, Inbox& inbox, PairListener listener) {
  if (options.pair_id.empty()) options.pair_id = random_id();
  auto pair = std::make_unique<PairImpl>(std::move(options), std::move(header), inbox, std::move(listener));
  pair->claim_first_generation();
  pair->start();
  return pair;
}

std::unique_ptr<Pair> Pair::shadow(PairOptions options, Inbox& inbox, PairListener listener,
                                   std::function<void(std::span<const uint8_t>)> on_frame,
                                   uint32_t connect_ms, Bytes* header) {
  PairImpl::Joined joined = PairImpl::join(&options, connect_ms, header);
  auto pair = std::make_unique<PairImpl>(std::move(options), inbox, std::move(listener), std::move(on_frame),
                                         std::move(joined));
  pair->start();
  return pair;
}

Pair::~Pair() = default;

PairImpl::PairImpl(PairOptions options, Bytes header, Inbox& inbox, PairListener listener)
    : options_(std::move(options)),
      header_(std::move(header)),
      inbox_(inbox),
      listener_(std::move(listener)),
      role_live_(true),
      ledger_(options_.output_bytes_max),
      joins_running_(false) {
  link_listener_ = std::make_unique<Listener>(options_.link_address, options_.security);
  options_.link_address = link_listener_->address();
  console_.emplace(options_.console_address, options_.security, options_.pair_id, ledger_, inbox_,
                   options_.console_input);
  options_.console_address = console_->address();
  lsn_sent_ = lsn_acked_ = lsn_executed_ = options_.start_lsn;
  fence_.phase = FencePhase::kSolo;
  fence_.generation = 1;
  ledger_.set_limit(OutputLedger::kAll);
  console_->go_live(1, 0, false);
  wake_fd_ = make_wake_fd();
}

PairImpl::PairImpl(PairOptions options, Inbox& inbox, PairListener listener, OnFrame on_frame, Joined joined)
    : options_(std::move(options)),
      inbox_(inbox),
      listener_(std::move(listener)),
      on_frame_(std::move(on_frame)),
      shadow_id_(std::move(joined.shadow_id)),
      role_live_(false),
      ledger_(options_.output_bytes_max),
      joined_(true),
      joins_running_(joined.is_running) {
  primary_at_ = joined.primary_at;
  call_number_ = joined.calls;
  link_ = make_link(std::move(joined.link));
  console_.emplace(options_.console_address, options_.security, options_.pair_id, ledger_, inbox_,
                   options_.console_input);
  options_.console_address = console_->address();
  fence_.phase = FencePhase::kFollowing;
  fence_.generation = joined.generation;
  wake_fd_ = make_wake_fd();
}

PairImpl::~PairImpl() {
  stop();
  if (thread_.joinable()) thread_.join();
  if (wake_fd_ >= 0) ::close(wake_fd_);
}

void PairImpl::claim_first_generation() {
  // One that answers late is asked again: a claim whose answer was lost is read back.
  Claim claim = Claim::kUnreachable;
  for (int tries = 0; tries < kFirstClaimTries && claim == Claim::kUnreachable; tries++)
    claim = options_.arbiter->claim(options_.pair_id, fence_.generation, claim_id_);
  switch (claim) {
    case Claim::kWon: return;
    case Claim::kLost:
      throw Failure("ERR_LOCKSTEP_PAIR_EXISTS", "The arbiter knows a pair " + options_.pair_id + " already.",
                    "Give every run of a pair a new random id.");
    case Claim::kUnreachable:
      throw Failure("ERR_LOCKSTEP_ARBITER_UNREACHABLE", "The arbiter cannot be reached or written to.",
                    "Check that its directory exists and is writable, or that its servers answer.");
  }
}

// Solo and won are the only phases in which nobody else could claim what comes next.
bool PairImpl::is_held() const {
  return holds_to_arm_ || (fence_.phase != FencePhase::kSolo && fence_.phase != FencePhase::kWon);
}

bool PairImpl::output(uint8_t channel, uint64_t, std::span<const uint8_t> bytes) {
  Lock lock(mutex_);
  if (!role_live_) {
    // Nothing can leave before this side is live, and then everything may: marks mean nothing here.
    if (is_over()) return false;
    ledger_.append(channel, 0, bytes);
    return true;
  }
  // A client may leave while this waits.
  const auto forget_or_give_up = [&] {
    forget_unread(bytes.size());
    return is_over();
  };
  if (!ledger_.wait_for_room(lock, bytes.size(), forget_or_give_up)) return false;
  if (!is_held()) free_mark_ = mark_sent_;
  ledger_.append(channel, mark_sent_, bytes);
  pump_console();
  return true;
}

void PairImpl::forget_unread(size_t wanted) {
  if (!options_.forgets_unread || console_->has_client()) return;
  size_t gone = 0;
  for (const uint8_t channel : ConsoleServer::kChannels) gone += ledger_.forget_for_room(channel, wanted);
  if (gone == 0) return;
  forgotten_bytes_ += gone;
  if (std::exchange(told_unread_, true)) return;
  note(PairNotice::kUnread, "Of the console's output the last " + std::to_string(options_.output_bytes_max) +
                                " bytes are kept for a client; the log has all.");
  wake();
}

void PairImpl::input_logged(uint64_t bytes, bool eof, uint64_t lsn) {
  Lock lock(mutex_);
  if (!role_live_ || is_over()) return;  // a replaying side counts what it receives
  if (!is_held()) free_lsn_ = std::max(free_lsn_, lsn);
  logged_input_.push_back({lsn, bytes, eof});
  commit_input();
}

void PairImpl::commit_input() {
  while (!logged_input_.empty() && (!is_held() || logged_input_.front().lsn <= lsn_acked_)) {
    console_->input_committed(logged_input_.front().bytes, logged_input_.front().eof);
    logged_input_.pop_front();
  }
}

// A frame counts as released when the host has it: a network may lose it, and its protocols know that.
bool PairImpl::pump_network() {
  if (!role_live_ || is_over()) return false;
  const uint64_t start = ledger_.start(kNetworkChannel);
  const auto stream = ledger_.ready(kNetworkChannel, start, SIZE_MAX);
  if (stream.empty()) return false;
  const uint64_t sent = options_.send_frames ? options_.send_frames(stream) : stream.size();
  ledger_.drop(kNetworkChannel, start + sent);
  return sent > 0;
}

void PairImpl::pump_console() {
  const bool frames_left = pump_network();
  // The loop must wait for a client that takes no more, and it alone may call the listener.
  bool needs_loop = console_->pump();
  if (awaiting_first_output_ && (frames_left || console_->first_output_sent())) {
    awaiting_first_output_ = false;
    note(PairNotice::kFirstOutput);
    needs_loop = true;
  }
  if (needs_loop) wake();
}

void PairImpl::finish(const End& end, uint32_t wait_ms) {
  Lock lock(mutex_);
  // A side that only relived the machine's end waits for its primary: to hear that all was delivered, or to
  // have to deliver it itself.
  changed_.wait(lock, [&] { return is_over() || role_live_ || fence_.phase == FencePhase::kEnded; });
  if (!role_live_ || is_over()) return;
  // That it ended is output like any other: who goes on might know of nothing that ends it.
  const uint64_t mark = mark_sent_;
  changed_.wait(lock, [&] { return is_over() || !is_held() || mark_acked_ >= mark; });
  if (is_over()) return;
  // A server of the network may have nobody at its console.
  const bool nobody = !console_->had_client() && ledger_.start(LS_CH_CONSOLE) <= forgotten_bytes_;
  if (nobody && ledger_.end(kNetworkChannel) > 0) wait_ms = std::min(wait_ms, kNobodyWaitMs);
  uint64_t deadline_us = now_us() + uint64_t{wait_ms} * 1000;
  console_->end(end);
  pump_console();
  if (wait_ms > kNobodyWaitMs && !console_->has_client())
    note(PairNotice::kUnheard, "Whoever comes within " + std::to_string(wait_ms / 1000) + " s is told.");
  wake();
  changed_.wait_until(lock, at_us(deadline_us), [&] { return is_over() || console_->delivered_end(); });
  if (!is_over()) finish_link(lock, end, deadline_us);
}

// The console client is told first: were it the shadow, a primary killed in between would leave nobody to
// tell the client. A shadow that did not hear takes over and finds everything delivered.
void PairImpl::finish_link(Lock& lock, const End& end, uint64_t deadline_us) {
  constexpr uint64_t kUnderstoodUs = 1'000'000;
  if (link_ && joined_) {
    send_link(link_message::Ended{static_cast<uint8_t>(end.reason), end.status});
    wake();
    fence(FenceEvent::kEnded);
    // Closing a socket with unread acknowledgements in it resets the connection, and may take the message
    // along; so wait for the answer.
    changed_.wait_until(lock, at_us(std::max(deadline_us, now_us() + kUnderstoodUs)),
                        [&] { return stopped_ || !link_ || peer_ended_; });
  } else {
    fence(FenceEvent::kEnded);
  }
}

bool PairImpl::hand_over() {
  Lock lock(mutex_);
  if (!role_live_ || !joined_ || fence_.phase != FencePhase::kProtected) return false;
  hands_over_ = true;
  fence(FenceEvent::kHandOver);
  wake();
  return true;
}

void PairImpl::settle_notices() {
  Lock lock(mutex_);
  wake();
  changed_.wait(lock, [&] { return loop_left_ || (notices_.empty() && !telling_); });
  // Whoever closes a connection with something unread in it resets it, and what it said last may be lost on
  // the way. The primary hangs up when it has heard; one that is dead is not waited for longer than that
  // takes to notice.
  const uint64_t deadline_us = now_us() + uint64_t{options_.silence_ms} * 1000;
  changed_.wait_until(lock, at_us(deadline_us), [&] { return loop_left_ || !parting_ || !link_; });
}

void PairImpl::stop() {
  Lock lock(mutex_);
  stopped_ = true;
  halt_ = true;
  options_.arbiter->cancel();
  ledger_.wake();
  changed_.notify_all();
  wake();
}

PairStatus PairImpl::status() const {
  Lock lock(mutex_);
  PairStatus s;
  s.fenced = fence_.phase == FencePhase::kFenced;
  s.fenced_why = fenced_why_;
  s.handed_over = s.fenced && hands_over_;
  s.live = role_live_ && !s.fenced;
  s.is_protected = fence_.phase == FencePhase::kProtected;
  s.generation = fence_.generation;
  s.lsn_sent = lsn_sent_;
  s.lsn_received = role_live_ ? lsn_acked_ : lsn_received_;
  s.lsn_acked = role_live_ ? lsn_acked_ : last_ack_.received;
  s.lsn_executed = role_live_ ? lsn_executed_ : executed_lsn_.load();
  s.log_bytes = role_live_ ? log_bytes_ : log_offset_ + log_bytes_;
  s.pair_id = options_.pair_id;
  s.output_bytes_held = ledger_.held();
  s.output_bytes_forgotten = forgotten_bytes_;
  s.link_round_trip_us = round_trip_us_;
  s.link_address = options_.link_address;
  s.console_address = options_.console_address;
  return s;
}

}  // namespace lockstep
