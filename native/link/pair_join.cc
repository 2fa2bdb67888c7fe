// A shadow joins a machine that runs. The live side sends memory while its guest runs, in rounds; at an event
// at which little is left, its vCPU thread hands over the rest, the machine's state and the output that has
// not arrived; from there on the shadow gets the log like any other. Until it is armed, losing it changes
// nothing.
#include <algorithm>
#include <utility>

#include "error.h"
#include "fault_point.h"
#include "link/pair_impl.h"

namespace lockstep {

using namespace link_message;

namespace {
// What is left when the guest is stopped: 8 MiB take some 20 ms. A guest that writes faster than its memory
// is sent never comes down to that, and is stopped for what there is after so many rounds.
constexpr size_t kLastPages = 2048;
constexpr uint32_t kRoundsMax = 12;
constexpr size_t kUnsentMax = 2u << 20;
constexpr uint64_t kListenAgainUs = 200'000;
}  // namespace

// ---- the live side

void PairImpl::serve_joins(Bytes header, MemorySender& memory, std::function<void()> ask_guest) {
  Lock lock(mutex_);
  if (!header.empty()) header_ = std::move(header);
  memory_ = &memory;
  ask_guest_ = std::move(ask_guest);
  started_ = true;
  if (!link_listener_) listen_at_us_ = now_us();
  wake();
}

// Of a side that went live: where the lost one listened, or at an address of its own.
void PairImpl::listen_again() {
  listen_at_us_ = 0;
  std::string address = options_.relink_address;
  if (address.empty() && options_.link_address.starts_with("unix:")) address = options_.link_address;
  if (address.empty() || link_listener_) return;
  try {
    link_listener_ = std::make_unique<Listener>(address, options_.security);
    options_.link_address = link_listener_->address();
    note(PairNotice::kListening, "The link listens on " + options_.link_address + ".");
  } catch (const Failure&) {
    listen_at_us_ = now_us() + kListenAgainUs;  // the lost side may be on its way out
  }
}

bool PairImpl::sends_memory_now() const {
  return (join_ == Join::kBegins || join_ == Join::kMemory) && !taking_ && link_ &&
         link_->unsent() <= kUnsentMax;
}

// A piece at a time, so that the console is served between.
void PairImpl::send_memory(Lock& lock) {
  if (!sends_memory_now()) return;
  const bool begins = join_ == Join::kBegins;
  Bytes piece;
  lock.unlock();
  if (begins) memory_->begin();
  const bool more = memory_->next(&piece);
  lock.lock();
  join_ = Join::kMemory;
  if (more) {
    send_link(Pages{piece});
    fault_point("join-pages-sent");
    return;
  }
  join_ = Join::kAsking;
  state_wanted_ = true;
  lock.unlock();
  ask_guest_();
  lock.lock();
}

bool PairImpl::state_is_due() {
  Lock lock(mutex_);
  if (join_ != Join::kAsking || !link_ || is_over()) return false;
  if (memory_->changed() <= kLastPages || rounds_ >= kRoundsMax) {
    taking_ = true;
    stands_since_us_ = now_us();
    return true;
  }
  rounds_++;
  memory_->next_round();
  join_ = Join::kMemory;
  state_wanted_ = false;
  wake();
  return false;
}

// The guest stands still. Frames and marks from here on are the new shadow's.
void PairImpl::saved(const LogStart& start) {
  Bytes encoded = encode_log_start(start);
  std::vector<Bytes> pieces = memory_->rest();
  memory_->end();
  Lock lock(mutex_);
  taking_ = false;
  wake();
  if (join_ != Join::kAsking || !link_ || is_over()) return;
  state_wanted_ = false;
  join_ = Join::kNone;
  for (const Bytes& piece : pieces) send_link(Pages{piece});
  send_kept_output();
  lsn_sent_ = std::max(lsn_sent_, start.digest.lsn);
  send_link(Start{mark_sent_, log_bytes_, encoded});
  // What it has with this message, and acknowledges by being ready.
  lsn_acked_ = lsn_executed_ = start.digest.lsn;
  mark_acked_ = mark_sent_;
  executed_bytes_ = log_bytes_;
  lag_.restart(log_bytes_, now_us());
  joined_ = true;
  heartbeat_at_us_ = 0;
  const uint64_t now = now_us();
  note(PairNotice::kStateSent,
       std::to_string(memory_->pages_sent()) + " pages were sent in " + std::to_string(rounds_ + 2) +
           " rounds and " + std::to_string((now - join_began_us_) / 1000) +
           " ms; the guest stood still for " + std::to_string((now - stands_since_us_) / 1000) + " ms.");
  fault_point("join-state-sent");
}

void PairImpl::send_kept_output() {
  for (uint8_t channel = 0; channel < kOutputChannels; channel++) {
    std::span<const uint8_t> kept = ledger_.kept(channel);
    uint64_t at = released_sent_[channel] = ledger_.start(channel);
    do {
      const size_t bytes = std::min(kept.size(), kHeaderDataBytesMax);
      send_link(Kept{channel, at, kept.first(bytes)});
      kept = kept.subspan(bytes);
      at += bytes;
    } while (!kept.empty());
  }
}

// While the vCPU thread is between state_is_due() and saved(), memory's part is its own to end.
void PairImpl::cancel_join() {
  if (join_ != Join::kNone && !taking_) memory_->end();
  join_ = Join::kNone;
  state_wanted_ = false;
}

// ---- the shadow

void PairImpl::take_pages(std::span<const uint8_t> piece) {
  if (!joins_running_ || start_)
    throw Failure("ERR_LOCKSTEP_LINK_DAMAGED", "Memory that belongs to nothing.");
  fault_point("join-pages");
  pieces_.emplace_back(piece.begin(), piece.end());
  pieces_bytes_ += piece.size();
  changed_.notify_all();
}

void PairImpl::take_start(const Start& start) {
  if (!joins_running_ || start_)
    throw Failure("ERR_LOCKSTEP_LINK_DAMAGED", "A state that belongs to nothing.");
  fault_point("join-start");
  start_ = decode_log_start(start.log_start);
  decoder_.start_from(*start_);
  lsn_received_ = start_->digest.lsn;
  executed_lsn_ = lsn_received_;
  mark_received_ = start.mark;
  log_offset_ = last_ack_.executed_bytes = start.log_bytes;
  loading_ = true;
  changed_.notify_all();
}

// No frame has come: the primary waits until this shadow is ready.
void PairImpl::start_from(const LogStart& start) {
  Lock lock(mutex_);
  decoder_.start_from(start);
  lsn_received_ = start.digest.lsn;
  executed_lsn_ = start.digest.lsn;
}

bool PairImpl::receive_state(const std::function<void(std::span<const uint8_t>)>& load, LogStart* start) {
  Lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return is_over() || !pieces_.empty() || start_; });
    if (is_over()) return false;
    if (pieces_.empty()) break;
    const auto pieces = std::exchange(pieces_, {});
    pieces_bytes_ = 0;
    wake();  // it may read on
    lock.unlock();
    for (const Bytes& piece : pieces) load(piece);
    lock.lock();
  }
  *start = *start_;
  return true;
}

void PairImpl::loaded(uint64_t input_bytes, bool input_ended) {
  Lock lock(mutex_);
  fault_point("join-loaded");
  input_received_ = input_bytes;
  input_ended_ = input_ended;
  loading_ = false;
  resume_reading_ = true;
  wake();
}

}  // namespace lockstep
