// A machine that stands still, seen from outside: snapshots and forks. The vCPU's thread may open no file and
// no other machine, so whoever wants that does it on a thread of his own, while that one waits for him.
#include <condition_variable>

#include "guest/abi.h"
#include "log/frame_format.h"
#include "machine.h"
#include "memory/digest.h"
#include "memory/page_pieces.h"
#include "snapshot_writer.h"

namespace lockstep {

namespace {

Failure not_possible(const std::string& why, const std::string& hint = {}) {
  return Failure("ERR_LOCKSTEP_STATE", why, hint);
}

}  // namespace

// Where the vCPU's thread and the other one meet.
class Machine::Meeting {
 public:
  void arrive(std::optional<Standing> standing, std::optional<Failure> failure) {
    std::unique_lock lock(mutex_);
    standing_ = std::move(standing);
    failure_ = std::move(failure);
    arrived_ = true;
    changed_.notify_all();
    if (standing_) changed_.wait(lock, [&] { return over_; });
  }
  // Throws the Failure that came instead.
  const Standing& wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return arrived_; });
    if (failure_) throw *failure_;
    return *standing_;
  }
  void end() {
    std::lock_guard lock(mutex_);
    over_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Standing> standing_;
  std::optional<Failure> failure_;
  bool arrived_ = false, over_ = false;
};

// The machine's own thread, or another one as long as that has not begun.
std::optional<Standing> Machine::stand() {
  if (ended_) throw not_possible("the machine is over");
  if (!built_ || (config_.mode == Mode::kShadow && !live_))
    throw not_possible("this side is a shadow, and its machine its primary's", "ask at the live side");
  auto state = run_loop_->save_standing();
  if (!state) return std::nullopt;
  // What it goes on with elsewhere is a console of its own, whose input counts from nothing.
  state->at.input_bytes = 0;
  state->at.input_ended = false;
  return Standing{std::move(*state), run_loop_->digest(false, false)};
}

void Machine::while_standing(const std::function<void(const Standing&)>& work) {
  if (!started_) {
    const auto standing = stand();
    if (!standing) throw not_possible("the machine has not run yet", "start it first");
    return work(*standing);
  }
  auto meeting = std::make_shared<Meeting>();
  control_.post([this, meeting] { come_to(meeting); });
  const std::unique_ptr<Meeting, void (*)(Meeting*)> end(meeting.get(), [](Meeting* m) { m->end(); });
  work(meeting->wait());
}

void Machine::come_to(const std::shared_ptr<Meeting>& meeting) {
  try {
    auto standing = stand();
    if (standing) return meeting->arrive(std::move(standing), std::nullopt);
    // In the midst of an access: once more when that is over.
    if (!control_.parked()) return run_loop_->postpone([this, meeting] { come_to(meeting); });
    meeting->arrive(std::nullopt, not_possible("the guest is paused in the midst of its output",
                                               "read its output, and resume it"));
  } catch (const Failure& failure) {
    meeting->arrive(std::nullopt, failure);
  }
}

SnapshotInfo Machine::snapshot(const std::string& path, bool force) {
  SnapshotFile file(path, force);
  SnapshotInfo info;
  while_standing([&](const Standing& standing) {
    PageSurvey pages(*memory_);
    SnapshotState snapshot;
    snapshot.guest = guest_;
    snapshot.options = options_.serialise();
    snapshot.start = {standing.digest, standing.state.at.time_us, kChainStart,
                      encode_machine_state(standing.state)};
    snapshot.start.digest.memory = pages.digest();
    snapshot.start.digest.whole = true;
    snapshot.page_hashes = pages.take_hashes();
    info = {standing.digest.lsn, pages.content_bytes(), snapshot.start.digest};
    const SnapshotNeeds needs{model_.vendor(), model_.level(), options_.net.has_value()};
    pages.write(file, snapshot_manifest(image_file_->image(), snapshot.start, needs),
                encode_snapshot_state(snapshot));
  });
  file.appear();  // the guest goes on meanwhile
  return info;
}

std::shared_ptr<Fork> Machine::fork() {
  if (streamed_ && !streamed_->is_complete())
    throw not_possible("the machine's memory is still on its way", "fork it when its image is whole");
  auto fork = std::make_shared<Fork>();
  fork->image = image_file_;
  fork->guest = guest_;
  fork->options = options_;
  while_standing([&](const Standing& standing) {
    fork->standing = standing;
    fork->memory = memory_->fork();
  });
  return fork;
}

// ---- a machine that starts so

// Of its options, what its starting decides anew.
void Machine::adopt_options(MachineOptions options) {
  const MachineOptions given = std::exchange(options_, std::move(options));
  if (config_.reseed) options_.seed = given.seed;
  options_.digest_every = given.digest_every;
  options_.host = given.host;
  if (config_.nic.kind != NicConfig::Kind::kNone && !options_.net)
    throw Failure("ERR_LOCKSTEP_INVALID_ARGUMENT", "the machine that was saved has no network card to join",
                  "leave --net out");
  model_ = CpuModel::parse(options_.cpu_model);
}

void Machine::prepare_fork() {
  const Fork& fork = *config_.fork;
  image_file_ = fork.image;
  guest_ = fork.guest;
  adopt_options(fork.options);
  plug_in();
  memory_ = std::move(config_.fork->memory);
  build(true);
  resume_from(fork.standing.state);
  check_same(run_loop_->digest(false, false), fork.standing.digest);
  reseed(fork.options.seed);
}

// The guest kernel draws from a seed of its own, which is in its memory. A replay, which has the machine's
// options from its log, does the same.
void Machine::reseed(const std::array<uint8_t, 32>& had) {
  if (has_program() && had != options_.seed)
    memory_->write(LS_GPA_BOOT + offsetof(ls_boot, random), options_.seed);
}

void Machine::prepare_snapshot() {
  const SnapshotState snapshot = std::move(*std::exchange(snapshot_, std::nullopt));
  memory_source_ = make_source();
  build(true);
  resume_from(decode_machine_state(snapshot.start.state));
  MemoryDigest& digest = run_loop_->memory_digest();
  size_t next = 0;
  for (const ImageSegment& segment : image().segments)
    for (uint64_t page = segment.gpa / kPageBytes; page < (segment.gpa + segment.bytes) / kPageBytes; page++)
      digest.adopt(page, snapshot.page_hashes[next++]);
  Digest here = run_loop_->digest(false, false);
  here.memory = digest.value();
  check_same(here, snapshot.start.digest);
  log_start_ = snapshot.start;
  reseed(MachineOptions::parse(snapshot.options).seed);
}

void Machine::resume_from(const MachineState& state) {
  run_loop_->restore_state(state);
  memory_->take_dirty();
  memory_->forget_written();
}

// The log of a machine that does not begin at boot. A fork's brings its memory along; a snapshot is there to
// be had.
void Machine::start_log(LogHeader* header) {
  if (config_.fork) {
    const MachineState& state = config_.fork->standing.state;
    run_loop_->memory_digest().update_all(*memory_);
    log_start_ = {run_loop_->digest(true, false), state.at.time_us, kChainStart, encode_machine_state(state)};
    log_start_->digest.whole = true;
    keep_memory(header);
  }
  header->start = log_start_;
  if (log_start_) received_.start_from(*log_start_);
}

void Machine::keep_memory(LogHeader* header) const {
  const std::vector<uint64_t> pages = touched_pages(*memory_);
  for (size_t at = 0; at < pages.size(); at += kPiecePagesMax) {
    const size_t count = std::min(kPiecePagesMax, pages.size() - at);
    header->memory.push_back(encode_pages(*memory_, std::span(pages).subspan(at, count)));
  }
}

// That the machine is the same as the one whose state this was, its digest says.
void Machine::check_same(const Digest& here, const Digest& there) {
  const char* what = here.lsn != there.lsn               ? "its position"
                     : here.registers != there.registers ? "a register"
                     : here.devices != there.devices     ? "a device"
                     : here.memory != there.memory       ? "its memory"
                     : here.channels != there.channels   ? "its output"
                                                         : nullptr;
  if (what)
    throw Failure(
        "ERR_LOCKSTEP_STATE_DAMAGED",
        "the machine is not what it was at event " + std::to_string(there.lsn) + ": " + what + " differs",
        "what was sent or recorded is damaged, or this host's processor is another");
}

}  // namespace lockstep
