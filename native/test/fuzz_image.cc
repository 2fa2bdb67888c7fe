// Anything at all as an image. What is accepted must lie where it says, in the file and in memory.
#include "error.h"
#include "image.h"

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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const Image front = parse_image_front({data, size});
    check(front.file.size() == front.header.content_offset);
    use(front.state);
    use(front.block_hashes);
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
