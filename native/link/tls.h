// TLS 1.3 on a stream, with certificates on both sides, by GnuTLS. Who has a certificate of the pair's own
// authority is let in; names and addresses mean nothing, because a pair has none that would last.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "link/socket.h"

namespace lockstep {

// PEM texts: the authority that both sides trust, and this side's own certificate and key. Throws
// ERR_LOCKSTEP_TLS when they cannot be used.
std::shared_ptr<TlsCredentials> load_tls(const std::string& ca, const std::string& certificate,
                                         const std::string& key);

// Takes over `fd`, which is connected, and returns when both sides know each other. Null with *error EPROTO
// when the peer hangs up or the time is over; throws ERR_LOCKSTEP_TLS when it is not one to talk to.
std::unique_ptr<Stream> connect_tls(int fd, const std::shared_ptr<TlsCredentials>& credentials, TlsPeer peer,
                                    int timeout_ms, int* error);

// The client's side of a handshake made step by step; a stream once it is done.
class TlsHandshake : public Stream {
 public:
  enum class Shake { kDone, kGoesOn, kHungUp };
  // Throws ERR_LOCKSTEP_TLS when the peer is not one to talk to.
  virtual Shake shake() = 0;
  virtual bool wants_to_write() const = 0;
};
std::unique_ptr<TlsHandshake> begin_tls(int fd, const std::shared_ptr<TlsCredentials>& credentials,
                                        TlsPeer peer);

// Accepts on a thread of its own: a peer that connects and says nothing, or makes us calculate, holds up
// nobody.
class TlsAcceptor {
 public:
  TlsAcceptor(int listening_fd, const Security& security, TlsPeer peer);
  ~TlsAcceptor();
  TlsAcceptor(const TlsAcceptor&) = delete;
  int fd() const { return ready_fd_; }  // readable when take() has something
  std::unique_ptr<Stream> take();       // null: nobody is ready

 private:
  void run();
  const int listening_fd_;
  const Security security_;
  const TlsPeer peer_;
  int ready_fd_ = -1, stop_fd_ = -1;
  std::mutex mutex_;
  std::deque<std::unique_ptr<Stream>> ready_;
  std::thread thread_;
};

// A new authority and what it signs, as PEM texts. `days`: how long they are valid from now; 0: no longer.
struct TlsKeys {
  std::string ca_certificate, ca_key, side_certificate, side_key, console_certificate, console_key;
};
TlsKeys make_tls_keys(int days);

}  // namespace lockstep
