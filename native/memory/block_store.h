// The file of an image that is still on its way: the front stands in it, and blocks come in whatever order.
// What is in it is believed only by its hash, also after a process was killed in the midst of writing.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "image.h"
#include "kvm/system.h"
#include "log/event.h"

namespace lockstep {

class BlockStore {
 public:
  // Makes the file, or takes up one with the same front. Throws ERR_LOCKSTEP_NOT_AN_IMAGE,
  // ERR_LOCKSTEP_STREAM_BUSY where another process has it, ERR_LOCKSTEP_SYSTEM.
  BlockStore(const std::string& path, Bytes front);
  BlockStore(const BlockStore&) = delete;

  const Image& image() const { return image_; }  // the front

  // Looks for blocks that an earlier process left. Before anything else is done with them.
  void recover();

  // ---- any thread from here on
  bool has(uint64_t block) const { return (*there_)[block].load(std::memory_order_acquire); }
  uint64_t missing() const { return missing_.load(std::memory_order_acquire); }
  // False when these are not the block's bytes: then nothing has changed.
  bool put(uint64_t block, std::span<const uint8_t> bytes);
  // Of blocks that are there.
  void read(uint64_t file_offset, std::span<uint8_t> to) const;
  // Everything that is there survives a dead host from now on.
  void sync() const;
  // False when `cancelled` came first. Looked at a few times a second.
  bool wait_for(uint64_t block, const std::function<bool()>& cancelled);

  // Somebody stands still for this block. Told to `on_wanted`, once each.
  void want(uint64_t block);
  uint64_t wanted() const { return wanted_count_.load(std::memory_order_relaxed); }
  void on_wanted(std::function<void(uint64_t block)> tell);

  // Told of each block that arrives, by whoever puts it, until `listener` is forgotten.
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void arrived(uint64_t block) = 0;
  };
  void add(Listener* listener);
  void remove(Listener* listener);

 private:
  void write_all(uint64_t file_offset, std::span<const uint8_t> bytes) const;
  bool front_is(std::span<const uint8_t> front) const;
  void mark(uint64_t block);

  Bytes front_;
  Image image_;
  std::string path_;
  Fd fd_;
  std::unique_ptr<std::vector<std::atomic<bool>>> there_;
  std::atomic<uint64_t> missing_{0}, wanted_count_{0};
  mutable std::mutex mutex_;  // all below
  std::condition_variable arrival_;
  std::vector<bool> wanted_;
  std::function<void(uint64_t)> tell_wanted_;
  std::vector<Listener*> listeners_;
};

}  // namespace lockstep
