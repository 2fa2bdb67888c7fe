// Random records and small files for the log's tests.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include "log/log_file.h"
#include "test/check.h"

namespace lockstep::test {

inline uint64_t any_size_number() { return random()() >> below(64); }

inline Bytes random_bytes(size_t size, bool text) {
  Bytes bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(text ? 'a' + below(8) : below(256));
  return bytes;
}

inline Input random_input() {
  Input input;
  input.kind = below(3) != 0 ? InputKind::kData : static_cast<InputKind>(below(8));
  input.channel = static_cast<uint8_t>(below(3) != 0 ? 0 : below(2) != 0 ? below(5) : below(256));
  if (input.kind == InputKind::kPacket) input.channel = 0;
  const size_t size = below(20) == 0 ? below(5000) : below(4) == 0 ? below(300) : below(14);
  input.bytes = random_bytes(size, below(2) != 0);
  return input;
}

inline Event random_event(uint64_t lsn, uint64_t* time_us) {
  Event event;
  event.lsn = lsn;
  event.accesses = below(4) == 0 ? any_size_number() : below(10);
  event.access_hash = static_cast<uint16_t>(below(65536));
  if (below(5) != 0)
    event.time_us = *time_us += below(8) == 0 ? any_size_number() : below(uint64_t{1} << below(34));
  for (uint64_t i = below(3) == 0 ? below(5) : below(2); i > 0; i--) event.inputs.push_back(random_input());
  return event;
}

inline Digest random_digest(uint64_t lsn) {
  Digest digest;
  digest.lsn = below(10) == 0 ? any_size_number() : lsn;
  digest.registers = random()();
  digest.devices = random()();
  if (below(2) != 0) digest.memory = random()();
  digest.whole = below(4) == 0;
  for (ChannelPosition& channel : digest.channels)
    if (below(2) != 0) channel = {any_size_number(), random()()};
  if (below(2) != 0) digest.register_values.resize(below(8) == 0 ? 1 + below(255) : 18);
  for (uint64_t& value : digest.register_values) value = any_size_number();
  for (uint64_t i = below(2) * below(300), page = 0; i > 0; i--)
    digest.pages.push_back({page += any_size_number() >> 40, static_cast<uint32_t>(random()())});
  return digest;
}

// In order, ended when asked.
inline std::vector<Record> random_records(size_t count, bool ended) {
  std::vector<Record> records;
  uint64_t lsn = 0, time_us = 1'700'000'000'000'000;
  while (records.size() < count) {
    const uint64_t kind = below(20);
    if (kind == 0) {
      records.push_back(random_digest(lsn));
    } else if (kind == 2) {
      for (const bool last : {false, true}) {
        Checkpoint part{lsn + 1, any_size_number(), static_cast<uint16_t>(below(65536)), time_us, last, {},
                        {}};
        if (last) part.vcpu = random_bytes(below(9000), false);
        for (uint64_t i = below(4), page = 0; i > 0; i--)
          part.pages.push_back({page += 1 + below(99999), random_bytes(4096, true)});
        records.push_back(part);
      }
      lsn++;
    } else if (kind == 1) {
      records.push_back(Takeover{lsn, any_size_number()});
    } else {
      records.push_back(random_event(++lsn, &time_us));
    }
  }
  if (ended)
    records.push_back(End{any_size_number(), static_cast<uint16_t>(below(65536)),
                          static_cast<EndReason>(below(7)), static_cast<uint32_t>(random()())});
  return records;
}

// One frame for every so many records, at random up to `frame_records_max`.
inline std::vector<Bytes> to_frames(const std::vector<Record>& records, size_t frame_records_max) {
  FrameEncoder encoder;
  std::vector<Bytes> frames;
  for (size_t i = 0; i < records.size();) {
    for (uint64_t left = 1 + below(frame_records_max); left > 0 && i < records.size(); left--)
      encoder.append(records[i++]);
    frames.push_back(encoder.take());
  }
  return frames;
}

// A file of its own name, gone at the end of its scope.
class TemporaryFile {
 public:
  TemporaryFile() { close(mkstemp(path_)); }
  ~TemporaryFile() { unlink(path_); }
  std::string path() const { return path_; }
  void write(const Bytes& bytes) const {
    const int fd = open(path_, O_WRONLY | O_TRUNC | O_CLOEXEC);
    CHECK(::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    close(fd);
  }

 private:
  char path_[32] = "/tmp/lockstep-test-XXXXXX";
};

inline LogHeader small_header() {
  LogHeader header;
  header.options = "cpu=x86-64-v2\nmemory=16777216\n";
  header.image.assign(300, 'i');
  header.image_sha256.fill(7);
  return header;
}

// What a reader makes of a file: its records, and how it ended.
struct Reading {
  std::vector<Record> records;
  bool ended = false, cut = false;
  std::string code, message;  // of the failure, if any
  uint64_t whole_bytes = 0;
};

inline Reading read_log(const std::string& path) {
  Reading reading;
  reading.code = failure_code(
      [&] {
        LogFileReader reader(path);
        reading.code = failure_code(
            [&] {
              while (std::optional<Record> record = reader.next()) reading.records.push_back(*record);
            },
            &reading.message);
        reading.ended = reader.ended();
        reading.cut = reader.cut();
        reading.whole_bytes = reader.whole_bytes();
        if (!reading.code.empty()) throw Failure(reading.code, reading.message);
      },
      &reading.message);
  return reading;
}

}  // namespace lockstep::test
