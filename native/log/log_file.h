// A log on disk: preamble, header, image, then frames. Reader and writer side by side.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "log/event.h"
#include "log/frame.h"
#include "log/log_start.h"

namespace lockstep {

constexpr uint32_t kLogVersion = 3;

struct LogHeader {
  uint32_t version = kLogVersion;
  // Lines "key=value\n", sorted by key: machine options, CPU model, vendor, host back end. The log only
  // carries them.
  std::string options;
  // The image, whole (compressed on disk), or empty when only its hash was kept (--image-by-hash).
  Bytes image;
  std::array<uint8_t, 32> image_sha256{};
  // Of a log that does not start at boot: from where, and the machine's memory there, in pieces that the log
  // only carries (memory/page_pieces.h).
  std::optional<LogStart> start;
  std::vector<Bytes> memory;
};

// Header and image as they stand at the start of a log file, and as the primary sends them.
Bytes encode_log_header(const LogHeader& header);
// Bytes used, 0 when more are needed; throws ERR_LOCKSTEP_NOT_A_LOG, ERR_LOCKSTEP_LOG_VERSION or
// ERR_LOCKSTEP_LOG_DAMAGED.
size_t decode_log_header(std::span<const uint8_t> bytes, LogHeader* header);

struct LogFileOptions {
  bool force = false;  // overwrite an existing file
  bool fsync = false;  // fdatasync after every frame
};

// Appends frames. Every append is one write(2) (retried when partial). When a frame cannot be written, the
// log is over: append() closes it behind its last whole frame with an End of the reason kFailed, and throws
// ERR_LOCKSTEP_DISK_FULL (ENOSPC, EDQUOT) or ERR_LOCKSTEP_LOG_WRITE. The room for that End is set aside ahead
// of the frames where the file system can do that; where it cannot, a full disk may leave a log that is cut.
class LogFileWriter {
 public:
  // Mode 0600, O_CLOEXEC; ERR_LOCKSTEP_LOG_EXISTS when it exists and force is off.
  LogFileWriter(const std::string& path, std::span<const uint8_t> header, LogFileOptions options);
  ~LogFileWriter();
  // `chain`: the checksum chain behind the frame. `reached`: how far the guest had come, after the last event
  // of the frames before, with what is known outside; a log that has to end before this frame ends there.
  void append(std::span<const uint8_t> frame, uint32_t chain, const End& reached = {});
  uint64_t bytes() const;
  void close();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Reads records in order, and knows how the file ends.
class LogFileReader {
 public:
  explicit LogFileReader(const std::string& path);
  ~LogFileReader();
  const LogHeader& header() const;
  // The next record; nullopt at the end: ended() or cut() then tells which.
  std::optional<Record> next();
  bool ended() const;            // an End record closed it
  bool cut() const;              // the file stops without one (perhaps inside a frame)
  uint64_t offset() const;       // of the next frame
  uint64_t whole_bytes() const;  // up to the last whole frame read so far
  uint64_t file_bytes() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct LogRepair {
  uint64_t kept_bytes, dropped_bytes, events;
};
// Cuts a log back to its last whole, correct frame, in place.
LogRepair repair_log(const std::string& path);

}  // namespace lockstep
