// A new connection to where another one leads or led, made step by step: whoever drives it never waits.
#pragma once

#include <memory>

#include "link/socket.h"

namespace lockstep {

class TlsHandshake;

class Reconnect {
 public:
  enum class State {
    kGoesOn,   // call step() again when fd() is ready for events()
    kDone,     // take() has it
    kRefused,  // nobody listens there any more: the process is gone
    kFailed,   // anything else, which may be better later
  };

  Reconnect(const TcpPeer& to, const Security& security);
  ~Reconnect();
  Reconnect(const Reconnect&) = delete;
  int fd() const { return fd_; }  // -1: it failed at once
  short events() const;
  State step();
  std::unique_ptr<Stream> take();

 private:
  State shake();
  const Security security_;
  int error_ = 0;
  int fd_ = -1;
  bool owns_fd_ = false;  // no stream does
  std::unique_ptr<TlsHandshake> handshake_;
};

}  // namespace lockstep
