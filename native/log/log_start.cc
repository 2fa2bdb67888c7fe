#include "log/log_start.h"

#include "error.h"
#include "log/record_codec.h"

namespace lockstep {

Bytes encode_log_start(const LogStart& start) {
  Bytes record, out;
  DeltaState none;
  encode_record(start.digest, none, record);
  put_fixed(out, start.time_us, 8);
  put_fixed(out, start.chain, 4);
  put_fixed(out, record.size(), 4);
  out.insert(out.end(), record.begin(), record.end());
  put_fixed(out, start.state.size(), 4);
  out.insert(out.end(), start.state.begin(), start.state.end());
  return out;
}

LogStart decode_log_start(std::span<const uint8_t> bytes) {
  LogStart start;
  Cursor cursor(bytes);
  start.time_us = cursor.fixed(8);
  start.chain = static_cast<uint32_t>(cursor.fixed(4));
  Cursor record_cursor(cursor.bytes(cursor.fixed(4)));
  const auto state = cursor.bytes(cursor.fixed(4));
  DeltaState none;
  size_t memory = size_t{1} << 20;
  Record record = cursor.good() ? decode_record(record_cursor, none, memory) : Record();
  auto* digest = std::get_if<Digest>(&record);
  if (!cursor.good() || cursor.left() > 0 || !record_cursor.good() || record_cursor.left() > 0 || !digest ||
      !digest->memory || digest->lsn == 0)
    throw Failure("ERR_LOCKSTEP_LOG_DAMAGED", "what a log starts from is damaged");
  start.digest = std::move(*digest);
  start.state.assign(state.begin(), state.end());
  return start;
}

}  // namespace lockstep
