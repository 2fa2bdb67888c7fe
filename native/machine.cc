#include "machine.h"

#include <fcntl.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>

#include "guest/abi.h"
#include "net/frame.h"

namespace lockstep {

namespace {

Fd duplicate(int fd) {
  if (fd < 0) return Fd();
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) throw_system("ERR_LOCKSTEP_RESOURCES", "dup", "a descriptor for the machine's console");
  return Fd(copy);
}

constexpr uint32_t kFinishWaitMs = 60'000;

}  // namespace

class Machine::Outputs : public World {
 public:
  explicit Outputs(Machine& machine) : machine_(machine) {}
  bool output(uint8_t channel, uint64_t lsn, std::span<const uint8_t> bytes) override {
    if (channel == LS_CH_CONTROL) {
      machine_.control_port_.deliver(bytes, machine_.live_);
      return true;
    }
    if (machine_.pair_) return machine_.pair_->output(channel, lsn, bytes);
    if (channel == kNetworkChannel) {
      send_frames(machine_.nic_.get(), bytes);
      return true;
    }
    return machine_.fd_world_->output(channel, lsn, bytes);
  }

 private:
  Machine& machine_;
};

Machine::Machine(MachineConfig config, MachineListener& listener)
    : config_(std::move(config)),
      listener_(listener),
      stdin_(duplicate(config_.stdin_fd)),
      stdout_(duplicate(config_.stdout_fd)),
      stderr_(duplicate(config_.stderr_fd)) {
  control_.on_pause = [this](bool paused) { listener_.on_state(paused ? "paused" : "running"); };
  switch (config_.mode) {
    case Mode::kRun:
    case Mode::kRecord:
    case Mode::kPrimary: prepare_origin(); break;
    case Mode::kReplay: prepare_replay(); break;
    case Mode::kShadow: break;
  }
}

Machine::~Machine() {
  stop();
  join();
}

void Machine::join() {
  if (thread_.joinable()) thread_.join();
}

// ---- the machine itself ---------------------------------------------------------------------------

// Also of a log's header, which says what it likes.
void Machine::check_memory() const {
  constexpr uint64_t kUnit = 2 << 20;
  // The page tables of the guest kernel's direct map have one page for each GiB, and end where the kernel
  // begins.
  constexpr uint64_t kMapped = ((LS_GPA_KERNEL - LS_GPA_TABLES) / kPageBytes - 2) << 30;
  const uint64_t kMax = kMapped - (options_.net ? 1ull << 30 : 0);  // the network card may come behind it
  uint64_t bytes = options_.memory_bytes;
  if (bytes < kUnit || bytes % kUnit || bytes > kMax)
    throw Failure("ERR_LOCKSTEP_MEMORY",
                  "a machine cannot have " + std::to_string(bytes) + " bytes of memory",
                  "give it a multiple of 2 MiB, up to " + std::to_string(kMax >> 30) + " GiB");
}

void Machine::build(bool from_state) {
  bool tracked = config_.mode != Mode::kRun;
  check_memory();
  system_ = std::make_unique<KvmSystem>();
  vm_ = std::make_unique<KvmVm>(*system_);
  if (!memory_) memory_ = std::make_unique<GuestMemory>(options_.memory_bytes);
  if (memory_source_) memory_source_->provide(*memory_);
  dirty_ring_ = vm_->enable_dirty_ring(DirtyTracker::kRingEntries);
  vm_->set_slot(0, 0, memory_->bytes(), memory_->host(), tracked);
  vcpu_ = std::make_unique<KvmVcpu>(*vm_);
  if (tracked) dirty_ = std::make_unique<DirtyTracker>(*vm_, *vcpu_, *memory_, dirty_ring_);
  const bool program = has_program();
  if (from_state)
    prepare_vcpu(model_, *vcpu_);
  else
    boot_image(image(), model_,
               {options_.tty_flags, options_.rows, options_.columns, options_.seed,
                options_.net ? &*options_.net : nullptr},
               *memory_, *vcpu_);

  DigestSchedule schedule;
  if (options_.digest_every) {
    schedule.every_events = options_.digest_every;
    schedule.memory_always = true;
  }
  fd_world_ = std::make_unique<FdWorld>(stdout_.get(), stderr_.get(), control_, &inbox_);
  outputs_ = std::make_unique<Outputs>(*this);
  std::optional<VirtioNetConfig> net;
  if (options_.net)
    net =
        VirtioNetConfig{net_mmio_gpa(options_.memory_bytes), options_.net->mac, options_.net->mtu, !program};
  inputs_ = std::make_unique<Inputs>(inbox_, stdin_.get(), !program, nic_.get(),
                                     net ? frame_bytes_max(net->mtu) : 0, control_);
  run_loop_ = std::make_unique<RunLoop>(RunLoop::Parts{*vm_, *vcpu_, *memory_, model_, options_.seed, program,
                                                       net, dirty_.get(), control_, schedule, tracked,
                                                       [this]() -> Driver& { return go_live(); }});
  if (streamed_ && !from_state)
    run_loop_->memory_digest().begin_with(config_.store_sum,
                                          [this](uint64_t page) { return streamed_->first_term(page); });
  if (traced_ && tracked && !from_state)
    run_loop_->memory_digest().begin_with(traced_->memory_sum(),
                                          [this](uint64_t page) { return traced_->first_term(page); });
  built_ = true;
}

std::unique_ptr<MemorySource> Machine::make_source() {
  if (config_.trace_pages) {
    auto traced = std::make_unique<TracedImage>(image(), config_.confined);
    traced_ = traced.get();
    return traced;
  }
  if (!config_.store) return image_file_->make_source();
  auto streamed = std::make_unique<StreamedImage>(
      config_.store, config_.confined, maker_, [this] { return control_.stopping(); },
      [this](const Failure& failure) { listener_.on_warning(failure.code, failure.what()); });
  streamed_ = streamed.get();
  return streamed;
}

std::unique_ptr<Recorder> Machine::make_recorder(std::unique_ptr<FrameEncoder> encoder,
                                                 RecordingClock clock) {
  if (has_program())
    watchdog_ = std::make_unique<Watchdog>(
        *memory_,
        // To wait for a page is not to compute.
        [this] {
          const uint64_t since_us = run_loop_->computes_since_us();
          return streamed_ ? streamed_->computes_since_us(since_us) : since_us;
        },
        [clock] { return clock.is_fixed() ? UINT64_MAX - 1 : clock.sample(0); }, [this] { vcpu_->kick(); });
  return std::make_unique<Recorder>(Recorder::Parts{
      run_loop_->progression(), *inputs_, control_, *outputs_, clock, std::move(encoder), log_.get(),
      pair_.get(), watchdog_.get(),
      [this](const Failure& failure) { listener_.on_warning(failure.code, failure.what()); }});
}

// The end of what was recorded: from here this machine faces the world itself. A shadow continues its log; a
// replay that was told to leave its log is recorded no more.
Driver& Machine::go_live() {
  auto encoder = pair_ ? std::make_unique<FrameEncoder>(received_) : nullptr;
  // Virtual time goes on from the last logged value; this host's own clock never enters.
  auto recorder = make_recorder(std::move(encoder), make_clock(run_loop_->progression().time_us));
  {
    std::lock_guard lock(parts_mutex_);
    recorder_ = std::move(recorder);
  }
  if (pair_) inputs_->heard(heard_.take());
  if (pair_ && options_.net && !nic_)
    listener_.on_warning("ERR_LOCKSTEP_NET",
                         "this side's network card is joined to nothing: what it sends is lost");
  if (pair_ && is_whole()) serve_joins();
  if (pair_)
    recorder_->took_over(pair_->status().generation);
  else
    run_loop_->stop_digests();
  live_ = true;
  return *recorder_;
}

// From now on a shadow may join while the machine runs.
void Machine::serve_joins() {
  memory_sender_ = std::make_unique<MemorySender>(*memory_);
  pair_->serve_joins(std::move(header_), *memory_sender_, [this] { control_.post([] {}); });
}

// What a shadow gets first is made here, because reading an image takes a while; the rest is the machine's
// own thread's.
void Machine::image_arrived() {
  constexpr auto kLook = std::chrono::milliseconds(10);
  if (!pair_ || !streamed_) return;
  while (!streamed_->is_complete()) {
    if (ended_ || control_.stopping()) return;
    std::this_thread::sleep_for(kLook);
  }
  LogHeader header;
  decode_log_header(header_, &header);
  header.image = image_file_->whole();
  control_.post([this, encoded = std::make_shared<Bytes>(encode_log_header(header))] {
    header_ = std::move(*encoded);
    image_arrived_ = true;
    if (live_) serve_joins();
  });
}

RecordingClock Machine::make_clock(uint64_t start_us) const {
  return options_.fixed_time_us ? RecordingClock::fixed(options_.fixed_time_us)
                                : RecordingClock::following_host(start_us);
}

void Machine::start() {
  started_ = true;
  thread_ = std::thread([this] { thread_main(); });
}

void Machine::thread_main() {
  std::thread kicker;
  pthread_setname_np(pthread_self(), "lockstep-vcpu");
  try {
    if (config_.mode == Mode::kShadow) prepare_shadow();
    vcpu_->adopt_thread();
    control_.on_poke([this] {
      vcpu_->kick();
      if (pair_) pair_->nudge();
    });
    if (config_.confined) confine();
    if (config_.kicks_per_second) kicker = std::thread([this] { kick_at_random(); });
    listener_.on_state("running");
    run();
    listener_.on_state("halted");
  } catch (const Diverged& diverged) {
    if (pair_) {
      pair_->diverged(diverged.what());
      pair_->settle_notices();
    }
    MachineEnd end;
    end.reason = "diverged";
    end.detail = diverged.what();
    end.divergence = diverged.divergence;
    ended_ = true;
    listener_.on_state("failed");
    listener_.on_ended(end);
  } catch (const Failure& failure) {
    // A shadow that cannot go on must not seem to protect.
    if (pair_ && !live_) pair_->diverged(failure.what());
    if (pair_) pair_->settle_notices();
    ended_ = true;
    if (control_.stopping() && failure.code == "ERR_LOCKSTEP_CLOSED") {
      listener_.on_ended({"closed", 0, "", {}});
    } else {
      listener_.on_state("failed");
      listener_.on_failed(failure);
    }
  } catch (const std::exception& error) {
    ended_ = true;
    listener_.on_state("failed");
    listener_.on_failed(
        Failure("ERR_LOCKSTEP_INTERNAL", error.what(), "this is a defect of Lockstep: please report it"));
  }
  ended_ = true;
  if (kicker.joinable()) kicker.join();
  watchdog_.reset();
  // Whoever reads its output sees the end of it now, not only when the machine is closed.
  stdin_ = Fd();
  stdout_ = Fd();
  stderr_ = Fd();
  stop_pair();
  if (tracer_) tracer_.reset();
  if (vcpu_) vcpu_->release_thread();
  control_port_.abandon();
  control_.thread_ended();
  if (run_loop_) run_loop_->serve_postponed();
}

void Machine::run() {
  Driver* driver;
  if (log_source_ || config_.mode == Mode::kShadow) {
    RecordSource& source = log_source_ ? *log_source_ : *pair_;
    auto replayer = std::make_unique<Replayer>(
        Replayer::Parts{run_loop_->progression(), source, log_source_ != nullptr, *outputs_, control_,
                        *memory_, pair_.get(), config_.stop_at_event, has_program(), config_.live_after_stop,
                        [this] { return run_loop_->computes_since_us(); }});
    std::lock_guard lock(parts_mutex_);
    replayer_ = std::move(replayer);
    driver = replayer_.get();
  } else {
    if (pair_ && !pair_->wait_protected()) return listener_.on_ended({"closed", 0, "", {}});
    if (pair_ && is_whole()) serve_joins();
    auto encoder = config_.mode == Mode::kRun ? nullptr : std::make_unique<FrameEncoder>(received_);
    // A machine that goes on from elsewhere does so at its own time.
    auto recorder = make_recorder(std::move(encoder), make_clock(run_loop_->progression().time_us));
    std::lock_guard lock(parts_mutex_);
    recorder_ = std::move(recorder);
    live_ = true;
    driver = recorder_.get();
  }
  // However it stops: what was traced last is told before the end.
  std::unique_ptr<void, std::function<void(void*)>> hand_over(this, [this](void*) { tracer_.reset(); });
  RunLoop::Result result = run_loop_->run(*driver);
  hand_over.reset();
  if (config_.mode == Mode::kShadow && !live_ && result.by_guest) wait_for_the_primary_to_end();
  MachineEnd end = describe_end(result);
  if (pair_ && live_ && end.reason != "fenced") {
    pair_->finish(result.end, kFinishWaitMs);
    end = describe_end(result);  // it may have been fenced off while its last output waited
  }
  close_log();
  ended_ = true;
  if (pair_) pair_->settle_notices();
  listener_.on_ended(end);
}

// A shadow's pair may still be receiving when the machine is stopped.
void Machine::close_log() {
  std::lock_guard lock(parts_mutex_);
  log_closed_ = true;
  if (log_) log_->close();
}

// The guest has ended here too. Whether its last output has reached the world, only the primary knows.
void Machine::wait_for_the_primary_to_end() {
  RecordSource::Next next;
  Record record;
  do {
    next = pair_->next(&record);
    if (next == RecordSource::Next::kNudged && !control_.stopping()) control_.serve();
  } while (next == RecordSource::Next::kRecord || next == RecordSource::Next::kNudged);
  live_ = next == RecordSource::Next::kLive;
}

MachineEnd Machine::describe_end(const RunLoop::Result& result) const {
  static const char* const names[] = {"exited", "signal", "panic", "halted", "shutdown", "closed", "closed"};
  const PairStatus pair = pair_ ? pair_->status() : PairStatus{};
  if (pair.handed_over) return {"handed-over", 0, "the shadow goes on", {}};
  if (pair.fenced) {
    const bool known = !pair.fenced_why.empty();
    return {"fenced", 0, known ? pair.fenced_why : "another side won the machine's next generation", {}};
  }
  if (replayer_ && replayer_->ran_past_log()) return {"end-of-log", 0, "the recording was cut here", {}};
  if (result.by_guest)
    return {names[static_cast<int>(result.end.reason)], result.end.status, result.detail, {}};
  if (live_ || control_.stopping()) return {"closed", 0, "", {}};
  if (replayer_ && replayer_->recorded_end()) {
    if (replayer_->recorded_end()->reason == EndReason::kFailed)
      return {"failed", 0, "its log could not be written any further", {}};
    return {"closed", 0, "the recording was closed here", {}};
  }
  return {"end-of-log", 0, "the recording was cut here", {}};
}

void Machine::stop_pair() {
  std::shared_ptr<Pair> pair;
  {
    std::lock_guard lock(pair_mutex_);
    pair = pair_;
  }
  if (pair) pair->stop();
}

void Machine::kick_at_random() {
  std::mt19937_64 random(config_.kick_seed);
  std::exponential_distribution<double> gap(config_.kicks_per_second);
  // Finding the pages of a program as large as Python again takes 17 ms where a page fault of the guest is
  // dear.
  constexpr uint64_t kForgetGapUs = 200'000;
  uint64_t forgot_us = monotonic_us();
  while (!ended_ && !control_.stopping()) {
    double seconds = std::min(gap(random), 0.1);
    timespec pause{0, static_cast<long>(seconds * 1e9)};
    nanosleep(&pause, nullptr);
    if (monotonic_us() - forgot_us >= kForgetGapUs) {
      run_loop_->forget_page_tables();
      forgot_us = monotonic_us();
    }
    vcpu_->kick();
  }
}

// ---- looking inside ---------------------------------------------------------------------------------

kvm_regs Machine::registers() {
  vcpu_->complete_access();
  return vcpu_->state().regs;
}

kvm_sregs Machine::segments() { return vcpu_->sregs(); }

Digest Machine::digest() {
  if (!built_) throw Failure("ERR_LOCKSTEP_NOT_STARTED", "the shadow has no machine yet");
  return run_loop_->digest(true, true);
}

bool Machine::write_memory(uint64_t gpa, std::span<const uint8_t> bytes) {
  if (!memory_->write(gpa, bytes)) return false;
  // The bytes may be page tables, of which KVM may hold a copy.
  vm_->flush_page_tables();
  return true;
}

void Machine::trace(bool exits, bool dirty_pages, size_t entries_max, Tracer::Flush flush) {
  if (!built_) return;
  run_loop_->observe(nullptr);
  tracer_.reset();  // hands over what it has, the pages dirtied last included
  memory_->watch(nullptr);
  if (!entries_max) return;
  std::function<std::vector<uint64_t>()> pages;
  if (dirty_pages) {
    if (!dirty_) {
      // An unrecorded machine tracks nothing until somebody asks.
      vm_->set_slot(0, 0, memory_->bytes(), memory_->host(), true);
      dirty_ = std::make_unique<DirtyTracker>(*vm_, *vcpu_, *memory_, dirty_ring_);
      run_loop_->set_dirty(dirty_.get());
    }
    memory_->watch(&traced_pages_);
    pages = [this] {
      dirty_->harvest();
      return std::exchange(traced_pages_, {});
    };
  }
  tracer_ = std::make_unique<Tracer>(exits, std::move(pages), entries_max, std::move(flush));
  run_loop_->observe([this](const Progression& at, const Access& access) { tracer_->access(at, access); });
}

bool Machine::hand_over() {
  std::lock_guard lock(pair_mutex_);
  return pair_ && pair_->hand_over();
}

std::optional<PairStatus> Machine::pair_status() const {
  std::lock_guard lock(pair_mutex_);
  if (!pair_) return std::nullopt;
  return pair_->status();
}

}  // namespace lockstep
