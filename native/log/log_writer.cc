#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "error.h"
#include "fault_point.h"
#include "log/frame_format.h"
#include "log/log_file.h"

namespace lockstep {

namespace {

constexpr uint64_t kEndBytesMax = 64;         // more than the frame of an End can have
constexpr uint64_t kRoomBytes = 1024 * 1024;  // set aside at once: one system call for many frames

bool is_full(int error_number) { return error_number == ENOSPC || error_number == EDQUOT; }

}  // namespace

struct LogFileWriter::State {
  std::string path;
  LogFileOptions options;
  int fd = -1;
  bool regular = false;          // else a pipe or a device: nothing to truncate or to fsync
  uint64_t bytes = 0;            // up to the last whole frame
  uint32_t chain = kChainStart;  // behind it
  uint64_t room = 0;             // up to this byte the disk has room that is ours
  bool sets_aside = true;        // the file system can do that
  bool ended = false;            // a frame could not be written

  ~State() { release(); }
  void open();
  int release();
  int make_room(size_t frame_bytes);
  int write_whole(std::span<const uint8_t> frame);
  bool end(const End& reached);
  [[noreturn]] void throw_write(const std::string& operation, int error_number,
                                const std::string& state = "it is whole up to here") const;
};

void LogFileWriter::State::open() {
  // O_NONBLOCK, because opening a pipe that nobody reads would wait for ever; writing may wait again.
  const int flags =
      O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (options.force ? O_TRUNC : O_EXCL);
  fd = ::open(path.c_str(), flags, 0600);
  if (fd < 0 && errno == EEXIST)
    throw Failure("ERR_LOCKSTEP_LOG_EXISTS", path + " exists already", "use another name, or --force", "open",
                  EEXIST);
  if (fd < 0) throw_write("open", errno);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  struct stat status;
  if (fstat(fd, &status) != 0) throw_write("fstat", errno);
  regular = S_ISREG(status.st_mode);
  // A file that was there may be open to others, and a log carries the guest's secrets.
  if (regular && (status.st_mode & 07777) != 0600 && fchmod(fd, 0600) != 0) throw_write("fchmod", errno);
}

// Gives back what was set aside and not used. 0, or the error of close(2).
int LogFileWriter::State::release() {
  if (fd < 0) return 0;
  if (room > bytes) (void)!ftruncate(fd, static_cast<off_t>(bytes));
  // EINTR: Linux has closed it all the same.
  return ::close(std::exchange(fd, -1)) == 0 || errno == EINTR ? 0 : errno;
}

void LogFileWriter::State::throw_write(const std::string& operation, int error_number,
                                       const std::string& state) const {
  const bool full = is_full(error_number);
  const bool limit = error_number == EFBIG;
  throw_system(full ? "ERR_LOCKSTEP_DISK_FULL" : "ERR_LOCKSTEP_LOG_WRITE", operation, "cannot write " + path,
               full    ? "free some space, or write the log to another disk; " + state
               : limit ? "raise the limit on file sizes (ulimit -f); " + state
               : ended ? state
                       : "",
               error_number);
}

// For a frame, and behind it for the End that closes the log when the next one finds none. 0, or why not.
int LogFileWriter::State::make_room(size_t frame_bytes) {
  const uint64_t needed = bytes + frame_bytes + kEndBytesMax;
  if (!regular || needed <= room) return 0;
  rlimit limit{RLIM_INFINITY, RLIM_INFINITY};
  getrlimit(RLIMIT_FSIZE, &limit);
  if (needed > limit.rlim_cur) return EFBIG;
  // With little room left: what is needed and no more.
  for (const uint64_t target : {std::min<uint64_t>(needed + kRoomBytes, limit.rlim_cur), needed}) {
    if (!sets_aside) return 0;
    int result;
    do
      result =
          fallocate(fd, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(bytes), static_cast<off_t>(target - bytes));
    while (result != 0 && errno == EINTR);
    if (result == 0) {
      room = target;
      return 0;
    }
    sets_aside = is_full(errno) || errno == EFBIG;
  }
  return sets_aside ? errno : 0;
}

// 0, or why not. Of a frame that failed a part may stand behind `bytes`.
int LogFileWriter::State::write_whole(std::span<const uint8_t> frame) {
  if (const int error_number = make_room(frame.size())) return error_number;
  const size_t size = frame.size();
  while (!frame.empty()) {
    const ssize_t written = write(fd, frame.data(), frame.size());
    if (written > 0) {
      frame = frame.subspan(static_cast<size_t>(written));
    } else if (written == 0 || errno != EINTR) {
      return written == 0 ? EIO : errno;
    }
  }
  if (options.fsync && regular && fdatasync(fd) != 0) return errno;
  bytes += size;
  return 0;
}

// Over what got through of the frame that failed, before the rest of that is cut off: the other way round
// somebody else could take the room in between. False: the log is whole, but cut.
bool LogFileWriter::State::end(const End& reached) {
  ended = true;
  if (!regular) return false;
  const Bytes frame = encode_end_frame(chain, {reached.accesses, reached.access_hash, EndReason::kFailed, 0});
  const ssize_t size = static_cast<ssize_t>(frame.size());
  bool done = pwrite(fd, frame.data(), frame.size(), static_cast<off_t>(bytes)) == size;
  if (!done && ftruncate(fd, static_cast<off_t>(bytes)) == 0)
    done = pwrite(fd, frame.data(), frame.size(), static_cast<off_t>(bytes)) == size;
  if (done) bytes += frame.size();
  done = ftruncate(fd, static_cast<off_t>(bytes)) == 0 && done;
  room = bytes;
  if (options.fsync) (void)!fdatasync(fd);
  return done;
}

LogFileWriter::LogFileWriter(const std::string& path, std::span<const uint8_t> header, LogFileOptions options)
    : state_(std::make_unique<State>()) {
  state_->path = path;
  state_->options = options;
  state_->open();
  const int error_number = state_->write_whole(header);
  if (error_number == 0) return;
  // A log without its header is none. With force the file was there before us, so it stays.
  if (!options.force) unlink(path.c_str());
  if (state_->regular) (void)!ftruncate(state_->fd, 0);
  state_->throw_write("write", error_number, "nothing was recorded");
}

LogFileWriter::~LogFileWriter() = default;

void LogFileWriter::append(std::span<const uint8_t> frame, uint32_t chain, const End& reached) {
  if (state_->fd < 0 || state_->ended)
    throw Failure("ERR_LOCKSTEP_INTERNAL", "append to a log that was closed");
  if (fault_due("log-write")) {
    (void)!pwrite(state_->fd, frame.data(), frame.size() / 2, static_cast<off_t>(state_->bytes));
    fault_strike();
  }
  if (const int error_number = state_->write_whole(frame)) {
    const bool done = state_->end(reached);
    state_->throw_write("write", error_number,
                        done ? "it ends cleanly, with what was written until here"
                             : "it is whole up to here, but has no end");
  }
  state_->chain = chain;
}

uint64_t LogFileWriter::bytes() const { return state_->bytes; }

void LogFileWriter::close() {
  // Some file systems tell only here that the disk was full.
  if (const int error_number = state_->release()) state_->throw_write("close", error_number);
}

}  // namespace lockstep
