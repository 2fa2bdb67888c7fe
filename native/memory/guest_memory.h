// Guest RAM. Every access by the monitor is bounds-checked here, and every write marks its pages.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "error.h"
#include "kvm/system.h"

namespace lockstep {

constexpr uint64_t kPageBytes = 4096;

class GuestMemory {
 public:
  explicit GuestMemory(uint64_t bytes);  // fresh memory is zero
  ~GuestMemory();
  GuestMemory(const GuestMemory&) = delete;

  uint64_t bytes() const { return bytes_; }
  uint64_t pages() const { return bytes_ / kPageBytes; }
  uint8_t* host() const { return host_; }
  // /proc's word for which pages the host ever backed, or -1.
  int pagemap() const { return pagemap_.get(); }

  bool contains(uint64_t gpa, uint64_t length) const { return gpa <= bytes_ && length <= bytes_ - gpa; }
  // Empty when out of bounds: a guest's address is never trusted.
  std::span<const uint8_t> view(uint64_t gpa, uint64_t length) const;
  bool write(uint64_t gpa, std::span<const uint8_t> data);
  // Copies a plain struct in and out; false when out of bounds.
  template <typename T>
  bool load(uint64_t gpa, T* value) const {
    if (!contains(gpa, sizeof(T))) return false;
    if (gate_) gate_(gpa, sizeof(T));
    std::memcpy(value, host_ + gpa, sizeof(T));
    return true;
  }
  template <typename T>
  bool store(uint64_t gpa, const T& value) {
    return write(gpa, {reinterpret_cast<const uint8_t*>(&value), sizeof(T)});
  }

  // ---- contents that are not there until somebody looks at them
  struct Range {
    uint64_t first = 0, count = 0;  // pages
  };
  // The contents of these pages come when they are looked at, from whoever registered for that.
  void expect(Range pages) { expected_.push_back(pages); }
  const std::vector<Range>& expected() const { return expected_; }
  // Whole pages of a file, by copy-on-write: what is written here does not reach it.
  struct Mapping {
    uint64_t gpa = 0, bytes = 0;
    std::shared_ptr<const Fd> file;
    uint64_t offset = 0;
  };
  void map(const Mapping& mapping);
  const std::vector<Mapping>& mappings() const { return mappings_; }
  // The same contents once more, by copy-on-write. While the vCPU stands still; on no confined thread.
  std::unique_ptr<GuestMemory> fork();

  // Pages written by the monitor or reported dirty since the last take_dirty(), each once.
  void mark(uint64_t page);
  std::vector<uint64_t> take_dirty();  // ascending
  // The same for checkpoints: those since the last take_written() or forget_written().
  std::vector<uint64_t> take_written();
  void forget_written() { written_.take(); }
  // And for whoever sends memory while the guest runs: those marked while changes were followed. Any thread.
  void follow_changes(bool follow) { following_ = follow; }
  size_t changed() const;
  std::vector<uint64_t> take_changed();
  // Of memory whose pages come later: called before the monitor touches any, and may wait, or throw.
  using Gate = std::function<void(uint64_t gpa, uint64_t bytes)>;
  void set_gate(Gate gate) { gate_ = std::move(gate); }
  // Somebody who stood still for a page was let go without it, because the machine is over: what KVM makes of
  // that counts for nothing. Any thread.
  void tear() { torn_ = true; }
  bool torn() const { return torn_; }
  // Also hands every marked page to a watcher (repeats included); null: no longer.
  void watch(std::vector<uint64_t>* watcher) { watcher_ = watcher; }

 private:
  uint8_t* host_ = nullptr;
  uint64_t bytes_ = 0;
  std::vector<Range> expected_;
  std::vector<Mapping> mappings_;  // by address, apart from each other
  Fd pagemap_;                     // opened at once: threads that ask for it may not open anything
  std::vector<uint64_t> own_pages() const;
  void freeze(const std::vector<uint64_t>& own);
  // Page numbers, each once.
  class PageSet {
   public:
    explicit PageSet(uint64_t pages) : bits_((pages + 63) / 64) {}
    void add(uint64_t page);
    std::vector<uint64_t> take();  // ascending
    size_t size() const { return pages_.size(); }

   private:
    std::vector<uint64_t> bits_, pages_;
  };
  PageSet dirty_, written_;
  std::atomic<bool> following_{false};
  mutable std::mutex changed_mutex_;
  PageSet changed_;
  std::vector<uint64_t>* watcher_ = nullptr;
  Gate gate_;
  std::atomic<bool> torn_{false};
};

}  // namespace lockstep
