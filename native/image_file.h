// An image at hand. Several machines may start from one.
#pragma once

#include <memory>

#include "image.h"
#include "kvm/system.h"
#include "log/event.h"
#include "memory/block_store.h"
#include "memory/memory_source.h"

namespace lockstep {

class ImageFile {
 public:
  // All throw ERR_LOCKSTEP_NOT_AN_IMAGE. Whole, and every block of it verified:
  static std::shared_ptr<const ImageFile> from_bytes(Bytes file);
  // Of a snapshot only the front is read and verified: its content is mapped into the machine. What boots is
  // read whole. Throws ERR_LOCKSTEP_SYSTEM, too.
  static std::shared_ptr<const ImageFile> open(const std::string& path);

  // Its front; the rest comes into the store.
  static std::shared_ptr<const ImageFile> on_its_way(std::shared_ptr<const BlockStore> store);

  const Image& image() const { return image_; }
  bool is_snapshot() const { return image_.header.mode == static_cast<uint32_t>(StartMode::kSnapshot); }
  // Its bytes, with every block verified. Throws ERR_LOCKSTEP_NOT_ARRIVED.
  Bytes whole() const;
  // Of one that is at hand.
  std::unique_ptr<MemorySource> make_source() const;

 private:
  ImageFile(Bytes bytes, std::shared_ptr<const Fd> content,
            std::shared_ptr<const BlockStore> store = nullptr);
  Bytes bytes_;                              // all, or the front alone
  std::shared_ptr<const Fd> content_;        // of a front alone: the file,
  std::shared_ptr<const BlockStore> store_;  // or where the rest arrives
  Image image_;
};

}  // namespace lockstep
