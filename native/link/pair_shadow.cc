// Following a primary: frames in, records handed to the replayer.
#include <poll.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "error.h"
#include "fault_point.h"
#include "link/pair_impl.h"

namespace lockstep {

using namespace link_message;

namespace {

constexpr uint64_t kConnectBackoffUs = 20'000;

[[noreturn]] void unreachable(const PairOptions& options, int error) {
  if (error == EPROTO) {
    throw Failure("ERR_LOCKSTEP_TLS", "What answers at " + options.link_address + " does not speak TLS.",
                  "Start the primary with --tls, too.");
  }
  throw_system("ERR_LOCKSTEP_LINK_UNREACHABLE", "connect", "No primary answers at " + options.link_address,
               "Start the primary first, or check the address.", error != 0 ? error : ETIMEDOUT);
}

enum class Joining { kDone, kHungUp, kSilent };
constexpr uint64_t kCancelLookUs = 50'000;

void check_cancelled(const PairOptions& options) {
  if (options.cancelled && options.cancelled())
    throw Failure("ERR_LOCKSTEP_CLOSED", "The shadow was closed before it had joined its primary.");
}

// What a primary that speaks TLS answers to a HELLO; as a message of the link it would be of an absurd
// length.
bool is_tls_alert(std::span<const uint8_t> bytes) {
  return bytes.size() >= 7 && bytes[0] == 0x15 && bytes[1] == 3 && bytes[3] == 0 && bytes[4] == 2;
}

// Reads the header behind our HELLO. `deadline_us` moves on as long as bytes come in.
Joining read_header(Connection& link, PairOptions* options, uint64_t patience_us, PairImpl::Joined* joined,
                    Bytes* header) {
  uint64_t wanted = UINT64_MAX, deadline_us = now_us() + patience_us;
  header->clear();
  for (;;) {
    LinkMessage message;
    while (wanted != header->size()) {
      size_t used = parse_link(link.unread(), &message);
      if (used == 0) break;
      if (const auto* refused = std::get_if<Refused>(&message)) {
        throw Failure("ERR_LOCKSTEP_LINK_REFUSED", "The primary refused this shadow: " + refused->why);
      }
      if (const auto* answer = std::get_if<Header>(&message)) {
        if (!options->pair_id.empty() && options->pair_id != answer->pair_id) {
          throw Failure("ERR_LOCKSTEP_OTHER_PAIR", "The primary there belongs to another pair.");
        }
        options->pair_id = answer->pair_id;
        joined->generation = answer->generation;
        joined->is_running = answer->is_running;
        wanted = answer->header_bytes;
      } else if (const auto* data = std::get_if<HeaderData>(&message)) {
        if (wanted == UINT64_MAX || data->bytes.size() > wanted - header->size()) {
          throw Failure("ERR_LOCKSTEP_LINK_DAMAGED", "The primary sent more header than it announced.");
        }
        header->insert(header->end(), data->bytes.begin(), data->bytes.end());
      }
      link.consume(used);
    }
    if (wanted == header->size()) return Joining::kDone;
    check_cancelled(*options);
    uint64_t now = now_us();
    if (now >= deadline_us) return Joining::kSilent;
    link.flush();
    pollfd p{link.fd(), static_cast<short>(POLLIN | (link.unsent() > 0 ? POLLOUT : 0)), 0};
    poll(&p, 1, static_cast<int>((std::min(deadline_us - now, kCancelLookUs) + 999) / 1000));
    if (p.revents == 0) continue;
    auto filled = link.fill();
    if (filled == Connection::Fill::kClosed) {
      // A primary that refuses a certificate says so when this side takes the handshake for done.
      if (std::string why = link.problem(); !why.empty()) throw Failure("ERR_LOCKSTEP_TLS", why);
      return Joining::kHungUp;
    }
    if (wanted == UINT64_MAX && is_tls_alert(link.unread()))
      throw Failure("ERR_LOCKSTEP_TLS", "The primary wants TLS.", "Give --tls DIR.");
    if (filled == Connection::Fill::kBytes) deadline_us = now_us() + patience_us;
  }
}

}  // namespace

PairImpl::Joined PairImpl::join(PairOptions* options, uint32_t connect_ms, Bytes* header) {
  const uint64_t deadline_us = now_us() + uint64_t{connect_ms} * 1000;
  Joined joined;
  joined.shadow_id = random_id();
  for (;;) {
    check_cancelled(*options);
    uint64_t now = now_us();
    uint64_t left_us = deadline_us > now ? deadline_us - now : 0;
    int error = 0;
    if (auto stream = connect_stream(options->link_address, static_cast<int>(left_us / 1000), &error,
                                     options->security)) {
      joined.primary_at = tcp_peer(stream->fd());
      joined.link = std::make_unique<Connection>(std::move(stream));
      joined.link->send(encode_link(Hello{joined.shadow_id, ++joined.calls}));
      uint64_t patience_us = std::max<uint64_t>(left_us, uint64_t{options->silence_ms} * 1000);
      Joining result = read_header(*joined.link, options, patience_us, &joined, header);
      if (result == Joining::kDone) return joined;
      if (result == Joining::kSilent) unreachable(*options, ETIMEDOUT);
    }
    now = now_us();
    if (now >= deadline_us) unreachable(*options, error);
    // Nobody can tell us when a socket appears; this is before anything runs.
    timespec pause{0, static_cast<long>(std::min(kConnectBackoffUs, deadline_us - now) * 1000)};
    nanosleep(&pause, nullptr);
  }
}

RecordSource::Next PairImpl::next(Record* record) {
  if (batch_.empty() || halt_) {
    Lock lock(mutex_);
    if (!told_ready_) {
      told_ready_ = true;
      send_link(Ready{});
    }
    changed_.wait(lock, [&] {
      return is_over() || !queue_.empty() || role_live_ || nudged_ || fence_.phase == FencePhase::kEnded;
    });
    if (is_over()) return Next::kStopped;
    if (std::exchange(nudged_, false)) return Next::kNudged;
    if (queue_.empty()) {
      if (!role_live_) return Next::kEnd;
      note(PairNotice::kLive);
      wake();
      return Next::kLive;
    }
    if (reading_is_paused()) wake();
    batch_.swap(queue_);
    queue_bytes_ = 0;
  }
  *record = std::move(batch_.front());
  batch_.pop_front();
  return Next::kRecord;
}

void PairImpl::nudge() {
  Lock lock(mutex_);
  nudged_ = true;
  changed_.notify_all();
}

// On the replayer's hot path, so without the lock: the loop looks when it next acknowledges, and is woken
// only when the primary may be waiting for the news.
void PairImpl::executed(uint64_t lsn) {
  executed_lsn_ = lsn;
  if (lsn < ack_at_lsn_) return;
  ack_at_lsn_ = UINT64_MAX;
  ack_wanted_ = true;
  wake();
}

void PairImpl::diverged(const std::string& what) {
  Lock lock(mutex_);
  if (!role_live_) give_up_replay(what);
}

void PairImpl::give_up_replay(const std::string& what) {
  acknowledging_ = false;
  parting_ = true;
  queue_.clear();  // however full it was: the link is read until the primary has closed it
  queue_bytes_ = 0;
  note(PairNotice::kDiverged, what);
  send_link(Diverged{what});
  fence(FenceEvent::kDiverged);
  wake();
}

// Whoever waits for the state, or has yet to say that it is ready, waits for nothing else: what comes too
// early would leave it waiting for ever.
void PairImpl::check_order(const LinkMessage& message) const {
  const bool too_early = joins_running_ && !start_
                             ? !std::get_if<Pages>(&message) && !std::get_if<Kept>(&message) &&
                                   !std::get_if<Start>(&message) && !std::get_if<Heartbeat>(&message)
                             : !told_ready_ && std::get_if<Armed>(&message) != nullptr;
  if (too_early) throw Failure("ERR_LOCKSTEP_LINK_DAMAGED", "The primary spoke too early.");
}

void PairImpl::handle_from_primary(Lock& lock, const LinkMessage& message) {
  check_order(message);
  if (const auto* frame = std::get_if<Frame>(&message)) {
    if (acknowledging_) take_frame(lock, frame->bytes);
  } else if (const auto* progress = std::get_if<ProgressTo>(&message)) {
    mark_received_++;
    // Only the furthest counts.
    if (!queue_.empty() && std::holds_alternative<Progress>(queue_.back())) queue_.pop_back();
    queue_.push_back(progress->progress);
    changed_.notify_all();
  } else if (std::get_if<HandOver>(&message)) {
    fence(FenceEvent::kHandOverReceived, "The primary hands over.");
  } else if (const auto* pages = std::get_if<Pages>(&message)) {
    take_pages(pages->bytes);
  } else if (const auto* kept = std::get_if<Kept>(&message)) {
    if (!joins_running_ || start_)
      throw Failure("ERR_LOCKSTEP_LINK_DAMAGED", "Output that belongs to nothing.");
    ledger_.restore(kept->channel, kept->offset, kept->bytes);
  } else if (const auto* start = std::get_if<Start>(&message)) {
    take_start(*start);
  } else if (const auto* released = std::get_if<Released>(&message)) {
    ledger_.drop(released->channel, released->offset);
  } else if (const auto* beat = std::get_if<Heartbeat>(&message)) {
    link_->peer_took(beat->taken);
    if (link_->unsent() == 0) send_link(Heartbeat{beat->time_us, true, link_->taken()});
  } else if (const auto* armed = std::get_if<Armed>(&message)) {
    if (armed->generation != fence_.generation + 1) {
      throw Failure("ERR_LOCKSTEP_LINK_DAMAGED",
                    "The primary armed this side for a generation that is not next.");
    }
    fence(FenceEvent::kArmedReceived);
    watch_afresh();
  } else if (std::get_if<Ended>(&message)) {
    fence(FenceEvent::kEnded);
    peer_ended_ = true;
    note(PairNotice::kPeerEnded);
    send_link(Ended{});
    changed_.notify_all();
  } else {
    throw Failure("ERR_LOCKSTEP_LINK_DAMAGED", "The primary sent what only a shadow may.");
  }
}

void PairImpl::take_frame(Lock& lock, std::span<const uint8_t> frame) {
  std::vector<Record> records;
  std::string log_error;
  // Decoding and our own log take time, and the replayer must be able to take what is there meanwhile.
  lock.unlock();
  if (options_.hear_frames) options_.hear_frames();  // before the log speaks of them
  try {
    if (FrameDecoder::frame_length(frame) != frame.size()) {
      throw Failure("ERR_LOCKSTEP_LINK_DAMAGED", "A frame whose length is not its message's.");
    }
    records = decoder_.decode(frame, log_offset_);
  } catch (...) {
    lock.lock();
    throw;
  }
  try {
    if (on_frame_) on_frame_(frame);
  } catch (const std::exception& error) {
    log_error = error.what();
  }
  lock.lock();
  if (!log_error.empty()) {
    // A shadow whose log has a hole would go on to write a log that lies.
    give_up_replay("The shadow cannot write its log: " + log_error);
    return;
  }
  log_offset_ += frame.size();
  mark_received_++;
  queue_bytes_ += frame.size();
  for (Record& record : records) {
    if (const auto* event = std::get_if<Event>(&record)) count_input(*event);
    queue_.push_back(std::move(record));
  }
  frame_ends_.push_back({lsn_received_, log_offset_});
  changed_.notify_all();
}

// The same count of console input as the recorder's, so that the client resends from the right byte.
void PairImpl::count_input(const Event& event) {
  lsn_received_ = event.lsn;
  for (const Input& input : event.inputs) {
    if (input.kind == InputKind::kSerial || (input.kind == InputKind::kData && input.channel == 0)) {
      input_received_ += input.bytes.size();
    }
    if (input.kind == InputKind::kEof && input.channel == 0) input_ended_ = true;
    if (input.kind == InputKind::kPacket && options_.frame_logged) options_.frame_logged(input.bytes);
  }
}

uint64_t PairImpl::executed_bytes() {
  uint64_t lsn = executed_lsn_;
  uint64_t bytes = last_ack_.executed_bytes;
  while (!frame_ends_.empty() && frame_ends_.front().lsn <= lsn) {
    bytes = frame_ends_.front().bytes;
    frame_ends_.pop_front();
  }
  return bytes;
}

void PairImpl::send_ack() {
  if (!acknowledging_ || !link_ || link_->unsent() > 0) return;
  last_ack_ = {lsn_received_, executed_lsn_, executed_bytes(), mark_received_, link_->taken()};
  fault_point("ack-before-send");
  send_link(last_ack_);
  fault_point("ack-after-send");
  sent_at_us_ = now_us();
  // A primary at its lag bound waits for news: tell it after every quarter of the bound, not at the next
  // heartbeat.
  uint64_t news = last_ack_.executed_bytes + options_.lag_bytes_max / 4;
  auto at = std::upper_bound(frame_ends_.begin(), frame_ends_.end(), news,
                             [](uint64_t bytes, const FrameEnd& end) { return bytes < end.bytes; });
  uint64_t lsn = at == frame_ends_.end() ? UINT64_MAX : at->lsn;
  ack_at_lsn_ = lsn;
  // The replayer may have passed it just before it was set.
  if (executed_lsn_ >= lsn) {
    ack_wanted_ = true;
    wake();
  }
}

}  // namespace lockstep
