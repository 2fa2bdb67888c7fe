#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "error.h"
#include "fault_point.h"
#include "log/log_file.h"

namespace lockstep {

struct LogFileWriter::State {
  std::string path;
  LogFileOptions options;
  int fd = -1;
  bool regular = false;  // else a pipe or a device: nothing to truncate or to fsync
  uint64_t bytes = 0;    // up to the last whole frame

  ~State() {
    if (fd >= 0) ::close(fd);
  }
  void open();
  void write_whole(std::span<const uint8_t> bytes);
  [[noreturn]] void throw_write(const std::string& operation, int error_number) const;
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

void LogFileWriter::State::throw_write(const std::string& operation, int error_number) const {
  const bool full = error_number == ENOSPC || error_number == EDQUOT;
  const bool limit = error_number == EFBIG;
  throw_system(full ? "ERR_LOCKSTEP_DISK_FULL" : "ERR_LOCKSTEP_LOG_WRITE", operation, "cannot write " + path,
               full    ? "free some space, or write the log to another disk; it is whole up to here"
               : limit ? "raise the limit on file sizes (ulimit -f); the log is whole up to here"
                       : "",
               error_number);
}

// All of it or nothing: whatever part of a frame got through is cut off again.
void LogFileWriter::State::write_whole(std::span<const uint8_t> frame) {
  const size_t size = frame.size();
  while (!frame.empty()) {
    const ssize_t written = write(fd, frame.data(), frame.size());
    if (written > 0) {
      frame = frame.subspan(static_cast<size_t>(written));
    } else if (written == 0 || errno != EINTR) {
      const int error_number = written == 0 ? EIO : errno;
      if (regular && frame.size() < size && ftruncate(fd, static_cast<off_t>(bytes)) == 0)
        lseek(fd, static_cast<off_t>(bytes), SEEK_SET);
      throw_write("write", error_number);
    }
  }
  bytes += size;
  if (options.fsync && regular && fdatasync(fd) != 0) throw_write("fdatasync", errno);
}

LogFileWriter::LogFileWriter(const std::string& path, std::span<const uint8_t> header, LogFileOptions options)
    : state_(std::make_unique<State>()) {
  state_->path = path;
  state_->options = options;
  state_->open();
  try {
    state_->write_whole(header);
  } catch (...) {
    // A log without its header is none. With force the file was there before us, so it stays.
    if (!options.force) unlink(path.c_str());
    throw;
  }
}

LogFileWriter::~LogFileWriter() = default;

void LogFileWriter::append(std::span<const uint8_t> frame) {
  if (state_->fd < 0) throw Failure("ERR_LOCKSTEP_INTERNAL", "append to a log that was closed");
  if (fault_due("log-write")) {
    (void)!pwrite(state_->fd, frame.data(), frame.size() / 2, static_cast<off_t>(state_->bytes));
    fault_strike();
  }
  state_->write_whole(frame);
}

uint64_t LogFileWriter::bytes() const { return state_->bytes; }

void LogFileWriter::close() {
  if (state_->fd < 0) return;
  // Some file systems tell only here that the disk was full. EINTR: Linux has closed it all the same.
  if (::close(std::exchange(state_->fd, -1)) != 0 && errno != EINTR) state_->throw_write("close", errno);
}

}  // namespace lockstep
