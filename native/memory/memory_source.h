// Where a machine's memory gets its first contents from. The guest cannot tell one source from another, nor
// when a page of it arrives.
#pragma once

#include <memory>

#include "image.h"
#include "memory/guest_memory.h"

namespace lockstep {

class MemorySource {
 public:
  virtual ~MemorySource() = default;
  // Once, while the memory is fresh. It is there as long as the memory is used. Throws
  // ERR_LOCKSTEP_IMAGE_TOO_LARGE.
  virtual void provide(GuestMemory& memory) = 0;
};

// Copies the segments of an image whose file is at hand, whole and checked. `image` outlives the source.
std::unique_ptr<MemorySource> make_image_copy(const Image& image);

// Maps the segments of a snapshot from its file, by copy-on-write: its pages are read when they are used.
// Small and scattered ones are copied, because the host has a limit for the number of mappings. `image`
// outlives the source; the file must not change as long as there are machines that came from it.
std::unique_ptr<MemorySource> make_image_map(const Image& image, std::shared_ptr<const Fd> file);

// ERR_LOCKSTEP_IMAGE_TOO_LARGE unless all segments fit.
void check_room(const Image& image, const GuestMemory& memory);

}  // namespace lockstep
