#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "error.h"
#include "log/log_file.h"

namespace lockstep {
namespace {

constexpr size_t kReadBytes = 256 * 1024;

}  // namespace

struct LogFileReader::State {
  std::string path;
  int fd = -1;
  uint64_t file_bytes = 0;  // as it was when opened: a log that is being written is read up to there
  uint64_t read_bytes = 0;
  Bytes buffer;
  size_t begin = 0, end = 0;  // of what was read and not yet decoded
  LogHeader header;
  FrameDecoder decoder;
  std::vector<Record> records;  // of the last frame
  size_t next_record = 0;
  bool ended = false;
  bool exhausted = false;
  std::optional<Failure> damage;

  ~State() {
    if (fd >= 0) ::close(fd);
  }
  void open();
  void read_header();
  bool read_more();
  bool read_frame();
  bool decode_next_frame();
  uint64_t offset() const { return read_bytes - (end - begin); }
  std::span<const uint8_t> unread() const { return {buffer.data() + begin, end - begin}; }
  [[noreturn]] void throw_read(const std::string& operation) const {
    throw_system("ERR_LOCKSTEP_LOG_READ", operation, "cannot read " + path);
  }
  [[noreturn]] void throw_no_log(const std::string& what) const {
    throw Failure("ERR_LOCKSTEP_NOT_A_LOG", path + " is not a Lockstep log: " + what,
                  "logs are written by `lockstep record --log FILE`");
  }
};

void LogFileReader::State::open() {
  fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0) throw_read("open");
  struct stat status;
  if (fstat(fd, &status) != 0) throw_read("fstat");
  if (!S_ISREG(status.st_mode)) throw_no_log("it is not a file");
  if (status.st_size == 0) throw_no_log("it is empty");
  file_bytes = static_cast<uint64_t>(status.st_size);
}

// Not mapped but read: whoever truncates a mapped file kills the process that reads it. False when there is
// no more.
bool LogFileReader::State::read_more() {
  if (begin > 0) {
    std::copy(buffer.begin() + static_cast<ptrdiff_t>(begin), buffer.begin() + static_cast<ptrdiff_t>(end),
              buffer.begin());
    end -= begin;
    begin = 0;
  }
  const size_t wanted = std::min<uint64_t>(std::max(kReadBytes, end), file_bytes - read_bytes);
  if (wanted == 0) return false;
  if (buffer.size() < end + wanted) buffer.resize(end + wanted);
  ssize_t got;
  do got = pread(fd, buffer.data() + end, wanted, static_cast<off_t>(read_bytes));
  while (got < 0 && errno == EINTR);
  if (got < 0) throw_read("pread");
  end += static_cast<size_t>(got);
  read_bytes += static_cast<uint64_t>(got);
  return got > 0;
}

void LogFileReader::State::read_header() {
  while (read_more()) {
    const size_t used = decode_log_header(unread(), &header);
    if (used == 0) continue;
    begin += used;
    if (header.start) decoder.start_from(*header.start);
    return;
  }
  throw Failure("ERR_LOCKSTEP_LOG_DAMAGED",
                path + " is damaged: it ends at byte " + std::to_string(read_bytes) + ", inside its header",
                "without its header a log cannot be replayed: take another copy of it");
}

// Whether there is a whole frame at the front of the buffer, which then starts a new one.
bool LogFileReader::State::read_frame() {
  size_t length;
  try {
    while ((length = FrameDecoder::frame_length(unread())) == 0 || length > end - begin) {
      if (read_more()) continue;
      if (length == 0 || !decoder.hides_a_frame(unread())) return false;
      length = end - begin;  // decode() finds that it wants more, and names the byte
      break;
    }
  } catch (const Failure& failure) {
    if (failure.code != "ERR_LOCKSTEP_LOG_DAMAGED") throw;
    // It names no byte; decode() finds the same fault and does.
    length = end - begin;
  }
  records = decoder.decode(unread().first(length), offset());
  next_record = 0;
  begin += length;
  return true;
}

bool LogFileReader::State::decode_next_frame() {
  if (damage) throw *damage;
  if (exhausted) return false;
  try {
    if (ended && (begin < end || read_more()))
      throw Failure("ERR_LOCKSTEP_LOG_DAMAGED",
                    "the log is damaged at byte " + std::to_string(offset()) + ": something follows its end",
                    "everything before that byte is whole: repairing the log keeps it");
    exhausted = ended || !read_frame();
  } catch (const Failure& failure) {
    if (failure.code == "ERR_LOCKSTEP_LOG_DAMAGED") damage = failure;
    throw;
  }
  return !exhausted;
}

LogFileReader::LogFileReader(const std::string& path) : state_(std::make_unique<State>()) {
  state_->path = path;
  state_->open();
  state_->read_header();
}

LogFileReader::~LogFileReader() = default;

const LogHeader& LogFileReader::header() const { return state_->header; }

std::optional<Record> LogFileReader::next() {
  State& s = *state_;
  while (s.next_record == s.records.size())
    if (!s.decode_next_frame()) return std::nullopt;
  Record& record = s.records[s.next_record++];
  if (std::holds_alternative<End>(record)) s.ended = true;
  return std::move(record);
}

bool LogFileReader::ended() const { return state_->ended; }
bool LogFileReader::cut() const { return state_->exhausted && !state_->ended; }
uint64_t LogFileReader::offset() const { return state_->offset(); }
uint64_t LogFileReader::whole_bytes() const { return state_->offset(); }
uint64_t LogFileReader::file_bytes() const { return state_->file_bytes; }

LogRepair repair_log(const std::string& path) {
  LogFileReader reader(path);
  uint64_t events = 0;
  try {
    while (const std::optional<Record> record = reader.next()) {
      const auto* checkpoint = std::get_if<Checkpoint>(&*record);
      events += std::holds_alternative<Event>(*record) || (checkpoint && checkpoint->last);
    }
  } catch (const Failure& failure) {
    if (failure.code != "ERR_LOCKSTEP_LOG_DAMAGED") throw;
  }
  const LogRepair repair{reader.whole_bytes(), reader.file_bytes() - reader.whole_bytes(), events};
  if (repair.dropped_bytes == 0) return repair;
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  const auto kept = static_cast<off_t>(repair.kept_bytes);
  const bool done = fd >= 0 && ftruncate(fd, kept) == 0 && fsync(fd) == 0;
  const int error_number = errno;
  if (fd >= 0) close(fd);
  if (!done)
    throw_system("ERR_LOCKSTEP_LOG_WRITE", fd < 0 ? "open" : "ftruncate", "cannot repair " + path, {},
                 error_number);
  return repair;
}

}  // namespace lockstep
