#include "replay/world.h"

#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "guest/abi.h"

namespace lockstep {

bool FdWorld::output(uint8_t channel, uint64_t, std::span<const uint8_t> bytes) {
  bool is_error = channel == LS_CH_STDERR;
  int fd = is_error ? error_ : out_;
  if (fd < 0 || hung_up_[is_error]) return true;
  while (!bytes.empty()) {
    pollfd fds[2] = {{fd, POLLOUT, 0}, {control_.fd(), POLLIN, 0}};
    // A signal of the C library's own may end it: then nothing is known of either.
    if (poll(fds, 2, -1) < 0) continue;
    if (control_.stopping() && !(fds[0].revents & POLLOUT)) return false;
    if (fds[1].revents && !fds[0].revents) {
      control_.serve();
      continue;
    }
    // A pipe that polls writable takes PIPE_BUF bytes without blocking; the descriptor itself stays
    // blocking, because other processes share it.
    size_t chunk = std::min<size_t>(bytes.size(), PIPE_BUF);
    ssize_t written = write(fd, bytes.data(), chunk);
    if (written >= 0) {
      bytes = bytes.subspan(written);
    } else if (errno != EINTR && errno != EAGAIN) {
      hung_up_[is_error] = true;
      if (inbox_) inbox_->push({InputKind::kHangup, channel, {}});
      return true;
    }
  }
  return true;
}

}  // namespace lockstep
