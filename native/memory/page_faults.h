// Guest memory whose pages come when they are first touched, by userfaultfd: whoever touches a page that is
// not there stands still in the host's kernel until a thread of ours has put it there. KVM is one of those
// who do.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "kvm/system.h"
#include "memory/guest_memory.h"

namespace lockstep {

// Where the pages come from. Called on the thread that serves faults alone.
class PageSource {
 public:
  virtual ~PageSource() = default;
  // Puts whole pages of memory from `gpa` on into `to`, as many as are here in one piece; returns their
  // bytes. 0: the first one is not here yet, and arrived() will tell.
  virtual size_t read(uint64_t gpa, std::span<uint8_t> to) = 0;
  // Somebody touched this page, and it was not in memory.
  virtual void touched(uint64_t) {}
};

struct GuestRange {
  uint64_t gpa, bytes;  // whole pages
};

// Whether this process may, and the host's kernel can.
bool page_faults_possible();

class PageFaults {
 public:
  // `confined`: its thread makes no system calls but those of its duty (sandbox.h).
  // The ranges are fresh, ascending, and neither overlap nor touch. A fault brings up to `pages_at_once`
  // pages. Throws ERR_LOCKSTEP_USERFAULTFD where this process may not, or the host's kernel cannot.
  PageFaults(GuestMemory& memory, PageSource& source, std::vector<GuestRange> ranges, size_t pages_at_once,
             bool confined);
  // Nobody touches the memory any more.
  ~PageFaults();
  PageFaults(const PageFaults&) = delete;

  // Any thread: these pages are here now. They are put into memory, touched or not.
  void arrived(GuestRange range);
  // Any thread: all are. When the last is in memory, it becomes like any other, and the thread ends.
  void complete();
  // Any thread, once the machine is over and its vCPU was told so: whoever stands still is let go, and the
  // memory is torn. Not every KVM lets a signal interrupt who waits for a page.
  void release();
  // Any thread: of somebody who computes since then, since when he really does; 0: he stands still.
  uint64_t computes_since_us(uint64_t since_us) const {
    if (stands_still_) return 0;
    return since_us ? std::max<uint64_t>(since_us, went_on_us_) : 0;
  }
  bool is_complete() const { return complete_.load(std::memory_order_acquire); }
  uint64_t faults() const { return faults_.load(std::memory_order_relaxed); }

 private:
  void serve();
  void take_faults();
  void take_arrivals();
  void let_go();
  void note_standing();
  void finish();
  bool fill_around(uint64_t gpa);
  void fill(GuestRange range);
  void put(uint64_t gpa, std::span<const uint8_t> pages);
  int64_t put_bytes(uint64_t gpa, std::span<const uint8_t> bytes) const;
  int64_t put_zeros(uint64_t gpa, size_t bytes) const;
  void poke() const;

  GuestMemory& memory_;
  PageSource& source_;
  const std::vector<GuestRange> ranges_;
  const size_t bytes_at_once_;
  const bool confined_;
  Fd faults_fd_, wake_;
  std::vector<uint8_t> buffer_;
  std::span<uint8_t> pages_;        // the buffer, page-aligned
  std::vector<uint64_t> standing_;  // pages for which somebody stands still
  std::atomic<uint64_t> faults_{0};
  std::atomic<bool> complete_{false}, stop_{false}, all_here_{false}, released_{false};
  std::atomic<bool> stands_still_{false};
  std::atomic<uint64_t> went_on_us_{0};  // when nobody stood still any more
  std::mutex mutex_;
  std::vector<GuestRange> arrivals_;
  std::thread thread_;
};

}  // namespace lockstep
