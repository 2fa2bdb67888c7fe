#include "link/reconnect.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "error.h"
#include "link/tls.h"

namespace lockstep {

Reconnect::Reconnect(const TcpPeer& to, const Security& security) : security_(security) {
  fd_ = begin_connect(to, &error_);
  owns_fd_ = fd_ >= 0;
}

Reconnect::~Reconnect() {
  if (owns_fd_) ::close(fd_);
}

short Reconnect::events() const {
  return static_cast<short>(handshake_ && !handshake_->wants_to_write() ? POLLIN : POLLOUT);
}

Reconnect::State Reconnect::step() {
  if (handshake_) return shake();
  if (fd_ >= 0) error_ = connect_result(fd_, 0);
  if (error_ == EINPROGRESS) return State::kGoesOn;
  if (error_ != 0) return error_ == ECONNREFUSED ? State::kRefused : State::kFailed;
  if (!security_.tls) return State::kDone;
  owns_fd_ = false;
  handshake_ = begin_tls(fd_, security_.tls, TlsPeer::kSide);
  return shake();
}

Reconnect::State Reconnect::shake() {
  try {
    switch (handshake_->shake()) {
      case TlsHandshake::Shake::kGoesOn: return State::kGoesOn;
      case TlsHandshake::Shake::kDone: return State::kDone;
      case TlsHandshake::Shake::kHungUp: break;
    }
  } catch (const Failure&) {
    // Whoever is there is not the peer, and cannot say that the peer is gone.
  }
  return State::kFailed;
}

std::unique_ptr<Stream> Reconnect::take() {
  if (handshake_) return std::move(handshake_);
  owns_fd_ = false;
  return plain_stream(fd_);
}

}  // namespace lockstep
