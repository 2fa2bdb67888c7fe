// One side of a fault-tolerant pair: the link to the other side, output commit, the fence, and the
// console that clients talk to. One thread of its own (a poll loop) besides the caller's vCPU thread.
//
//   primary  --frames, progress, released, heartbeat-->  shadow
//            <--acks (received, executed), heartbeat---
//
// Roles: a primary starts live at generation 1 (claimed at the arbiter when it starts). A shadow replays,
// and is live from the moment it wins a generation. Live with an armed shadow is *protected*: output waits
// for the acknowledgement of the log up to it. Live without one is *alone*: output leaves at once, but only
// after the generation that excludes the old shadow was won.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "link/arbiter.h"
#include "link/socket.h"
#include "log/event.h"
#include "log/log_start.h"
#include "memory/memory_sender.h"
#include "replay/inbox.h"
#include "replay/record_source.h"

namespace lockstep {

struct PairOptions {
  std::string pair_id;       // primary: 32 hex digits, random; a shadow learns it
  std::string link_address;  // "unix:/path" or "tcp:host:port": primary listens, shadow connects
  // Where a side that went live waits for its next shadow. Empty: at link_address if that is a Unix path,
  // else nowhere.
  std::string relink_address;
  uint64_t start_lsn = 0;  // primary: the machine goes on from here, as its shadow will, and not from boot
  bool alone = false;      // primary: starts without waiting for a shadow, which may join at any time
  std::string console_address;  // this side's console server; same forms
  Security security;            // of both
  std::shared_ptr<Arbiter> arbiter;
  uint32_t heartbeat_ms = 50;
  uint32_t silence_ms = 1000;  // suspect a peer that is silent this long; link loss: at once
  uint32_t cut_ms = 200;       // TCP: suspect a peer whose host acknowledges nothing this long
  uint32_t grace_ms = 40;      // TCP: a link that was reset may come back so long; 0: no
  // What goes to the other side: compressed always, never, or what has to wait for a link to another host.
  enum class Compress : uint8_t { kAuto, kAlways, kNever } compress = Compress::kAuto;
  uint64_t lag_bytes_max = 16u << 20;  // log bytes not yet executed by the shadow: slow down
  uint32_t drop_ms = 10'000;           // a shadow that is this far behind: go on without it
  std::function<bool()> cancelled;     // shadow: asked while it connects; true gives up (null: never)
  size_t output_bytes_max = 1u << 20;  // uncommitted or unread output: the guest stands still
  // While the console has no client, its oldest output is forgotten instead: it can be had from the log.
  bool forgets_unread = false;
  // Released network output, on any thread; how much of it was whole frames. Null: this side has no network,
  // and what leaves is lost, as on a wire that leads nowhere.
  std::function<size_t(std::span<const uint8_t>)> send_frames;
  // Shadow, on the pair's thread, until it is live: takes the frames that its card has heard so far, and is
  // told of each that the primary has in the log. Null: nothing.
  std::function<void()> hear_frames;
  std::function<void(std::span<const uint8_t>)> frame_logged;
  // Shadow, on the pair's thread, once it is live: says to the network that the machine is here now.
  // Repeated, because a late frame of the other side would lead it back. Null: nothing.
  std::function<void()> announce;
  InputKind console_input = InputKind::kData;  // kSerial for a bare guest: its console is a 16550
};

enum class PairNotice : uint8_t {
  kListening,
  kConnected,
  kArmed,
  kConsoleConnected,
  kConsoleLost,
  kSuspected,
  kClaiming,
  kArbiterUnreachable,
  kClaimWon,
  kClaimLost,
  kAlone,
  kLive,
  kFirstOutput,
  kFenced,
  kDiverged,
  kPeerEnded,
  kSlowed,
  kDropped,
  kStateSent,
  kUnread,
  kResumed,
  kJoinLost,
  kUnheard,
};
struct PairEvent {
  PairNotice notice;
  uint64_t time_us = 0;  // CLOCK_MONOTONIC
  uint64_t lsn = 0;
  uint64_t generation = 0;
  std::string detail;  // one sentence, or empty
};
using PairListener = std::function<void(const PairEvent&)>;  // called on the pair's thread

struct PairStatus {
  bool live = false, is_protected = false, fenced = false, handed_over = false;
  uint64_t generation = 0, lsn_sent = 0, lsn_received = 0, lsn_acked = 0, lsn_executed = 0;
  uint64_t log_bytes = 0, output_bytes_held = 0, output_bytes_forgotten = 0;
  double link_round_trip_us = 0;
  std::string fenced_why;  // one sentence, or empty
  std::string pair_id;
  std::string link_address, console_address;  // as connected to: port 0 replaced by the real one
};

class Pair : public RecordSource {
 public:
  // The primary: `header` is the encoded log header, sent to the shadow that joins. Listens at once.
  static std::unique_ptr<Pair> primary(PairOptions options, Bytes header, Inbox& inbox,
                                       PairListener listener);
  // The shadow: connects (retrying until `connect_ms` are over) and receives the header before it returns.
  // `on_frame` sees each verified frame before it is acknowledged (the shadow's own log).
  static std::unique_ptr<Pair> shadow(PairOptions options, Inbox& inbox, PairListener listener,
                                      std::function<void(std::span<const uint8_t>)> on_frame,
                                      uint32_t connect_ms, Bytes* header);
  ~Pair() override;

  // ---- vCPU thread, primary before the start: blocks until a shadow is armed; false when stopped.
  virtual bool wait_protected() = 0;
  // ---- A shadow that joins a machine that runs already (pair_join.cc).
  // vCPU thread, once live: from now on shadows may join, and get this header (empty: the primary's own) and
  // this memory. `ask_guest`, on any thread, has the guest come to an event soon. Both outlive the pair's
  // thread.
  virtual void serve_joins(Bytes header, MemorySender& memory, std::function<void()> ask_guest) = 0;
  // vCPU thread, live, after an event. The state is wanted; with dirty pages harvested: now.
  virtual bool wants_state() const = 0;
  virtual bool state_is_due() = 0;
  virtual void saved(const LogStart& start) = 0;
  // vCPU thread of the shadow, before it asks for a record: the machine starts from here, and not at boot.
  virtual void start_from(const LogStart& start) = 0;
  // vCPU thread of the shadow, after the header: whether there is a state to load. Blocks until it is here,
  // handing each piece of memory to `load`; false when stopped or when the primary was lost. Until loaded(),
  // no frame is read.
  virtual bool joins_running() const = 0;
  virtual bool receive_state(const std::function<void(std::span<const uint8_t>)>& load, LogStart* start) = 0;
  virtual void loaded(uint64_t input_bytes, bool input_ended) = 0;
  // ---- vCPU thread, when live. A frame whose last event is `lsn`; sent from the calling thread when the
  // socket takes it. Pauses while the shadow lags past the first bound (lag_watch.h).
  virtual void frame(std::span<const uint8_t> frame, uint64_t lsn) = 0;
  virtual void progress(uint64_t lsn, uint64_t accesses) = 0;
  // ---- vCPU thread, live or replaying. Output that the machine made after event `lsn`. Live: held until
  // every frame and progress given so far is acknowledged; waits while the bound is full. Replaying: kept
  // until the primary says that it was released, without waiting, because the primary's bound covers us.
  // False when stopped or fenced.
  virtual bool output(uint8_t channel, uint64_t lsn, std::span<const uint8_t> bytes) = 0;
  // Console input is in the log up to byte `bytes` (and its end, when `eof`) as of event `lsn`.
  virtual void input_logged(uint64_t bytes, bool eof, uint64_t lsn) = 0;
  // ---- vCPU thread, replaying.
  Next next(Record* record) override = 0;
  virtual void executed(uint64_t lsn) = 0;
  virtual void diverged(const std::string& what) = 0;  // stops acknowledging for good, tells the primary
  // The machine ended (live: after all output): waits until all output is committed and the console client
  // has it, or `wait_ms` are over, tells console client (reason, status) and shadow that it was on purpose.
  virtual void finish(const End& end, uint32_t wait_ms) = 0;
  // ---- any thread. The shadow goes on in this side's place, which then is fenced, and `handed_over`; or,
  // when the shadow does not claim within kHandOverMs, goes on itself. False: no armed shadow is there.
  virtual bool hand_over() = 0;
  // ---- vCPU thread, before it reports how the machine ended: waits until the listener has heard every
  // notice so far, so that nobody learns of the end before its reason; and the primary that this shadow
  // diverged.
  virtual void settle_notices() = 0;
  // ---- any thread. Every blocked call above returns soon. Idempotent. The peer sees a plain loss.
  virtual void stop() = 0;
  virtual PairStatus status() const = 0;

 protected:
  Pair() = default;
};

}  // namespace lockstep
