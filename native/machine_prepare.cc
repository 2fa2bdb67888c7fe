// Where a machine's image and options come from: its caller, a recording, or the primary.
#include <algorithm>
#include <chrono>

#include "log/frame_format.h"
#include "machine.h"
#include "memory/page_pieces.h"
#include "sandbox.h"

namespace lockstep {

namespace {

using HostClock = std::chrono::steady_clock;
constexpr std::chrono::seconds kListenAgain{1};

// A recording read from a file.
class LogSource : public RecordSource {
 public:
  explicit LogSource(std::unique_ptr<LogFileReader> reader) : reader_(std::move(reader)) {}
  Next next(Record* record) override {
    auto got = reader_->next();
    if (!got) return Next::kEnd;
    *record = std::move(*got);
    return Next::kRecord;
  }

 private:
  std::unique_ptr<LogFileReader> reader_;
};

}  // namespace

void Machine::load_image(std::shared_ptr<const ImageFile> file) {
  image_file_ = std::move(file);
  if (image_file_->is_snapshot()) snapshot_ = decode_snapshot_state(image());
  guest_ = snapshot_ ? snapshot_->guest : static_cast<StartMode>(image().header.mode);
}

void Machine::prepare_origin() {
  options_ = config_.options;
  if (config_.fork)
    prepare_fork();
  else
    prepare_image();
  if (config_.mode == Mode::kRun) return;
  LogHeader header;
  header.options = options_.serialise();
  std::copy(std::begin(image().header.sha256), std::end(image().header.sha256), header.image_sha256.begin());
  // A shadow has nothing else to start from; unless it streams it, too.
  const bool by_hash = config_.image_by_hash.value_or(image_file_->is_snapshot());
  const bool on_its_way = config_.store && config_.store->missing() > 0;
  if (!on_its_way && (!by_hash || config_.mode == Mode::kPrimary)) header.image = image_file_->whole();
  start_log(&header);
  Bytes encoded = encode_log_header(header);
  if (!config_.log.empty()) log_ = std::make_unique<LogFileWriter>(config_.log, encoded, config_.log_options);
  if (config_.mode != Mode::kPrimary) return;
  if (on_its_way) header_ = encoded;
  PairOptions pair = config_.pair;
  if (log_start_) pair.start_lsn = log_start_->digest.lsn;
  pair.send_frames = [this](std::span<const uint8_t> stream) {
    return lockstep::send_frames(cable_, stream);
  };
  pair_ = Pair::primary(pair, std::move(encoded), inbox_, [this](const PairEvent& e) {
    if (e.notice == PairNotice::kFenced) control_.stop();
    listener_.on_pair(e);
  });
}

void Machine::prepare_image() {
  load_image(config_.store                ? ImageFile::on_its_way(config_.store)
             : config_.image_path.empty() ? ImageFile::from_bytes(std::move(config_.image))
                                          : ImageFile::open(config_.image_path));
  if (snapshot_) {
    adopt_options(MachineOptions::parse(snapshot_->options));
    plug_in();
    return prepare_snapshot();
  }
  model_ = CpuModel::build(options_.cpu_model);
  options_.cpu_model = model_.serialise();
  if (!options_.memory_bytes) options_.memory_bytes = image().header.memory_bytes;
  plug_in();
  memory_source_ = make_source();
  build();
}

void Machine::plug_in() {
  // Each side of a pair hears what is sent to the other; but where the bridge cannot be told anything later,
  // it must learn the machine by itself.
  config_.nic.flooded =
      (config_.mode == Mode::kPrimary || config_.mode == Mode::kShadow) && !config_.nic.learned;
  if (options_.net) nic_ = open_nic(config_.nic, *options_.net);
  cable_ = nic_.get();
}

void Machine::prepare_replay() {
  auto reader = std::make_unique<LogFileReader>(config_.log);
  const LogHeader& header = reader->header();
  if (header.image.empty() && config_.image.empty() && config_.image_path.empty())
    throw Failure("ERR_LOCKSTEP_IMAGE_MISSING", "the recording holds only its image's hash",
                  "give the image, or the snapshot that it started from, with --image");
  load_image(!header.image.empty()        ? ImageFile::from_bytes(header.image)
             : config_.image_path.empty() ? ImageFile::from_bytes(std::move(config_.image))
                                          : ImageFile::open(config_.image_path));
  if (!std::equal(header.image_sha256.begin(), header.image_sha256.end(), image().header.sha256))
    throw Failure("ERR_LOCKSTEP_WRONG_IMAGE", "this is not the image that was recorded",
                  "give the image the recording was made from");
  options_ = MachineOptions::parse(header.options);
  model_ = CpuModel::parse(options_.cpu_model);
  const std::optional<LogStart>& start = header.start;
  const uint64_t stop_at = config_.stop_at_event;
  if (start && stop_at != 0 && stop_at < start->digest.lsn)
    throw Failure("ERR_LOCKSTEP_ARGUMENT",
                  "this recording starts at event " + std::to_string(start->digest.lsn) +
                      ": it has no event " + std::to_string(stop_at),
                  "give a later event, or the recording of the side that ran before");
  build_from(header);
  log_source_ = std::make_unique<LogSource>(std::move(reader));
}

// A log that does not start at boot starts from the memory that it brings, or where it brings none, from the
// snapshot that is its image.
void Machine::build_from(const LogHeader& header) {
  if (!header.start) {
    if (snapshot_) throw Failure("ERR_LOCKSTEP_LOG_DAMAGED", "the log does not say where it starts");
    memory_source_ = make_source();
    return build();
  }
  if (header.memory.empty() && snapshot_) {
    check_same(snapshot_->start.digest, header.start->digest);
    return prepare_snapshot();
  }
  build(true);
  for (const Bytes& piece : header.memory) decode_pages(piece, *memory_);
  restore(*header.start);
}

// Memory is loaded already.
void Machine::restore(const LogStart& start) {
  run_loop_->restore_state(decode_machine_state(start.state));
  check_same(run_loop_->digest(true, true), start.digest);
}

void Machine::prepare_shadow() {
  Bytes encoded;
  auto on_frame = [this](std::span<const uint8_t> frame) {
    received_.decode(frame, 0);
    std::lock_guard lock(parts_mutex_);
    if (!log_ || log_closed_) return;
    try {
      log_->append(frame, received_.position().chain);
    } catch (const Failure& failure) {
      log_.reset();
      listener_.on_warning(failure.code, failure.what());
    }
  };
  auto on_event = [this](const PairEvent& e) {
    if (e.notice == PairNotice::kFenced) control_.stop();
    listener_.on_pair(e);
  };
  config_.pair.cancelled = [this] { return control_.stopping(); };
  config_.pair.send_frames = [this](std::span<const uint8_t> stream) {
    return lockstep::send_frames(cable_, stream);
  };
  config_.pair.hear_frames = [this, listened = HostClock::time_point{}]() mutable {
    Nic* nic = cable_;
    if (!nic) return;
    const auto& machine = options_.net->mac;
    const auto now = HostClock::now();
    // What the machine says to others of this host is not heard here, but a bridge learns from it all the
    // same.
    if (!heard_.hear(*nic, machine) && now - listened < kListenAgain) return;
    listened = now;
    nic->listen_for(machine);
  };
  config_.pair.frame_logged = [this](std::span<const uint8_t> frame) { heard_.logged(frame); };
  config_.pair.announce = [this] {
    if (Nic* nic = cable_) lockstep::announce(nic, *options_.net);
  };
  std::shared_ptr<Pair> pair =
      Pair::shadow(config_.pair, inbox_, on_event, on_frame, config_.connect_ms, &encoded);
  {
    std::lock_guard lock(pair_mutex_);
    pair_ = std::move(pair);
  }
  // stop() came while there was no pair to stop yet.
  if (control_.stopping()) pair_->stop();
  LogHeader header;
  decode_log_header(encoded, &header);
  if (header.image.empty() && !config_.store)
    throw Failure("ERR_LOCKSTEP_IMAGE_MISSING", "the primary's image is still on its way to it",
                  "stream the same image to this side");
  load_image(header.image.empty() ? ImageFile::on_its_way(config_.store)
                                  : ImageFile::from_bytes(std::move(header.image)));
  if (!std::equal(header.image_sha256.begin(), header.image_sha256.end(), image().header.sha256))
    throw Failure("ERR_LOCKSTEP_WRONG_IMAGE", "the primary's machine started from another image",
                  "stream the same image to this side");
  options_ = MachineOptions::parse(header.options);
  model_ = CpuModel::parse(options_.cpu_model);
  if (config_.nic.kind != NicConfig::Kind::kNone && !options_.net)
    throw Failure("ERR_LOCKSTEP_INVALID_ARGUMENT", "the primary's machine has no network card to join",
                  "start the primary with --net, or the shadow without");
  plug_in();
  header_ = std::move(encoded);
  if (pair_->joins_running()) {
    build(true);
    load_state(&header);
  } else {
    build_from(header);
  }
  if (header.start && !pair_->joins_running()) {
    received_.start_from(*header.start);
    pair_->start_from(*header.start);
  }
  if (!config_.log.empty()) {
    const bool anew = pair_->joins_running();
    if (anew) header.image = image_file_->whole();
    auto log = std::make_unique<LogFileWriter>(config_.log, anew ? encode_log_header(header) : header_,
                                               config_.log_options);
    std::lock_guard lock(parts_mutex_);
    log_ = std::move(log);
  }
  if (!pair_->joins_running()) return;
  const Progression& at = run_loop_->progression();
  pair_->loaded(at.input_bytes, at.input_ended);
}

// A shadow that joins a running machine. Its own log starts where its machine does.
void Machine::load_state(LogHeader* header) {
  LogStart start;
  auto load = [this](std::span<const uint8_t> piece) { decode_pages(piece, *memory_); };
  if (!pair_->receive_state(load, &start)) {
    const PairStatus status = pair_->status();
    throw status.fenced
        ? Failure("ERR_LOCKSTEP_LINK_UNREACHABLE", "this shadow had not joined yet. " + status.fenced_why,
                  "start it again when there is a primary")
        : Failure("ERR_LOCKSTEP_CLOSED", "the shadow was closed before it had joined its primary");
  }
  restore(start);
  received_.start_from(start);
  header->start = std::move(start);
  if (!config_.log.empty()) keep_memory(header);
}

// All that it will need is open.
void Machine::confine() {
  if (!confine_thread(Duty::kMachine))
    listener_.on_warning("ERR_LOCKSTEP_SANDBOX",
                         "this kernel has no seccomp filters: the machine's threads keep all rights");
  try_forbidden_call("forbidden-call");
}

}  // namespace lockstep
