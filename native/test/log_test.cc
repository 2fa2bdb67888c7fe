#include <algorithm>

#include "log/crc32c.h"
#include "log/frame_format.h"
#include "test/log_samples.h"

namespace lockstep::test {
namespace {

std::vector<Record> decode_all(const std::vector<Bytes>& frames) {
  FrameDecoder decoder;
  std::vector<Record> records;
  uint64_t offset = 0;
  for (const Bytes& frame : frames) {
    for (Record& record : decoder.decode(frame, offset)) records.push_back(std::move(record));
    offset += frame.size();
  }
  return records;
}

bool is_prefix(const std::vector<Record>& part, const std::vector<Record>& whole) {
  return part.size() <= whole.size() && std::equal(part.begin(), part.end(), whole.begin());
}

Event line_event(uint64_t lsn, uint64_t time_us, size_t bytes) {
  Event event{lsn, 2, static_cast<uint16_t>(lsn * 40503), time_us, {}};
  if (bytes > 0) event.inputs.push_back({InputKind::kData, 0, Bytes(bytes, 'x')});
  return event;
}

// Bytes of frame per event, when every event is a frame of its own and they are `gap_us` apart.
double bytes_per_event(size_t input_bytes, uint64_t gap_us) {
  FrameEncoder encoder;
  size_t bytes = 0;
  for (uint64_t lsn = 1; lsn <= 1001; lsn++) {
    encoder.append(line_event(lsn, 1'700'000'000'000'000 + lsn * gap_us, input_bytes));
    const size_t frame = encoder.take().size();
    if (lsn > 1) bytes += frame;  // the first one holds the absolute time
  }
  return static_cast<double>(bytes) / 1000;
}

struct SmallLog {
  std::vector<Record> records;
  Bytes bytes;
  size_t header_bytes;
};

SmallLog small_log(size_t count, bool ended, size_t frame_records_max) {
  SmallLog log;
  log.records = random_records(count, ended);
  log.bytes = encode_log_header(small_header());
  log.header_bytes = log.bytes.size();
  for (const Bytes& frame : to_frames(log.records, frame_records_max))
    log.bytes.insert(log.bytes.end(), frame.begin(), frame.end());
  return log;
}

TEST(crc32c_is_the_known_one_in_hardware_and_in_software) {
  const Bytes digits = {'1', '2', '3', '4', '5', '6', '7', '8', '9'};
  CHECK(~crc32c(UINT32_MAX, digits) == 0xe3069283);
  for (int i = 0; i < 200; i++) {
    const Bytes bytes = random_bytes(below(100), false);
    CHECK(crc32c(1, bytes) == crc32c_software(1, bytes));
  }
}

TEST(a_short_checksum_finds_every_single_flipped_bit) {
  for (size_t size = 1; size <= kSmallMax + 8; size++) {
    Bytes difference(size);
    for (size_t bit = 0; bit < 8; bit++) {
      difference[0] = static_cast<uint8_t>(1 << bit);
      const uint32_t crc = crc32c(0, difference);
      CHECK(((crc ^ crc >> 16) & 0xffff) != 0);
    }
  }
}

TEST(records_come_back_as_they_were) {
  for (int round = 0; round < 300; round++) {
    const std::vector<Record> records = random_records(below(200), below(2) != 0);
    const std::vector<Bytes> frames = to_frames(records, round % 3 == 0 ? 1 : 1 + below(300));
    for (const Bytes& frame : frames) {
      CHECK(FrameDecoder::frame_length(frame) == frame.size());
      for (size_t part = 0; part < std::min<size_t>(frame.size(), 150); part++) {
        const size_t length = FrameDecoder::frame_length({frame.data(), part});
        CHECK(length == 0 || length == frame.size());
      }
    }
    CHECK(decode_all(frames) == records);
  }
}

TEST(numbers_of_every_size_come_back) {
  FrameEncoder encoder;
  std::vector<Record> records;
  uint64_t lsn = 0;
  for (int length = 0; length <= 300; length++)
    for (int bit = 0; bit <= 64; bit += 1 + length / 30) {
      Event event = line_event(++lsn, 0, static_cast<size_t>(length));
      event.time_us = (bit == 64 ? 0 : uint64_t{1} << bit) - (lsn % 2);
      event.accesses = (bit == 64 ? 0 : uint64_t{1} << bit) - (lsn % 3);
      records.push_back(event);
    }
  CHECK(decode_all(to_frames(records, 1)) == records);
  CHECK(decode_all(to_frames(records, 100)) == records);
}

// As short as a small frame once compressed, and yet no small frame.
TEST(an_event_that_compresses_well_comes_back) {
  std::vector<Record> records;
  for (uint64_t lsn = 1; lsn <= 60; lsn++) records.push_back(line_event(lsn, lsn, 400 + lsn * lsn * 10));
  CHECK(decode_all(to_frames(records, 1)) == records);
  CHECK(decode_all(to_frames(records, 2)) == records);
}

TEST(large_records_come_back) {
  std::vector<Record> records;
  for (uint64_t lsn = 1; lsn <= 20; lsn++) {
    records.push_back(line_event(lsn, lsn, 0));
    std::get<Event>(records.back()).inputs = {{InputKind::kData, 1, random_bytes(300'000, lsn % 2 != 0)}};
  }
  Digest digest;
  digest.lsn = 20;
  for (uint64_t page = 0; page < 1'000'000; page++)
    digest.pages.push_back({page, static_cast<uint32_t>(page * 2654435761)});
  records.push_back(digest);
  FrameEncoder encoder;
  for (const Record& record : records) encoder.append(record);
  CHECK(encoder.pending_bytes() > 5'000'000);
  const Bytes frames = encoder.take();  // several in one
  CHECK(FrameDecoder::frame_length(frames) < frames.size());
  CHECK(FrameDecoder().decode(frames, 0) == records);
  CHECK(encoder.pending_bytes() == 0 && encoder.take().empty());
}

TEST(what_has_no_place_in_a_log_is_refused) {
  const std::string internal = "ERR_LOCKSTEP_INTERNAL";
  FrameEncoder encoder;
  CHECK(failure_code([&] { encoder.append(Progress{1, 1}); }) == internal);
  CHECK(failure_code([&] { encoder.append(line_event(2, 0, 0)); }) == internal);
  encoder.append(line_event(1, 0, 0));
  CHECK(failure_code([&] { encoder.append(line_event(1, 0, 0)); }) == internal);
  CHECK(failure_code([&] { encoder.append(line_event(3, 0, 0)); }) == internal);
  encoder.append(End{});
  CHECK(failure_code([&] { encoder.append(line_event(2, 0, 0)); }) == internal);
  CHECK(encoder.last_lsn() == 1);
  CHECK(FrameDecoder().decode(encoder.take(), 0).size() == 2);
}

TEST(a_log_costs_at_most_a_tenth_of_input_and_eight_bytes_an_event) {
  for (const uint64_t gap_us : {50ull, 5'000ull, 60'000ull, 250'000ull, 1'000'000ull, 2'000'000ull})
    for (const size_t size : {0, 1, 2, 5, 9, 20, 30, 80, 127, 128, 129, 300, 511}) {
      const double bytes = bytes_per_event(size, gap_us), budget = 1.1 * static_cast<double>(size) + 8;
      if (size == 0 || size == 30)
        printf("# %zu-byte input every %7lu us: %.2f bytes\n", size, gap_us, bytes);
      if (bytes > budget + 0.001) printf("# %zu bytes, %lu us: %.2f > %.2f\n", size, gap_us, bytes, budget);
      CHECK(bytes <= budget + 0.001);
    }
}

TEST(counts_add_up) {
  const std::vector<Record> records = random_records(2000, true);
  FrameEncoder encoder;
  size_t frame_bytes = 0, frames = 0, inputs = 0, events = 0;
  for (const Record& record : records) {
    encoder.append(record);
    if (const auto* event = std::get_if<Event>(&record)) {
      events++;
      for (const Input& input : event->inputs) inputs += input.bytes.size();
    }
    if (below(10) == 0) frame_bytes += encoder.take().size(), frames++;
  }
  frame_bytes += encoder.take().size();
  const FrameEncoder::Counts counts = encoder.counts();
  CHECK(counts.events == events && counts.input_bytes == inputs && counts.frame_bytes == frame_bytes);
  CHECK(counts.frames == frames || counts.frames == frames + 1);
  CHECK(counts.event_bytes + counts.digest_bytes + counts.checkpoint_bytes >= frame_bytes);
}

TEST(a_frame_left_out_repeated_or_swapped_is_found) {
  const std::vector<Bytes> frames = to_frames(random_records(60, true), 1);
  for (size_t i = 0; i + 2 < frames.size(); i++) {
    std::vector<Bytes> wrong = frames;
    wrong.erase(wrong.begin() + static_cast<ptrdiff_t>(i));
    CHECK(failure_code([&] { decode_all(wrong); }) == "ERR_LOCKSTEP_LOG_DAMAGED");
    wrong = frames;
    wrong.insert(wrong.begin() + static_cast<ptrdiff_t>(i), frames[i]);
    CHECK(failure_code([&] { decode_all(wrong); }) == "ERR_LOCKSTEP_LOG_DAMAGED");
    wrong = frames;
    std::swap(wrong[i], wrong[i + 1]);
    CHECK(failure_code([&] { decode_all(wrong); }) == "ERR_LOCKSTEP_LOG_DAMAGED");
  }
}

TEST(a_log_cut_at_any_byte_gives_its_whole_frames) {
  const SmallLog log = small_log(60, true, 3);
  const TemporaryFile file;
  for (size_t size = 0; size <= log.bytes.size(); size += size > 4'000 ? 1 + below(100) : 1) {
    file.write(Bytes(log.bytes.begin(), log.bytes.begin() + static_cast<ptrdiff_t>(size)));
    const Reading reading = read_log(file.path());
    if (size < log.header_bytes) {
      CHECK(reading.code == (size == 0 ? "ERR_LOCKSTEP_NOT_A_LOG" : "ERR_LOCKSTEP_LOG_DAMAGED"));
      continue;
    }
    CHECK(reading.code.empty() && is_prefix(reading.records, log.records));
    CHECK(reading.ended == (size == log.bytes.size()) && reading.cut == !reading.ended);
    if (below(8) != 0) continue;
    const LogRepair repair = repair_log(file.path());
    CHECK(repair.kept_bytes == reading.whole_bytes && repair.kept_bytes + repair.dropped_bytes == size);
    const Reading again = read_log(file.path());
    CHECK(again.code.empty() && again.records == reading.records && again.whole_bytes == repair.kept_bytes);
  }
}

// The check byte of a head that a flipped bit made longer is another one, and fits once in 256 times.
TEST(a_length_that_runs_past_the_end_is_told_from_a_cut) {
  size_t long_ones = 0;
  for (size_t size = 200; size < 8000; size++) {
    FrameEncoder encoder;
    encoder.append(line_event(1, 0, size));
    const Bytes frame = encoder.take();
    for (size_t bit = 0; bit < 24; bit++) {
      Bytes flipped = frame;
      flipped[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
      size_t length = 0;
      failure_code([&] { length = FrameDecoder::frame_length(flipped); });
      if (length <= flipped.size()) continue;
      CHECK(FrameDecoder().hides_a_frame(flipped));
      long_ones++;
    }
    CHECK(!FrameDecoder().hides_a_frame(std::span(frame).first(frame.size() - 1)));
  }
  printf("# %zu lengths past the end\n", long_ones);
  CHECK(long_ones > 0);
}

// A bit that changes the length of a small frame has its checksum looked for in another place, where it
// matches by chance once in 65536. Then one wrong record comes out before the next frame tells; that such a
// slip stays that rare and never goes unnoticed is what can be promised.
TEST(any_flipped_bit_is_an_error_or_a_cut_and_never_a_whole_log) {
  size_t errors = 0, cuts = 0, slips = 0;
  for (const size_t frame_records_max : {1, 4, 40}) {
    const SmallLog log = small_log(16, true, frame_records_max);
    const TemporaryFile file;
    const size_t bits = log.bytes.size() * 8;
    for (size_t bit = 0; bit<bits; bit += bits> 24'000 ? 1 + below(bits / 6'000) : 1) {
      Bytes flipped = log.bytes;
      flipped[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
      file.write(flipped);
      const Reading reading = read_log(file.path());
      (reading.code.empty() ? cuts : errors)++;
      CHECK(reading.cut != !reading.code.empty() && (!reading.ended || reading.cut));
      if (!is_prefix(reading.records, log.records)) {
        CHECK(!reading.code.empty());
        slips++;
        continue;
      }
      CHECK(reading.records.size() < log.records.size());
      if (reading.code.empty()) CHECK(reading.whole_bytes + kSmallMax + 2 >= log.bytes.size());
      if (reading.code == "ERR_LOCKSTEP_LOG_DAMAGED" && bit / 8 >= log.header_bytes)
        CHECK(reading.message.find("byte " + std::to_string(reading.whole_bytes)) != std::string::npos);
    }
  }
  printf("# flipped bits: %zu errors, %zu of them slips, %zu cuts\n", errors, slips, cuts);
  CHECK(slips <= 2 && cuts < errors / 50);
}

TEST(rubbish_is_an_error) {
  for (int round = 0; round < 20'000; round++) {
    const Bytes rubbish = random_bytes(1 + below(200), false);
    const std::string code = failure_code([&] { FrameDecoder().decode(rubbish, 0); });
    CHECK(code.empty() || code == "ERR_LOCKSTEP_LOG_DAMAGED");
  }
}

TEST(what_follows_the_end_is_damage_that_repair_removes) {
  SmallLog log = small_log(20, true, 5);
  log.bytes.push_back(0);
  const TemporaryFile file;
  file.write(log.bytes);
  const Reading reading = read_log(file.path());
  CHECK(reading.code == "ERR_LOCKSTEP_LOG_DAMAGED" && reading.records == log.records);
  CHECK(repair_log(file.path()).dropped_bytes == 1);
  CHECK(read_log(file.path()).ended);
}

}  // namespace
}  // namespace lockstep::test
