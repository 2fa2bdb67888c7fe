#include "replay/inputs.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>

#include "device/serial.h"
#include "guest/abi.h"
#include "net/frame.h"

namespace lockstep {

uint32_t Inputs::room(const Want& want) const { return serial_ ? want.serial : want.room[LS_CH_CONSOLE]; }

bool Inputs::wants_fd(const Want& want) const { return fd_ >= 0 && !fd_ended_ && room(want) > 0; }

void Inputs::read_fd(const Want& want, std::vector<Input>& out) {
  pollfd ready{fd_, POLLIN, 0};
  if (poll(&ready, 1, 0) <= 0) return;
  Bytes bytes(room(want));
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

// Into frame_; its length, 0 when there is none.
size_t Inputs::next_frame() {
  if (heard_.empty()) return nic_->receive(frame_);
  const Bytes& first = heard_.front();
  const size_t got = std::min(first.size(), frame_.size());
  std::copy_n(first.begin(), got, frame_.begin());
  heard_.pop_front();
  return got;
}

void Inputs::read_packets(const Want& want, std::vector<Input>& out) {
  for (uint32_t left = want.packets; left > 0;) {
    const size_t got = next_frame();
    if (got == 0) return;
    if (got < kFrameBytesMin || got == frame_.size()) {
      nic_->lost_in++;
      continue;
    }
    out.push_back({InputKind::kPacket, 0, Bytes(frame_.begin(), frame_.begin() + got)});
    left--;
  }
}

std::vector<Input> Inputs::take(const Want& wanted) {
  std::vector<Input> inputs;
  Want want = wanted;
  uint32_t& left = serial_ ? want.serial : want.room[LS_CH_CONSOLE];
  if (want.signals || want.bare) {
    std::array<uint32_t, 4> caps = want.room;
    caps[LS_CH_CONSOLE] = left;
    inputs = inbox_.take(caps);
  }
  for (Input& input : inputs) {
    if (input.kind != InputKind::kData || input.channel != LS_CH_CONSOLE) continue;
    left -= static_cast<uint32_t>(input.bytes.size());
    if (serial_) input.kind = InputKind::kSerial;
  }
  if (wants_fd(want)) read_fd(want, inputs);
  if (nic_ && want.packets) read_packets(want, inputs);
  return inputs;
}

void Inputs::wait(const Want& want, int64_t timeout_us) {
  if (want.packets && !heard_.empty()) return;
  pollfd fds[4] = {{inbox_.fd(), POLLIN, 0},
                   {control_.fd(), POLLIN, 0},
                   {wants_fd(want) ? fd_ : -1, POLLIN, 0},
                   {nic_ && want.packets ? nic_->fd() : -1, POLLIN, 0}};
  timespec timeout{timeout_us / 1'000'000, timeout_us % 1'000'000 * 1000};
  ppoll(fds, 4, timeout_us < 0 ? nullptr : &timeout, nullptr);
}

}  // namespace lockstep
