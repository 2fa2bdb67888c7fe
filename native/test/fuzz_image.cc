// Anything at all as an image. What is accepted must lie where it says, in the file and in memory.
#include "error.h"
#include "image.h"

using namespace lockstep;

namespace {

void check(bool held) {
  if (!held) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const Image image = parse_image({data, size});
    uint8_t sum = 0;
    for (const ImageSegment& segment : image.segments) {
      check(segment.gpa + segment.bytes <= image.header.memory_bytes);
      for (const uint8_t byte : image.file.subspan(segment.file_offset, segment.bytes)) sum ^= byte;
    }
    volatile uint8_t used = sum;
    (void)used;
  } catch (const Failure& failure) {
    check(failure.code == "ERR_LOCKSTEP_NOT_AN_IMAGE");
  }
  return 0;
}
