#include "memory/page_faults.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "sandbox.h"

namespace lockstep {

namespace {

constexpr char kHint[] =
    "run it as root, or give this user /dev/userfaultfd; or fetch the image whole and start it then";

// One that hears of faults in the host's kernel too, because it is KVM that touches guest memory. Root may
// have it by the system call; the device, where it is there, gives it to whom its mode says.
Fd open_userfaultfd() {
  Fd device(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  int fd = device ? ioctl(device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK) : -1;
  if (fd < 0) fd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
  if (fd < 0)
    throw_system("ERR_LOCKSTEP_USERFAULTFD", "userfaultfd", "memory cannot be filled while it is used",
                 kHint);
  Fd result(fd);
  uffdio_api api{};
  api.api = UFFD_API;
  if (ioctl(fd, UFFDIO_API, &api))
    throw_system("ERR_LOCKSTEP_USERFAULTFD", "UFFDIO_API", "this kernel's userfaultfd is another", kHint);
  return result;
}

uint64_t monotonic_us() {
  const auto since_start = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(since_start).count());
}

bool is_zero(std::span<const uint8_t> page) {
  return page[0] == 0 && std::memcmp(page.data(), page.data() + 1, page.size() - 1) == 0;
}

}  // namespace

bool page_faults_possible() {
  try {
    open_userfaultfd();
    return true;
  } catch (const Failure&) {
    return false;
  }
}

PageFaults::PageFaults(GuestMemory& memory, PageSource& source, std::vector<GuestRange> ranges,
                       size_t pages_at_once, bool confined)
    : memory_(memory),
      source_(source),
      ranges_(std::move(ranges)),
      bytes_at_once_(pages_at_once * kPageBytes),
      confined_(confined),
      faults_fd_(open_userfaultfd()),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      buffer_(bytes_at_once_ + kPageBytes) {
  const auto start = reinterpret_cast<uintptr_t>(buffer_.data());
  const size_t skip = (kPageBytes - start % kPageBytes) % kPageBytes;
  pages_ = std::span(buffer_).subspan(skip, bytes_at_once_);
  if (!wake_) throw_system("ERR_LOCKSTEP_RESOURCES", "eventfd", "the thread that fills memory");
  for (const GuestRange& range : ranges_) {
    uffdio_register add{};
    add.range = {reinterpret_cast<uint64_t>(memory_.host() + range.gpa), range.bytes};
    add.mode = UFFDIO_REGISTER_MODE_MISSING;
    if (ioctl(faults_fd_.get(), UFFDIO_REGISTER, &add))
      throw_system("ERR_LOCKSTEP_USERFAULTFD", "UFFDIO_REGISTER", "memory cannot be filled while it is used",
                   kHint);
  }
  thread_ = std::thread([this] { serve(); });
}

PageFaults::~PageFaults() {
  stop_ = true;
  poke();
  thread_.join();
}

void PageFaults::poke() const {
  const uint64_t one = 1;
  if (write(wake_.get(), &one, sizeof one) < 0) return;  // full: it is awake already
}

void PageFaults::arrived(GuestRange range) {
  {
    std::lock_guard lock(mutex_);
    arrivals_.push_back(range);
  }
  poke();
}

void PageFaults::complete() {
  all_here_ = true;
  poke();
}

void PageFaults::release() {
  released_ = true;
  poke();
}

void PageFaults::let_go() {
  if (standing_.empty()) return;
  memory_.tear();
  for (uint64_t gpa : standing_) put_zeros(gpa, kPageBytes);
  standing_.clear();
}

void PageFaults::note_standing() {
  if (stands_still_ && standing_.empty()) went_on_us_ = monotonic_us();
  stands_still_ = !standing_.empty();
}

void PageFaults::serve() {
  pthread_setname_np(pthread_self(), "lockstep-pages");
  // Where the host's kernel has no such filters, the machine's own thread says so.
  if (confined_) confine_thread(Duty::kPages);
  pollfd ready[] = {{faults_fd_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
  while (!stop_) {
    if (poll(ready, 2, -1) < 0 && errno != EINTR) return;
    uint64_t pokes;
    while (read(wake_.get(), &pokes, sizeof pokes) > 0) {
    }
    take_faults();
    take_arrivals();
    if (released_) let_go();
    note_standing();
    if (all_here_ && !stop_) return finish();
  }
}

void PageFaults::take_faults() {
  uffd_msg messages[16];
  for (;;) {
    const ssize_t got = read(faults_fd_.get(), messages, sizeof messages);
    if (got <= 0) return;
    for (size_t i = 0; i < static_cast<size_t>(got) / sizeof *messages; i++) {
      if (messages[i].event != UFFD_EVENT_PAGEFAULT) continue;
      const uint64_t address = messages[i].arg.pagefault.address;
      const uint64_t gpa = (address - reinterpret_cast<uint64_t>(memory_.host())) / kPageBytes * kPageBytes;
      faults_++;
      source_.touched(gpa);
      // One that was interrupted while it stood asks again.
      if (!fill_around(gpa) && std::find(standing_.begin(), standing_.end(), gpa) == standing_.end())
        standing_.push_back(gpa);
    }
  }
}

// The faulting page with those behind it, as far as they are here.
bool PageFaults::fill_around(uint64_t gpa) {
  auto behind = std::upper_bound(ranges_.begin(), ranges_.end(), gpa,
                                 [](uint64_t at, const GuestRange& range) { return at < range.gpa; });
  const GuestRange& range = *--behind;
  const size_t bytes =
      source_.read(gpa, pages_.first(std::min<uint64_t>(bytes_at_once_, range.gpa + range.bytes - gpa)));
  put(gpa, pages_.first(bytes));
  return bytes > 0;
}

void PageFaults::take_arrivals() {
  std::vector<GuestRange> arrivals;
  {
    std::lock_guard lock(mutex_);
    arrivals.swap(arrivals_);
  }
  if (arrivals.empty()) return;
  // Who stands still comes first.
  std::erase_if(standing_, [this](uint64_t gpa) { return fill_around(gpa); });
  for (const GuestRange& range : arrivals) {
    fill(range);
    take_faults();
  }
}

void PageFaults::fill(GuestRange range) {
  for (size_t done = 0; done < range.bytes && !stop_;) {
    const size_t bytes =
        source_.read(range.gpa + done, pages_.first(std::min<uint64_t>(bytes_at_once_, range.bytes - done)));
    if (bytes == 0) return;
    put(range.gpa + done, pages_.first(bytes));
    done += bytes;
  }
}

// What is in memory already stays as it is: the guest may have written to it.
void PageFaults::put(uint64_t gpa, std::span<const uint8_t> pages) {
  while (!pages.empty()) {
    const bool zero = is_zero(pages.first(kPageBytes));
    size_t bytes = kPageBytes;
    while (bytes < pages.size() && is_zero(pages.subspan(bytes, kPageBytes)) == zero) bytes += kPageBytes;
    const int64_t done = zero ? put_zeros(gpa, bytes) : put_bytes(gpa, pages.first(bytes));
    const size_t step = done > 0 ? static_cast<size_t>(done) : kPageBytes;
    if (done <= 0 && done != -EEXIST) {
      if (done == -EAGAIN) continue;
      return;  // the memory is going away
    }
    gpa += step;
    pages = pages.subspan(step);
  }
}

int64_t PageFaults::put_bytes(uint64_t gpa, std::span<const uint8_t> bytes) const {
  uffdio_copy copy{};
  copy.dst = reinterpret_cast<uint64_t>(memory_.host() + gpa);
  copy.src = reinterpret_cast<uint64_t>(bytes.data());
  copy.len = bytes.size();
  if (!ioctl(faults_fd_.get(), UFFDIO_COPY, &copy)) return static_cast<int64_t>(bytes.size());
  return copy.copy ? copy.copy : -errno;
}

int64_t PageFaults::put_zeros(uint64_t gpa, size_t bytes) const {
  uffdio_zeropage zero{};
  zero.range = {reinterpret_cast<uint64_t>(memory_.host() + gpa), bytes};
  if (!ioctl(faults_fd_.get(), UFFDIO_ZEROPAGE, &zero)) return static_cast<int64_t>(bytes);
  return zero.zeropage ? zero.zeropage : -errno;
}

void PageFaults::finish() {
  for (const GuestRange& range : ranges_) {
    for (size_t done = 0; done < range.bytes && !stop_; done += bytes_at_once_) {
      fill({range.gpa + done, std::min<uint64_t>(bytes_at_once_, range.bytes - done)});
      take_faults();
    }
  }
  if (stop_) return;
  for (const GuestRange& range : ranges_) {
    uffdio_range remove{reinterpret_cast<uint64_t>(memory_.host() + range.gpa), range.bytes};
    ioctl(faults_fd_.get(), UFFDIO_UNREGISTER, &remove);
  }
  complete_.store(true, std::memory_order_release);
}

}  // namespace lockstep
