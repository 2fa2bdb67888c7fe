#include "replay/inputs.h"

#include <poll.h>
#include <unistd.h>

#include "device/serial.h"
#include "guest/abi.h"

namespace lockstep {

bool Inputs::wants_fd(const Want& want) const {
  return fd_ >= 0 && !fd_ended_ && (serial_ ? want.bare : want.room[LS_CH_CONSOLE] > 0);
}

void Inputs::read_fd(const Want& want, std::vector<Input>& out) {
  pollfd ready{fd_, POLLIN, 0};
  if (poll(&ready, 1, 0) <= 0) return;
  Bytes bytes(serial_ ? Serial::kFifoMax / 4 : want.room[LS_CH_CONSOLE]);
  ssize_t got = read(fd_, bytes.data(), bytes.size());
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (got > 0) {
    bytes.resize(got);
    out.push_back({serial_ ? InputKind::kSerial : InputKind::kData, LS_CH_CONSOLE, std::move(bytes)});
    return;
  }
  // End of file; an unreadable descriptor is no different to the guest.
  fd_ended_ = true;
  if (!serial_) out.push_back({InputKind::kEof, LS_CH_CONSOLE, {}});
}

std::vector<Input> Inputs::take(const Want& want) {
  std::vector<Input> inputs;
  if (want.signals || want.bare) inputs = inbox_.take(want.room);
  if (wants_fd(want)) read_fd(want, inputs);
  return inputs;
}

void Inputs::wait(const Want& want, int64_t timeout_us) {
  pollfd fds[3] = {{inbox_.fd(), POLLIN, 0}, {control_.fd(), POLLIN, 0}, {wants_fd(want) ? fd_ : -1, POLLIN, 0}};
  timespec timeout{timeout_us / 1'000'000, timeout_us % 1'000'000 * 1000};
  ppoll(fds, 3, timeout_us < 0 ? nullptr : &timeout, nullptr);
}

}  // namespace lockstep
