// Anything at all as a log: first as a header, the rest as frames. Built with
// -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION (which -fsanitize=fuzzer sets), so that checksums do not keep
// the fuzzer out. What is decoded must come back the same from our own encoder.
#include <algorithm>

#include "error.h"
#include "log/log_file.h"

using namespace lockstep;

namespace {

void check(bool held) {
  if (!held) __builtin_trap();
}

std::vector<Record> decode_frames(std::span<const uint8_t> bytes) {
  FrameDecoder decoder;
  std::vector<Record> all;
  uint64_t offset = 0;
  try {
    while (offset < bytes.size()) {
      const size_t length = FrameDecoder::frame_length(bytes.subspan(offset));
      if (length == 0 || length > bytes.size() - offset) break;
      for (Record& record : decoder.decode(bytes.subspan(offset, length), offset))
        all.push_back(std::move(record));
      offset += length;
    }
  } catch (const Failure& failure) {
    check(failure.code == "ERR_LOCKSTEP_LOG_DAMAGED");
  }
  return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::span<const uint8_t> bytes(data, size);
  LogHeader header;
  try {
    bytes = bytes.subspan(decode_log_header(bytes, &header));
  } catch (const Failure& failure) {
    check(failure.code.starts_with("ERR_LOCKSTEP_"));
  }
  const std::vector<Record> records = decode_frames(bytes);
  FrameEncoder encoder;
  Bytes again;
  for (const Record& record : records) {
    encoder.append(record);
    if (encoder.pending_bytes() % 3 != 0) continue;
    const Bytes frame = encoder.take();
    again.insert(again.end(), frame.begin(), frame.end());
  }
  const Bytes frame = encoder.take();
  again.insert(again.end(), frame.begin(), frame.end());
  check(decode_frames(again) == records);
  return 0;
}
