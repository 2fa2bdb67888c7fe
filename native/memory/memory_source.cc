#include "memory/memory_source.h"

#include <sys/mman.h>
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
// As many more for equal pages in a row; so many of them share a mapping, and so many are worth one.
constexpr size_t kRepeatsMax = 100, kRepeatedPages = 128, kRepeatedMin = 16;

class ImageMap : public MemorySource {
 public:
  ImageMap(const Image& image, std::shared_ptr<const Fd> file) : image_(image), file_(std::move(file)) {}
  void provide(GuestMemory& memory) override {
    check_room(image_, memory);
    const uint64_t smallest = smallest_mapped();
    size_t repeats = kRepeatsMax;
    const auto& segments = image_.segments;
    for (size_t at = 0, count; at < segments.size(); at += count) {
      count = equal_from(at);
      if (count >= kRepeatedMin && repeats >= count / kRepeatedPages + 1) {
        repeats -= count / kRepeatedPages + 1;
        repeat(segments[at], count, memory);
        continue;
      }
      count = 1;
      if (segments[at].bytes >= smallest)
        memory.map({segments[at].gpa, segments[at].bytes, file_, segments[at].file_offset});
      else
        copy(segments[at], memory);
    }
    // Nobody wrote them in the machine's life: they are what it starts from.
    memory.take_dirty();
    memory.forget_written();
  }

 private:
  // How many segments from here on are the same page, at one address behind the other.
  size_t equal_from(size_t at) const {
    const auto& segments = image_.segments;
    const ImageSegment& first = segments[at];
    size_t count = 1;
    while (first.bytes == kPageBytes && at + count < segments.size()) {
      const ImageSegment& next = segments[at + count];
      if (next.bytes != kPageBytes || next.file_offset != first.file_offset ||
          next.gpa != first.gpa + count * kPageBytes)
        break;
      count++;
    }
    return count;
  }

  // A page that stands in the file once and in memory many times in a row, as a program's tables do that were
  // filled with one value: a few copies of it in a file of our own are mapped over and over.
  void repeat(const ImageSegment& page, size_t count, GuestMemory& memory) {
    std::vector<uint8_t> copies(kPageBytes);
    read_exactly(copies, page.file_offset);
    copies.resize(std::min(count, kRepeatedPages) * kPageBytes);
    for (size_t at = kPageBytes; at < copies.size(); at += kPageBytes)
      std::memcpy(copies.data() + at, copies.data(), kPageBytes);
    auto file = std::make_shared<const Fd>(memfd_create("lockstep-repeats", MFD_CLOEXEC));
    if (!*file || pwrite(file->get(), copies.data(), copies.size(), 0) != static_cast<ssize_t>(copies.size()))
      throw_system("ERR_LOCKSTEP_MEMORY", "memfd_create", "memory of a snapshot");
    for (size_t done = 0; done < count; done += kRepeatedPages) {
      const uint64_t bytes = std::min(count - done, kRepeatedPages) * kPageBytes;
      memory.map({page.gpa + done * kPageBytes, bytes, file, 0});
    }
  }

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
    read_exactly(window_, at);
  }

  void read_exactly(std::span<uint8_t> to, uint64_t at) const {
    while (!to.empty()) {
      const ssize_t got = pread(file_->get(), to.data(), to.size(), static_cast<off_t>(at));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) throw_system("ERR_LOCKSTEP_SYSTEM", "pread", "cannot read the snapshot");
      to = to.subspan(static_cast<size_t>(got));
      at += static_cast<uint64_t>(got);
    }
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
