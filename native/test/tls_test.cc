// TLS on the link: who is let in, who is not and hears why, and that nothing of it can be read on the wire.
#include "link/tls.h"

#include <poll.h>
#include <unistd.h>

#include <thread>

#include "link/connection.h"
#include "log/event.h"
#include "test/check.h"

namespace lockstep::test {
namespace {

const TlsKeys& keys() {
  static const TlsKeys made = make_tls_keys(10);
  return made;
}
Security side(const TlsKeys& k = keys()) {
  return {load_tls(k.ca_certificate, k.side_certificate, k.side_key)};
}
Security console(const TlsKeys& k = keys()) {
  return {load_tls(k.ca_certificate, k.console_certificate, k.console_key)};
}

bool readable(int fd, int ms = 5000) {
  pollfd p{fd, POLLIN, 0};
  return poll(&p, 1, ms) == 1;
}

struct Ends {
  Listener listener;
  std::unique_ptr<Stream> near, far;
  Ends(const Security& server, const Security& client, TlsPeer peer = TlsPeer::kSide)
      : listener("tcp:127.0.0.1:0", server, peer) {
    int error = 0;
    near = connect_stream(listener.address(), 5000, &error, client);
    if (!near) throw Failure("ERR_LOCKSTEP_TLS", "nobody");
    if (readable(listener.fd(), 2000)) far = listener.accept();
  }
};

// What connecting like that ends in: empty when both sides talk.
std::string refusal(const Security& server, const Security& client, TlsPeer peer = TlsPeer::kSide) {
  try {
    Ends ends(server, client, peer);
    if (ends.far) return {};
    // TLS 1.3: a client hears only now that it was refused.
    Connection connection(std::move(ends.near));
    for (int i = 0; i < 100 && connection.fill() == Connection::Fill::kNothing; i++)
      readable(connection.fd(), 50);
    return connection.problem().empty() ? "hung up" : connection.problem();
  } catch (const Failure& failure) {
    return std::string(failure.code) + ": " + failure.what();
  }
}

bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

TEST(tls_carries_both_ways_what_a_small_buffer_only_takes_in_parts) {
  Ends ends(side(), side());
  CHECK(ends.far);
  Bytes sent(5'000'000);
  for (size_t i = 0; i < sent.size(); i++) sent[i] = static_cast<uint8_t>(random()());
  auto carry = [&](std::unique_ptr<Stream> from, std::unique_ptr<Stream> to) {
    Connection out(std::move(from)), in(std::move(to));
    for (size_t at = 0; at < sent.size();) {
      const size_t bytes = std::min<size_t>(sent.size() - at, random()() % 100'000 + 1);
      out.send({sent.data() + at, bytes});
      at += bytes;
    }
    CHECK(out.unsent() > 0);
    size_t got = 0;
    for (int turns = 0; turns < 1'000'000 && got < sent.size(); turns++) {
      out.flush();
      const auto filled = in.fill();
      CHECK(filled != Connection::Fill::kClosed);
      const auto unread = in.unread();
      CHECK(got + unread.size() <= sent.size() &&
            memcmp(unread.data(), sent.data() + got, unread.size()) == 0);
      got += unread.size();
      in.consume(unread.size());
    }
    CHECK(got == sent.size());
  };
  carry(std::move(ends.near), std::move(ends.far));
  Ends again(side(), side());
  carry(std::move(again.far), std::move(again.near));
}

TEST(tls_takes_one_thread_that_reads_and_one_that_writes) {
  Ends ends(side(), side());
  CHECK(ends.far);
  constexpr size_t kBytes = 2'000'000;
  auto write_all = [](Stream& stream) {
    Bytes block(3000, 7);
    for (size_t sent = 0; sent < kBytes;) {
      const ssize_t n = stream.write({block.data(), std::min(block.size(), kBytes - sent)});
      if (n > 0) sent += static_cast<size_t>(n);
      if (n < 0) std::this_thread::yield();
    }
  };
  auto read_all = [](Stream& stream) {
    Bytes block(128 * 1024);
    size_t got = 0;
    while (got < kBytes && readable(stream.fd())) {
      const ssize_t n = stream.read(block);
      if (n == 0) break;
      if (n > 0) got += static_cast<size_t>(n);
    }
    return got;
  };
  std::thread one([&] { write_all(*ends.near); }), two([&] { write_all(*ends.far); });
  size_t near = 0;
  std::thread three([&] { near = read_all(*ends.near); });
  const size_t far = read_all(*ends.far);
  one.join(), two.join(), three.join();
  CHECK(near == kBytes && far == kBytes);
}

TEST(tls_lets_in_only_those_of_its_own_authority) {
  const TlsKeys other = make_tls_keys(10), expired = make_tls_keys(0);
  CHECK(refusal(side(), side()).empty());
  CHECK(has(refusal(side(), side(other)), "ERR_LOCKSTEP_TLS: The other side's certificate is refused."));
  // The client trusts the server, but not the other way round.
  Security foreign{load_tls(keys().ca_certificate, other.side_certificate, other.side_key)};
  CHECK(has(refusal(side(), foreign), "The other side refused this one's certificate"));
  CHECK(has(refusal(foreign, side()), "certificate is refused. The certificate is NOT trusted"));
  const std::string late = refusal(side(expired), side(expired));
  CHECK(has(late, "certificate is refused.") && has(late, "expired"));
  // A console client's certificate opens consoles, and no link.
  CHECK(has(refusal(side(), console()), "The other side refused this one's certificate"));
  CHECK(refusal(side(), console(), TlsPeer::kAnyone).empty());
  CHECK(refusal(side(), side(), TlsPeer::kAnyone).empty());
  CHECK(has(refusal(console(), side()), "certificate is refused."));
}

TEST(tls_and_plain_do_not_meet) {
  CHECK(has(refusal({}, side()), "nobody") || has(refusal({}, side()), "does not speak TLS"));
  Listener listener("tcp:127.0.0.1:0", side());
  int error = 0;
  auto plain = connect_stream(listener.address(), 5000, &error);
  CHECK(plain);
  const uint8_t hello[] = {40, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  CHECK(plain->write(hello) == sizeof hello);
  Connection connection(std::move(plain));
  CHECK(readable(connection.fd()));
  connection.fill();
  CHECK(connection.unread().size() >= 7 && connection.unread()[0] == 0x15);  // an alert
  CHECK(!listener.accept());
}

TEST(a_peer_that_says_nothing_keeps_nobody_waiting) {
  Listener listener("tcp:127.0.0.1:0", side());
  int error = 0;
  std::vector<std::unique_ptr<Stream>> mute;
  for (int i = 0; i < 40; i++) mute.push_back(connect_stream(listener.address(), 5000, &error));
  CHECK(!listener.accept());
  auto friendly = connect_stream(listener.address(), 5000, &error, side());
  CHECK(friendly && readable(listener.fd()) && listener.accept());
}

TEST(keys_that_cannot_be_used_are_refused) {
  auto code = [](auto load) -> std::string {
    try {
      load();
      return {};
    } catch (const Failure& failure) {
      return failure.code;
    }
  };
  const TlsKeys& k = keys();
  CHECK(code([&] { load_tls("", k.side_certificate, k.side_key); }) == "ERR_LOCKSTEP_TLS");
  CHECK(code([&] { load_tls(k.ca_certificate, k.side_certificate, k.console_key); }) == "ERR_LOCKSTEP_TLS");
  CHECK(code([&] { load_tls(k.ca_certificate, k.side_certificate, "x"); }) == "ERR_LOCKSTEP_TLS");
}

}  // namespace
}  // namespace lockstep::test
