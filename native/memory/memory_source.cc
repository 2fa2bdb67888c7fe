#include "memory/memory_source.h"

namespace lockstep {

namespace {

class ImageCopy : public MemorySource {
 public:
  explicit ImageCopy(const Image& image) : image_(image) {}
  void provide(GuestMemory& memory) override {
    check_room(image_, memory);
    for (const ImageSegment& segment : image_.segments)
      memory.write(segment.gpa, image_.file.subspan(segment.file_offset, segment.bytes));
  }

 private:
  const Image& image_;
};

}  // namespace

std::unique_ptr<MemorySource> make_image_copy(const Image& image) {
  return std::make_unique<ImageCopy>(image);
}

void check_room(const Image& image, const GuestMemory& memory) {
  for (const ImageSegment& segment : image.segments)
    if (!memory.contains(segment.gpa, segment.bytes))
      throw Failure("ERR_LOCKSTEP_IMAGE_TOO_LARGE",
                    "the image does not fit into " + std::to_string(memory.bytes() >> 20) + " MiB of memory",
                    "give the machine more with --memory");
}

}  // namespace lockstep
