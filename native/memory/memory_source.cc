#include "memory/memory_source.h"

#include <unistd.h>

#include <algorithm>

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

// What is smaller is copied in less time than it would take to map it and to fault in a page of it.
constexpr uint64_t kMappedMin = 32 * 1024;
// Of vm.max_map_count, usually 65530, which a hundred forks of a machine share.
constexpr size_t kMappingsMax = 200;

class ImageMap : public MemorySource {
 public:
  ImageMap(const Image& image, std::shared_ptr<const Fd> file) : image_(image), file_(std::move(file)) {}
  void provide(GuestMemory& memory) override {
    check_room(image_, memory);
    const uint64_t smallest = smallest_mapped();
    for (const ImageSegment& segment : image_.segments) {
      if (segment.bytes >= smallest)
        memory.map({segment.gpa, segment.bytes, file_, segment.file_offset});
      else
        copy(segment, memory);
    }
    // Nobody wrote them in the machine's life: they are what it starts from.
    memory.take_dirty();
    memory.forget_written();
  }

 private:
  uint64_t smallest_mapped() const {
    for (uint64_t smallest = kMappedMin;; smallest *= 2) {
      const auto is_mapped = [smallest](const ImageSegment& segment) { return segment.bytes >= smallest; };
      const auto count = std::count_if(image_.segments.begin(), image_.segments.end(), is_mapped);
      if (static_cast<size_t>(count) <= kMappingsMax) return smallest;
    }
  }

  // Usually at another's heels in the file: what was read for one serves those behind it.
  void copy(const ImageSegment& segment, GuestMemory& memory) {
    for (uint64_t done = 0; done < segment.bytes;) {
      const uint64_t at = segment.file_offset + done;
      if (at < window_at_ || at >= window_at_ + window_.size()) read_window(at);
      const auto rest = std::span(window_).subspan(at - window_at_);
      const auto part = rest.first(std::min<uint64_t>(rest.size(), segment.bytes - done));
      memory.write(segment.gpa + done, part);
      done += part.size();
    }
  }

  void read_window(uint64_t at) {
    window_at_ = at;
    window_.resize(std::min(kWindowBytes, image_.file_bytes() - at));
    const ssize_t got = pread(file_->get(), window_.data(), window_.size(), static_cast<off_t>(at));
    if (got <= 0) throw_system("ERR_LOCKSTEP_SYSTEM", "pread", "cannot read the snapshot");
    window_.resize(static_cast<size_t>(got));
  }

  static constexpr uint64_t kWindowBytes = 128 * 1024;
  const Image& image_;
  std::shared_ptr<const Fd> file_;
  std::vector<uint8_t> window_;
  uint64_t window_at_ = 0;
};

}  // namespace

std::unique_ptr<MemorySource> make_image_map(const Image& image, std::shared_ptr<const Fd> file) {
  return std::make_unique<ImageMap>(image, std::move(file));
}

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
