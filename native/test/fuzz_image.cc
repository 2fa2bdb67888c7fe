// Anything at all as an image. What is accepted must lie where it says, in the file and in memory.
#include "error.h"
#include "image.h"
#include "machine_state.h"
#include "memory/guest_memory.h"
#include "snapshot.h"

using namespace lockstep;

namespace {

void check(bool held) {
  if (!held) __builtin_trap();
}

void use(std::span<const uint8_t> bytes) {
  uint8_t sum = 0;
  for (const uint8_t byte : bytes) sum ^= byte;
  volatile uint8_t used = sum;
  (void)used;
}

// What a snapshot goes on from. Its segments are pages by now, of which each has its hash.
void decode(const Image& front) {
  try {
    const SnapshotState state = decode_snapshot_state(front);
    uint64_t pages = 0;
    for (const ImageSegment& segment : front.segments) pages += segment.bytes / kPageBytes;
    check(state.page_hashes.size() == pages && state.guest != StartMode::kSnapshot);
    decode_machine_state(state.start.state);
  } catch (const Failure& failure) {
    check(failure.code == "ERR_LOCKSTEP_STATE_DAMAGED" || failure.code == "ERR_LOCKSTEP_LOG_DAMAGED");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const Image front = parse_image_front({data, size});
    check(front.file.size() == front.header.content_offset);
    use(front.state);
    use(front.block_hashes);
    decode(front);
    const Image image = parse_image({data, size});
    for (const ImageSegment& segment : image.segments) {
      check(segment.gpa + segment.bytes <= image.header.memory_bytes);
      use(image.file.subspan(segment.file_offset, segment.bytes));
    }
  } catch (const Failure& failure) {
    check(failure.code == "ERR_LOCKSTEP_NOT_AN_IMAGE");
  }
  return 0;
}
