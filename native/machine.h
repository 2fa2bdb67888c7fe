// A machine: the whole core on one page.
//
//   inputs (descriptors, inbox, time) --> Recorder --+--> log file, Pair (the link to the other side)
//   log file or Pair --> Replayer --+                |
//                                   v                v
//            vCPU <--> RunLoop --> Board of devices --> World (outputs: descriptors, or Pair until committed)
//
// One thread runs the vCPU, the devices and the driver; a Pair has one more.
#pragma once

#include <memory>
#include <optional>
#include <thread>

#include "boot.h"
#include "control_port.h"
#include "image_file.h"
#include "link/pair.h"
#include "log/log_file.h"
#include "machine_options.h"
#include "memory/streamed_image.h"
#include "memory/traced_image.h"
#include "net/heard_frames.h"
#include "net/nic.h"
#include "replay/divergence.h"
#include "replay/recorder.h"
#include "replay/replayer.h"
#include "run_loop.h"
#include "snapshot.h"
#include "tracer.h"

namespace lockstep {

enum class Mode { kRun, kRecord, kReplay, kPrimary, kShadow };

// A machine that stands still, but for its memory.
struct Standing {
  MachineState state;
  Digest digest;
};

// What Machine::fork() leaves: enough for one other machine.
struct Fork {
  std::shared_ptr<const ImageFile> image;
  StartMode guest = StartMode::kProgram;
  MachineOptions options;
  Standing standing;
  std::unique_ptr<GuestMemory> memory;
};

struct SnapshotInfo {
  uint64_t lsn = 0, content_bytes = 0;
  Digest digest;
};

struct MachineConfig {
  Mode mode = Mode::kRun;
  Bytes image;                        // kRun, kRecord, kPrimary; kReplay: where the log has none
  std::string image_path;             // the same in a file
  std::shared_ptr<BlockStore> store;  // the same, still on its way: not kReplay
  uint64_t store_sum = 0;             // what its memory will add up to (image_memory_sum)
  std::shared_ptr<Fork> fork;         // kRun, kRecord: in place of an image
  MachineOptions options;             // likewise; cpu_model holds a level or ""
  bool reseed = false;                // a snapshot or fork goes on with the seed in options
  NicConfig nic;                      // likewise; kNone: a card that is joined to nothing
  int stdin_fd = -1, stdout_fd = -1, stderr_fd = -1;  // duplicated
  std::string log;                                    // written, or read by kReplay; "" none
  LogFileOptions log_options;
  std::optional<bool> image_by_hash;  // absent: a snapshot's log has its hash, any other its image
  uint64_t stop_at_event = 0;
  bool live_after_stop = false;   // kReplay: resumed there, it leaves the log and is recorded no more
  bool trace_pages = false;       // kRun, kReplay from boot: Machine::traced_pages()
  bool confined = true;           // its threads make no system calls but those of their duty (sandbox.h)
  uint32_t kicks_per_second = 0;  // test aid
  uint64_t kick_seed = 1;
  PairOptions pair;
  uint32_t connect_ms = 10'000;
};

struct MachineEnd {
  std::string reason;  // exited signal panic halted shutdown closed fenced end-of-log failed diverged
  uint32_t status = 0;
  std::string detail;
  std::optional<Divergence> divergence;
};

class MachineListener {
 public:
  virtual ~MachineListener() = default;
  // Any thread of the machine.
  virtual void on_state(const char* state) = 0;  // running paused halted failed closed
  virtual void on_ended(const MachineEnd& end) = 0;
  virtual void on_failed(const Failure& failure) = 0;
  virtual void on_pair(const PairEvent& event) = 0;
  virtual void on_warning(const std::string& code, const std::string& detail) = 0;
};

class Machine {
 public:
  // Prepares everything but a shadow, whose image comes over the link; throws Failure.
  Machine(MachineConfig config, MachineListener& listener);
  ~Machine();  // stops and joins

  void start();
  // The pair first: the other side sees a plain loss, never half of an orderly end.
  void stop() {
    stop_pair();
    control_.stop();
    if (streamed_) streamed_->release();
  }
  void join();
  Control& control() { return control_; }
  Inbox& inbox() { return inbox_; }
  ControlPort& control_port() { return control_port_; }

  // ---- only while the vCPU stands still: in a control task, paused, or ended
  kvm_regs registers();
  kvm_sregs segments();
  GuestMemory& memory() { return *memory_; }
  Digest digest();
  bool write_memory(uint64_t gpa, std::span<const uint8_t> bytes);  // false: out of bounds
  // Batches of at most `entries_max` to `flush`; 0 stops tracing.
  void trace(bool exits, bool dirty_pages, size_t entries_max, Tracer::Flush flush);

  // ---- any thread but the machine's: these wait for its next position, and throw ERR_LOCKSTEP_STATE where
  // there is none any more. Once it was started, not the JavaScript thread.
  SnapshotInfo snapshot(const std::string& path, bool force);  // snapshot_writer.h
  std::shared_ptr<Fork> fork();
  // Of a side of a pair whose image was on its way when it was made, and is whole now: other shadows may
  // join. May wait a little for the last pages.
  void image_arrived();
  // Of the image, in the order of their first touch, where the configuration asked for it. Any thread.
  std::vector<uint64_t> traced_pages() const {
    return traced_ ? traced_->touched_pages() : std::vector<uint64_t>();
  }

  struct Stats;
  Stats stats() const;
  std::optional<PairStatus> pair_status() const;
  bool hand_over();  // any thread; Pair::hand_over
  bool built() const { return built_; }
  // Paused, or ended: registers and memory may be looked at from any thread.
  bool standing() const { return ended_ || control_.parked(); }

 private:
  void thread_main();
  void run();
  void prepare_origin();
  void prepare_replay();
  void prepare_shadow();
  void plug_in();
  void check_memory() const;
  void prepare_image();
  void prepare_fork();
  void build_from(const LogHeader& header);
  void prepare_snapshot();
  void load_image(std::shared_ptr<const ImageFile> image);
  void adopt_options(MachineOptions options);
  void build(bool from_state = false);
  void resume_from(const MachineState& state);
  void reseed(const std::array<uint8_t, 32>& had);
  std::unique_ptr<MemorySource> make_source();
  void restore(const LogStart& start);
  static void check_same(const Digest& here, const Digest& there);
  void start_log(LogHeader* header);
  void keep_memory(LogHeader* header) const;
  std::optional<Standing> stand();
  class Meeting;
  void come_to(const std::shared_ptr<Meeting>& meeting);
  void while_standing(const std::function<void(const Standing&)>& work);
  const Image& image() const { return image_file_->image(); }
  bool has_program() const { return guest_ == StartMode::kProgram; }
  // A joining shadow would have to wait for memory that is on its way.
  bool is_whole() const { return !streamed_ || image_arrived_; }
  void serve_joins();
  void load_state(LogHeader* header);
  RecordingClock make_clock(uint64_t start_us) const;
  Driver& go_live();
  void confine();
  void kick_at_random();
  void wait_for_the_primary_to_end();
  void stop_pair();
  void close_log();
  std::unique_ptr<Recorder> make_recorder(std::unique_ptr<FrameEncoder> encoder, RecordingClock clock);
  MachineEnd describe_end(const RunLoop::Result& result) const;

  class Outputs;  // World: control replies, then the pair or the descriptors

  MachineConfig config_;
  MachineListener& listener_;
  const std::thread::id maker_ = std::this_thread::get_id();
  MachineOptions options_;
  Control control_;
  Inbox inbox_;
  ControlPort control_port_{inbox_};
  Fd stdin_, stdout_, stderr_;
  std::unique_ptr<Nic> nic_;          // before the pair, whose thread sends through it
  HeardFrames heard_;                 // a shadow's; the pair's thread's until this side is live
  std::atomic<Nic*> cable_{nullptr};  // the same, for that thread: a shadow's is there later than the pair

  std::shared_ptr<const ImageFile> image_file_;
  StartMode guest_ = StartMode::kProgram;  // how the guest had booted, if that was elsewhere, too
  std::optional<SnapshotState> snapshot_;  // until the machine is built
  std::optional<LogStart> log_start_;      // of one that did not start at boot
  CpuModel model_;
  std::unique_ptr<KvmSystem> system_;
  std::unique_ptr<KvmVm> vm_;
  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<MemorySource> memory_source_;  // may be at work as long as the machine runs
  TracedImage* traced_ = nullptr;                // the same, where somebody wants to know what is touched
  StreamedImage* streamed_ = nullptr;            // the same, where the image is still on its way,
  bool image_arrived_ = false;                   // and then is there; the machine's thread only
  std::unique_ptr<KvmVcpu> vcpu_;
  bool dirty_ring_ = false;
  std::unique_ptr<DirtyTracker> dirty_;
  std::unique_ptr<RunLoop> run_loop_;
  std::unique_ptr<Inputs> inputs_;
  std::unique_ptr<FdWorld> fd_world_;
  std::unique_ptr<Outputs> outputs_;
  std::unique_ptr<LogFileWriter> log_;
  bool log_closed_ = false;
  std::unique_ptr<RecordSource> log_source_;
  std::unique_ptr<MemorySender> memory_sender_;
  Bytes header_;           // of a shadow's primary's log: what its own successor will get
  FrameDecoder received_;  // a shadow's: what its own log goes on from
  std::shared_ptr<Pair> pair_;
  mutable std::mutex pair_mutex_;
  mutable std::mutex parts_mutex_;  // log_, recorder_ and replayer_ come and go while stats() may look
  std::unique_ptr<Recorder> recorder_;
  std::unique_ptr<Watchdog> watchdog_;  // of a recorder's machine
  std::unique_ptr<Replayer> replayer_;
  std::unique_ptr<Tracer> tracer_;
  std::atomic<bool> live_{false}, started_{false}, ended_{false}, built_{false};
  std::vector<uint64_t> traced_pages_;
  std::thread thread_;
};

struct Machine::Stats {
  RunCounts run;
  Progression at;
  FrameEncoder::Counts log;
  NetCounts net;  // what the host lost counts as dropped
  uint64_t log_file_bytes = 0, digests_checked = 0, system_calls = 0, accepted = 0;
  std::vector<std::pair<uint32_t, uint32_t>> unknown_calls;  // number, times
};

}  // namespace lockstep
