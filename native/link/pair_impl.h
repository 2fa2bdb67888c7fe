// Inside a Pair. One class with a role, because a shadow that won is a primary without a shadow; its
// functions are spread over files by idea:
//
//   pair.cc           what callers see: output, input, the end, status
//   pair_loop.cc      the poll loop, its timers, and the fence's actions carried out
//   pair_primary.cc   speaking to a shadow: frames out, acknowledgements in, arming
//   pair_shadow.cc    following a primary: frames in, records handed to the replayer
//   pair_join.cc      a shadow joins a machine that runs: its state is sent, and received
//   pair_callers.cc   who connects to a live side, until it has said what it wants
//   pair_resume.cc    a link whose connection was reset comes back, and nobody else hears of it
//   pair_witness.cc   a second connection, by whose end a primary knows a shadow that is dead
//
// Threads. The vCPU thread calls in; one thread of ours runs the loop. `mutex_` guards everything not marked
// otherwise and is never held across poll(2), the arbiter, the listener, the shadow's own log or decoding.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "link/connection.h"
#include "link/console_server.h"
#include "link/fence.h"
#include "link/lag_watch.h"
#include "link/link_message.h"
#include "link/link_stream.h"
#include "link/output_ledger.h"
#include "link/pair.h"
#include "link/reconnect.h"
#include "log/frame.h"

namespace lockstep {

// While a shadow joins: it reads a header and loads an image, and nobody waits for it.
constexpr uint64_t kJoinSilenceUs = 30'000'000, kJoinCutUs = 5'000'000;

uint64_t now_us();
// Waits go by the monotonic clock: stepping the host's time must not end one.
std::chrono::steady_clock::time_point at_us(uint64_t us);
std::string random_id();

class PairImpl final : public Pair {
 public:
  using OnFrame = std::function<void(std::span<const uint8_t>)>;
  // What a shadow knows once the header has arrived. Frames may already wait in the connection's buffer.
  struct Joined {
    std::unique_ptr<Connection> link;
    std::optional<TcpPeer> primary_at;
    std::string shadow_id;
    uint64_t calls = 0;
    uint64_t generation = 0;
    bool is_running = false;
  };

  PairImpl(PairOptions options, Bytes header, Inbox& inbox, PairListener listener);              // primary
  PairImpl(PairOptions options, Inbox& inbox, PairListener listener, OnFrame on_frame, Joined);  // shadow
  ~PairImpl() override;

  bool wait_protected() override;
  void serve_joins(Bytes header, MemorySender& memory, std::function<void()> ask_guest) override;
  bool wants_state() const override { return state_wanted_.load(std::memory_order_relaxed); }
  bool state_is_due() override;
  void saved(const LogStart& start) override;
  void start_from(const LogStart& start) override;
  bool joins_running() const override { return joins_running_; }
  bool receive_state(const std::function<void(std::span<const uint8_t>)>& load, LogStart* start) override;
  void loaded(uint64_t input_bytes, bool input_ended) override;
  void frame(std::span<const uint8_t> frame, uint64_t lsn) override;
  void progress(uint64_t lsn, uint64_t accesses) override;
  bool output(uint8_t channel, uint64_t lsn, std::span<const uint8_t> bytes) override;
  void input_logged(uint64_t bytes, bool eof, uint64_t lsn) override;
  Next next(Record* record) override;
  void nudge() override;
  void executed(uint64_t lsn) override;
  void diverged(const std::string& what) override;
  void finish(const End& end, uint32_t wait_ms) override;
  bool hand_over() override;
  void settle_notices() override;
  void stop() override;
  PairStatus status() const override;

  // Before start(): throws when this pair exists already.
  void claim_first_generation();
  void start();
  static Joined join(PairOptions* options, uint32_t connect_ms, Bytes* header);

 private:
  using Lock = std::unique_lock<std::mutex>;
  enum class ArbiterWork { kNone, kArm, kClaim };
  // Of a shadow that joins a running machine, as the live side sees it.
  enum class Join {
    kNone,
    kBegins,  // all of memory is to be sent
    kMemory,  // a round of it is being sent
    kAsking,  // a round is over: the vCPU thread decides, at the next event, what comes next
  };

  // ---- pair.cc
  bool is_over() const { return stopped_ || fence_.phase == FencePhase::kFenced; }
  bool knows_peer() const { return joined_ || join_ != Join::kNone; }
  bool is_held() const;  // output waits for acknowledgements, or for the fence
  void forget_unread(size_t wanted);
  void commit_input();
  void pump_console();
  bool pump_network();  // whether any frame left
  void finish_link(Lock& lock, const End& end, uint64_t deadline_us);

  // ---- pair_loop.cc
  void run();
  void wait_and_serve(Lock& lock);
  int poll_timeout_ms(uint64_t now) const;
  void read_link(Lock& lock, bool is_first);
  void timers();
  void watch_peer(uint64_t now);
  bool is_awaited() const;
  uint64_t silence_us() const;
  uint64_t cut_us() const;
  void watch_afresh();
  void announce();
  void fence(FenceEvent event, const std::string& why = {});
  void lose_link(const std::string& why);
  void work_for_arbiter(Lock& lock);
  void went_alone();
  void note(PairNotice notice, std::string detail = {});
  void tell_listener(Lock& lock);
  void wake();  // any thread

  // ---- pair_primary.cc
  void handle_from_shadow(const LinkMessage& message);
  void acknowledged(const link_message::Ack& ack);
  void try_to_arm();
  void send_released();
  void keep_pace(Lock& lock, size_t frame_bytes);
  void watch_lag(uint64_t now);

  // ---- pair_join.cc
  void send_memory(Lock& lock);
  bool sends_memory_now() const;
  void cancel_join();
  void listen_again();
  void send_kept_output();
  void take_start(const link_message::Start& start);
  void take_pages(std::span<const uint8_t> piece);

  // ---- pair_callers.cc
  struct Caller {
    std::unique_ptr<Connection> connection;
    uint64_t until_us;
    bool waits = false;  // a new shadow, while it is open whether the old one comes back
  };
  void accept_link();
  void hear_callers(std::span<const pollfd> fds);
  bool hear(Caller& caller);
  bool awaits_shadow() const { return link_ && link_->is_parted(); }
  bool may_greet(const Caller& caller) const { return caller.waits && !awaits_shadow(); }
  const char* reason_to_refuse() const;
  void greet_shadow(std::unique_ptr<Connection> connection, const link_message::Hello& hello);

  // ---- pair_resume.cc
  std::unique_ptr<LinkStream> make_link(std::unique_ptr<Connection> connection);
  bool outlasts_reset() const;
  void part_link(const std::string& why);
  void link_resumed();
  void watch_grace(uint64_t now);
  void take_back(std::unique_ptr<Connection> connection, const link_message::Resume& resume);
  void call_primary();
  void step_call();
  void ask_to_resume(std::unique_ptr<Connection> connection);
  void hear_answer(Lock& lock);
  void end_call();
  pollfd call_poll() const;
  void seek_another_path(uint64_t now, uint64_t quiet_us);
  uint64_t another_path_due_us(uint64_t now) const;

  // ---- pair_witness.cc
  void call_witness(uint64_t now);
  void serve_witness();
  void hear_witness();
  link_message::LinkName link_name() const { return {options_.pair_id, shadow_id_, fence_.generation}; }
  // Whether another connection is the same shadow's, for the link that this side has.
  bool is_ours(const link_message::LinkName& name, const Connection& connection) const;
  void take_witness(std::unique_ptr<Connection> connection, const link_message::Witness& witness);
  void end_witness();
  void send_witness(Connection& connection);
  pollfd witness_poll() const;

  // ---- pair_shadow.cc
  void check_order(const LinkMessage& message) const;
  void handle_from_primary(Lock& lock, const LinkMessage& message);
  void take_frame(Lock& lock, std::span<const uint8_t> frame);
  void give_up_replay(const std::string& what);
  void count_input(const Event& event);
  void send_ack();
  uint64_t executed_bytes();
  bool reading_is_paused() const { return loading_ || pieces_bytes_ > kPiecesBytesMax || replay_is_behind(); }
  bool replay_is_behind() const {
    return queue_bytes_ > LagWatch::kDropFactor * options_.lag_bytes_max + (1u << 20);
  }

  void send_link(const LinkMessage& message) {
    if (link_) link_->send(encode_link(message));
  }

  PairOptions options_;
  Bytes header_;  // of a live side: what a shadow gets first
  Inbox& inbox_;
  const PairListener listener_;
  const OnFrame on_frame_;  // shadow; loop thread only
  const std::string claim_id_ = random_id();
  std::string shadow_id_;
  int wake_fd_ = -1;
  std::thread thread_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;  // anything a blocked caller may wait for, but room for output
  bool stopped_ = false;
  bool nudged_ = false;
  bool role_live_;  // faces the world: a primary, or a shadow whose claim was won
  FenceState fence_;
  ArbiterWork work_ = ArbiterWork::kNone;
  uint64_t retry_at_us_ = 0;  // 0: no timer
  OutputLedger ledger_;
  std::optional<ConsoleServer> console_;
  std::vector<PairEvent> notices_;
  bool telling_ = false;    // the listener is hearing some just now
  bool loop_left_ = false;  // and will hear no more
  bool awaiting_first_output_ = false;
  bool holds_to_arm_ = false;  // a shadow is ready: output waits, or it would never have all that left
  uint64_t forgotten_bytes_ = 0;
  bool told_unread_ = false;  // since the last client came
  bool hands_over_ = false;   // it was asked to; until it won again
  bool peer_ended_ = false;   // shadow: the primary ended on purpose; primary: the shadow understood that

  // The link. The pointer is set and reset by the loop thread, which alone reads from it.
  std::unique_ptr<Listener> link_listener_;
  std::unique_ptr<LinkStream> link_;
  std::deque<Caller> callers_;  // the oldest first
  bool joined_ = false;         // the header was sent: what follows are frames
  bool peer_ready_ = false;
  SilenceWatch silence_;
  SilenceWatch path_;  // of the other host's kernel
  uint64_t path_looked_us_ = 0;
  // While the link has no connection, and how a shadow gets it one: a call, which is answered.
  SilenceWatch grace_;
  uint64_t parted_at_us_ = 0;
  std::string parted_why_;
  std::string fenced_why_;
  std::optional<TcpPeer> primary_at_;
  std::optional<Reconnect> call_;
  std::unique_ptr<Connection> answer_;   // asked to go on
  std::unique_ptr<Connection> standby_;  // may be asked, if the link does not recover
  uint64_t call_at_us_ = 0;
  std::unique_ptr<Connection> witness_;
  std::optional<Reconnect> witness_call_;
  uint64_t witness_at_us_ = 0;
  uint64_t call_number_ = 0;     // shadow: of its last call; primary: up to which it believes none
  bool witness_closed_ = false;  // primary: as by a process that ended
  uint64_t asked_us_ = 0;        // how long the loop meant to sleep; loop thread only
  uint64_t heartbeat_at_us_ = 0, sent_at_us_ = 0;
  double round_trip_us_ = 0;
  uint64_t announce_at_us_ = 0, announce_gap_us_ = 0;  // 0: no more

  // Primary. Marks count frames and progress messages sent to the shadow.
  bool started_ = false;  // the machine runs: too late for a shadow to join
  bool was_protected_ = false;
  uint64_t lsn_sent_ = 0, lsn_acked_ = 0, lsn_executed_ = 0;
  uint64_t mark_sent_ = 0, mark_acked_ = 0;
  uint64_t log_bytes_ = 0, executed_bytes_ = 0;
  LagWatch lag_{options_.lag_bytes_max, uint64_t{options_.drop_ms} * 1000};
  bool slowed_ = false;
  uint64_t free_mark_ = 0,
           free_lsn_ = 0;  // what left while nothing was held: a shadow needs it before it is armed
  std::array<uint64_t, kOutputChannels> released_sent_{};
  struct LoggedInput {
    uint64_t lsn, bytes;
    bool eof;
  };
  std::deque<LoggedInput> logged_input_;

  // Live, for shadows that join late.
  MemorySender* memory_ = nullptr;
  std::function<void()> ask_guest_;
  Join join_ = Join::kNone;
  bool taking_ = false;  // the vCPU thread is at the last of the memory
  uint32_t rounds_ = 0;
  std::atomic<bool> state_wanted_{false};
  uint64_t join_began_us_ = 0, stands_since_us_ = 0;
  uint64_t listen_at_us_ = 0;  // 0: no timer

  // Shadow that joined late.
  static constexpr size_t kPiecesBytesMax = 8u << 20;
  const bool joins_running_;
  bool loading_ = false;         // what follows the state waits until it is loaded
  bool resume_reading_ = false;  // and now it has been
  std::deque<Bytes> pieces_;
  size_t pieces_bytes_ = 0;
  std::optional<LogStart> start_;

  // Shadow.
  FrameDecoder decoder_;  // loop thread only
  bool acknowledging_ = true;
  bool told_ready_ = false;
  bool parting_ = false;  // told the primary to go on alone, which then hangs up
  std::deque<Record> queue_;
  size_t queue_bytes_ = 0;
  std::deque<Record> batch_;       // vCPU thread only: taken from the queue at once, handed out one by one
  std::atomic<bool> halt_{false};  // stopped or fenced, for the vCPU thread between batches
  uint64_t lsn_received_ = 0, mark_received_ = 0, log_offset_ = 0;
  uint64_t input_received_ = 0;
  bool input_ended_ = false;
  std::atomic<uint64_t> executed_lsn_{0};
  std::atomic<bool> ack_wanted_{false};
  std::atomic<uint64_t> ack_at_lsn_{UINT64_MAX};  // the primary should hear at once when this was executed
  struct FrameEnd {
    uint64_t lsn, bytes;
  };
  std::deque<FrameEnd> frame_ends_;  // received, not yet executed
  link_message::Ack last_ack_;
};

}  // namespace lockstep
