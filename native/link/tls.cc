#include "link/tls.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "error.h"
#include "sandbox.h"

namespace lockstep {

class TlsCredentials {
 public:
  TlsCredentials() {
    if (gnutls_certificate_allocate_credentials(&credentials) < 0) throw std::bad_alloc();
  }
  ~TlsCredentials() { gnutls_certificate_free_credentials(credentials); }
  TlsCredentials(const TlsCredentials&) = delete;
  gnutls_certificate_credentials_t credentials = nullptr;
};

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kHandshakeMax = std::chrono::seconds(5);
constexpr size_t kHandshakesMax = 32;  // at once; the oldest gives way
constexpr size_t kRecordBytesMax = 16384;
constexpr char kPriority[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3";

[[noreturn]] void refuse(const std::string& what) {
  throw Failure("ERR_LOCKSTEP_TLS", what,
                "Both sides need certificates of one authority: `lockstep keys DIR`, and --tls DIR on each.");
}

gnutls_datum_t datum(const std::string& text) {
  return {const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(text.data())),
          static_cast<unsigned>(text.size())};
}

using Shake = TlsHandshake::Shake;

class TlsStream final : public TlsHandshake {
 public:
  TlsStream(int fd, bool is_server, std::shared_ptr<TlsCredentials> credentials, TlsPeer peer)
      : fd_(fd), credentials_(std::move(credentials)) {
    const unsigned flags =
        (is_server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS;
    if (gnutls_init(&session_, flags) < 0) throw std::bad_alloc();
    gnutls_priority_set_direct(session_, kPriority, nullptr);
    gnutls_credentials_set(session_, GNUTLS_CRD_CERTIFICATE, credentials_->credentials);
    if (is_server) gnutls_certificate_server_set_request(session_, GNUTLS_CERT_REQUIRE);
    // The session keeps the pointer.
    static char side_purpose[] = GNUTLS_KP_TLS_WWW_SERVER, console_purpose[] = GNUTLS_KP_TLS_WWW_CLIENT;
    static gnutls_typed_vdata_st side{GNUTLS_DT_KEY_PURPOSE_OID,
                                      reinterpret_cast<unsigned char*>(side_purpose), 0};
    static gnutls_typed_vdata_st console{GNUTLS_DT_KEY_PURPOSE_OID,
                                         reinterpret_cast<unsigned char*>(console_purpose), 0};
    gnutls_session_set_verify_cert2(session_, peer == TlsPeer::kSide ? &side : &console, 1, 0);
    gnutls_transport_set_int(session_, fd_);
  }
  ~TlsStream() override {
    gnutls_deinit(session_);
    ::close(fd_);
  }

  int fd() const override { return fd_; }
  bool wants_to_write() const override { return gnutls_record_get_direction(session_) == 1; }

  Shake shake() override {
    const int result = gnutls_handshake(session_);
    if (result == GNUTLS_E_SUCCESS) return Shake::kDone;
    if (!gnutls_error_is_fatal(result)) return Shake::kGoesOn;
    if (result == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR || result == GNUTLS_E_CERTIFICATE_ERROR) {
      gnutls_alert_send_appropriate(session_, result);
      refuse("The other side's certificate is refused. " + verdict());
    }
    if (result == GNUTLS_E_FATAL_ALERT_RECEIVED) refuse(alert());
    if (result == GNUTLS_E_PREMATURE_TERMINATION || result == GNUTLS_E_PULL_ERROR ||
        result == GNUTLS_E_PUSH_ERROR) {
      return Shake::kHungUp;
    }
    if (result == GNUTLS_E_UNEXPECTED_PACKET || result == GNUTLS_E_UNEXPECTED_PACKET_LENGTH ||
        result == GNUTLS_E_UNSUPPORTED_VERSION_PACKET || result == GNUTLS_E_RECORD_OVERFLOW) {
      gnutls_alert_send(session_, GNUTLS_AL_FATAL, GNUTLS_A_UNEXPECTED_MESSAGE);
      refuse("The other side does not speak TLS.");
    }
    gnutls_alert_send_appropriate(session_, result);
    refuse(std::string("The TLS handshake failed: ") + gnutls_strerror(result) + ".");
  }

  ssize_t read(std::span<uint8_t> into) override {
    std::lock_guard lock(mutex_);
    size_t got = 0;
    // Whole records only, and all there are: what stayed behind in the session would wake no poll(2).
    do {
      const ssize_t n = gnutls_record_recv(session_, into.data() + got, into.size() - got);
      if (n == GNUTLS_E_INTERRUPTED) continue;
      if (n > 0) {
        got += static_cast<size_t>(n);
        continue;
      }
      if (got > 0) break;
      if (n == GNUTLS_E_AGAIN) return fail(EAGAIN);
      if (n == GNUTLS_E_FATAL_ALERT_RECEIVED) problem_ = alert();
      return n == 0 || n == GNUTLS_E_PREMATURE_TERMINATION ? 0 : fail(ECONNRESET);
    } while (into.size() - got >= kRecordBytesMax);
    return static_cast<ssize_t>(got);
  }

  ssize_t write(std::span<const uint8_t> bytes) override {
    std::lock_guard lock(mutex_);
    // What was encrypted already goes first: the caller offers the same bytes again.
    errno = 0;
    const ssize_t n = sending_ ? gnutls_record_send(session_, nullptr, 0)
                               : gnutls_record_send(session_, bytes.data(), bytes.size());
    sending_ = n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED;
    if (sending_) return fail(EAGAIN);
    return n < 0 ? fail(errno == ECONNRESET ? ECONNRESET : EPIPE) : n;
  }

  std::string identity() const override {
    std::lock_guard lock(mutex_);
    unsigned count = 0;
    const gnutls_datum_t* chain = gnutls_certificate_get_peers(session_, &count);
    char hash[32];
    size_t size = sizeof hash;
    if (chain == nullptr || count == 0 || gnutls_fingerprint(GNUTLS_DIG_SHA256, &chain[0], hash, &size) < 0)
      return {};
    return {hash, size};
  }

  std::string problem() const override {
    std::lock_guard lock(mutex_);
    return problem_;
  }

 private:
  static ssize_t fail(int error) {
    errno = error;
    return -1;
  }
  std::string alert() const {
    return std::string("The other side refused this one's certificate, or its way to speak TLS: ") +
           gnutls_alert_get_name(gnutls_alert_get(session_)) + ".";
  }
  std::string verdict() const {
    gnutls_datum_t text{};
    const unsigned status = gnutls_session_get_verify_cert_status(session_);
    if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) < 0) return {};
    std::string said(reinterpret_cast<const char*>(text.data), text.size);
    gnutls_free(text.data);
    while (!said.empty() && (said.back() == ' ' || said.back() == '\0')) said.pop_back();
    return said;
  }

  const int fd_;
  const std::shared_ptr<TlsCredentials> credentials_;
  mutable std::mutex mutex_;  // a session is one state for both directions
  gnutls_session_t session_ = nullptr;
  bool sending_ = false;
  std::string problem_;
};

int remaining_ms(Clock::time_point until) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
  return static_cast<int>(std::max<int64_t>(0, left + 1));
}

int make_event_fd() {
  const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) throw_system("ERR_LOCKSTEP_LISTEN", "eventfd", "making a wake-up descriptor");
  return fd;
}

void signal_fd(int fd) {
  const uint64_t one = 1;
  (void)!::write(fd, &one, sizeof one);
}

}  // namespace

std::shared_ptr<TlsCredentials> load_tls(const std::string& ca, const std::string& certificate,
                                         const std::string& key) {
  auto loaded = std::make_shared<TlsCredentials>();
  const gnutls_datum_t trusted = datum(ca), own = datum(certificate), secret = datum(key);
  if (gnutls_certificate_set_x509_trust_mem(loaded->credentials, &trusted, GNUTLS_X509_FMT_PEM) < 1)
    refuse("The authority's certificate cannot be used.");
  const int result =
      gnutls_certificate_set_x509_key_mem(loaded->credentials, &own, &secret, GNUTLS_X509_FMT_PEM);
  if (result < 0)
    refuse(std::string("This side's certificate and key cannot be used: ") + gnutls_strerror(result));
  return loaded;
}

std::unique_ptr<TlsHandshake> begin_tls(int fd, const std::shared_ptr<TlsCredentials>& credentials,
                                        TlsPeer peer) {
  return std::make_unique<TlsStream>(fd, false, credentials, peer);
}

std::unique_ptr<Stream> connect_tls(int fd, const std::shared_ptr<TlsCredentials>& credentials, TlsPeer peer,
                                    int timeout_ms, int* error) {
  auto stream = begin_tls(fd, credentials, peer);
  const auto until =
      Clock::now() + std::min<Clock::duration>(kHandshakeMax, std::chrono::milliseconds(timeout_ms));
  for (;;) {
    switch (stream->shake()) {
      case Shake::kDone: return stream;
      case Shake::kHungUp: *error = EPROTO; return nullptr;
      case Shake::kGoesOn: break;
    }
    pollfd p{fd, static_cast<short>(stream->wants_to_write() ? POLLOUT : POLLIN), 0};
    if (poll(&p, 1, remaining_ms(until)) == 0) {
      *error = EPROTO;
      return nullptr;
    }
  }
}

TlsAcceptor::TlsAcceptor(int listening_fd, const Security& security, TlsPeer peer)
    : listening_fd_(listening_fd), security_(security), peer_(peer) {
  ready_fd_ = make_event_fd();
  stop_fd_ = make_event_fd();
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TlsAcceptor::~TlsAcceptor() {
  signal_fd(stop_fd_);
  thread_.join();
  ::close(ready_fd_);
  ::close(stop_fd_);
}

std::unique_ptr<Stream> TlsAcceptor::take() {
  std::lock_guard lock(mutex_);
  uint64_t count;
  (void)!::read(ready_fd_, &count, sizeof count);
  if (ready_.empty()) return nullptr;
  auto stream = std::move(ready_.front());
  ready_.pop_front();
  if (!ready_.empty()) signal_fd(ready_fd_);
  return stream;
}

void TlsAcceptor::run() {
  pthread_setname_np(pthread_self(), "lockstep-tls");
  if (security_.confined) confine_thread(Duty::kTls);
  struct Shaking {
    std::unique_ptr<TlsStream> stream;
    Clock::time_point until;
  };
  std::deque<Shaking> shaking;  // oldest first
  for (;;) {
    std::vector<pollfd> fds{{stop_fd_, POLLIN, 0}, {listening_fd_, POLLIN, 0}};
    for (const Shaking& s : shaking) {
      const short events = s.stream->wants_to_write() ? POLLOUT : POLLIN;
      fds.push_back({s.stream->fd(), events, 0});
    }
    poll(fds.data(), fds.size(), shaking.empty() ? -1 : remaining_ms(shaking.front().until));
    if (fds[0].revents) return;
    const auto now = Clock::now();
    for (size_t i = fds.size(); i-- > 2;) {
      const auto at = shaking.begin() + static_cast<ptrdiff_t>(i - 2);
      Shake result = at->until <= now ? Shake::kHungUp : Shake::kGoesOn;
      try {
        if (result == Shake::kGoesOn && fds[i].revents) result = at->stream->shake();
      } catch (const Failure&) {
        result = Shake::kHungUp;  // the peer was told why
      }
      if (result == Shake::kGoesOn) continue;
      if (result == Shake::kDone) {
        std::lock_guard lock(mutex_);
        ready_.push_back(std::move(at->stream));
        signal_fd(ready_fd_);
      }
      shaking.erase(at);
    }
    if (!fds[1].revents) continue;
    const int fd = accept_socket(listening_fd_);
    if (fd < 0) continue;
    if (shaking.size() == kHandshakesMax) shaking.pop_front();
    shaking.push_back({std::make_unique<TlsStream>(fd, true, security_.tls, peer_), now + kHandshakeMax});
  }
}

}  // namespace lockstep
