// The parts of a pair, each alone: sockets, messages, the ledger, the arbiters, the console server.
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <thread>

#include "link/arbiter.h"
#include "link/connection.h"
#include "link/console_server.h"
#include "link/link_message.h"
#include "link/output_ledger.h"
#include "test/check.h"

namespace lockstep::test {
namespace {

std::string fresh(const std::string& what) {
  return "/tmp/lockstep-parts-" + std::to_string(getpid()) + "-" + std::to_string(random()()) + "-" + what;
}

std::span<const uint8_t> view(const std::string& s) {
  return {reinterpret_cast<const uint8_t*>(s.data()), s.size()};
}
std::string text(std::span<const uint8_t> b) { return {b.begin(), b.end()}; }

TEST(addresses) {
  for (const char* bad : {"", "unix:", "tcp:1", "tcp::5", "tcp:127.0.0.1:x", "tcp:127.0.0.1:65536", "udp:a:1",
                          "tcp:no.such.host.invalid:1"}) {
    CHECK(failure_code([&] { Listener l{bad}; }) == "ERR_LOCKSTEP_ADDRESS_INVALID");
  }
  CHECK(failure_code([] { Listener l("unix:/" + std::string(200, 'x')); }) == "ERR_LOCKSTEP_ADDRESS_INVALID");
  int error;
  for (const char* open : {"tcp:0.0.0.0:0", "tcp:10.1.2.3:9", "tcp:[::]:0"}) {
    CHECK(failure_code([&] { Listener l{open}; }) == "ERR_LOCKSTEP_INSECURE_LINK");
    CHECK(failure_code([&] { connect_stream(open, 1, &error); }) == "ERR_LOCKSTEP_INSECURE_LINK");
  }
  Listener port_zero("tcp:127.0.0.1:0");
  CHECK(port_zero.address() != "tcp:127.0.0.1:0");
  CHECK(connect_stream(port_zero.address(), 100, &error) != nullptr);
  CHECK(failure_code([&] { Listener again(port_zero.address()); }) == "ERR_LOCKSTEP_ADDRESS_IN_USE");
}

TEST(a_stale_path_is_replaced_and_a_living_one_is_not) {
  std::string path = fresh("socket"), address = "unix:" + path;
  {
    // As a killed process leaves it.
    int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path.c_str());
    CHECK(::bind(fd, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0);
    ::close(fd);
  }
  auto listener = std::make_unique<Listener>(address);
  struct stat s {};
  CHECK(::stat(path.c_str(), &s) == 0 && (s.st_mode & 0777) == 0600);
  CHECK(failure_code([&] { Listener again(address); }) == "ERR_LOCKSTEP_ADDRESS_IN_USE");
  int error;
  auto stream = connect_stream(address, 100, &error);
  CHECK(stream && listener->accept());
  listener.reset();
  CHECK(::stat(path.c_str(), &s) != 0);
  CHECK(!connect_stream(address, 100, &error) && error == ENOENT);
  // A file that is no socket is not ours to remove.
  fclose(fopen(path.c_str(), "w"));
  CHECK(failure_code([&] { Listener l(address); }) == "ERR_LOCKSTEP_ADDRESS_IN_USE");
  CHECK(::unlink(path.c_str()) == 0);
}

TEST(a_connection_keeps_what_the_socket_does_not_take) {
  auto [a, b] = stream_pair();
  Connection out(std::move(a)), in(std::move(b));
  std::string sent;
  for (int i = 0; i < 3000; i++) {
    std::string piece(1 + below(1000), static_cast<char>('a' + i % 26));
    sent += piece;
    out.send(view(piece));
  }
  CHECK(out.unsent() > 0);
  std::string got;
  while (got.size() < sent.size()) {
    out.flush();
    in.fill();
    if (in.unread().empty()) continue;
    size_t n = 1 + below(in.unread().size());
    got += text(in.unread().first(n));
    in.consume(n);
  }
  CHECK(got == sent && out.unsent() == 0 && in.fill() == Connection::Fill::kNothing);
}

using namespace link_message;

std::vector<Bytes> some_messages() {
  static const Bytes data(1000, 5);
  std::vector<Bytes> all;
  for (const LinkMessage& m : std::vector<LinkMessage>{
           Hello{"shadow", 5}, Header{"pair", 7, 1234}, HeaderData{data}, Refused{"no"}, Ready{}, Armed{2},
           Frame{data}, ProgressTo{{5, 6}}, Released{4, 99}, Ack{1, 2, 3, 4, 5}, Heartbeat{12, true, 13},
           Diverged{"page 7"}, Ended{1, 2}, Resume{{"pair", "shadow", 7}, 3, 99}, Resumed{98},
           Witness{{"pair", "shadow", 7}, 4}, Packed{5, data}}) {
    all.push_back(encode_link(m));
  }
  return all;
}

TEST(link_messages_come_out_as_they_went_in) {
  for (const Bytes& bytes : some_messages()) {
    LinkMessage m;
    for (size_t n = 0; n < bytes.size(); n++) CHECK(parse_link(std::span(bytes).first(n), &m) == 0);
    CHECK(parse_link(bytes, &m) == bytes.size());
    CHECK(encode_link(m) == bytes);
  }
  Bytes frame{1, 2, 3};
  auto head = frame_head(3);
  Bytes joined(head.begin(), head.end());
  joined.insert(joined.end(), frame.begin(), frame.end());
  CHECK(encode_link(Frame{frame}) == joined);
}

TEST(a_flipped_bit_in_a_link_message_is_found) {
  for (const Bytes& good : some_messages()) {
    LinkMessage m;
    for (size_t bit = 0; bit < good.size() * 8; bit++) {
      Bytes bad = good;
      bad[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
      size_t used = 0;
      std::string code = failure_code([&] { used = parse_link(bad, &m); });
      // A longer length waits for more; a frame, or what became one, is checked by the frame's own checksum.
      CHECK(code == "ERR_LOCKSTEP_LINK_DAMAGED" || used == 0 || std::holds_alternative<Frame>(m));
    }
  }
  LinkMessage m;
  CHECK(failure_code([&] {
          parse_link(Bytes{0xff, 0xff, 0xff, 0xff, 7}, &m);
        }) == "ERR_LOCKSTEP_LINK_DAMAGED");
}

TEST(the_ledger_lets_out_what_is_safe_and_keeps_what_has_not_arrived) {
  OutputLedger ledger(100);
  ledger.append(0, 0, view("boot "));
  ledger.append(0, 1, view("one "));
  ledger.append(1, 2, view("two "));
  ledger.append(0, 3, view("three"));
  CHECK(text(ledger.ready(0, 0, 100)) == "boot " && ledger.ready(1, 0, 100).empty());
  ledger.set_limit(2);
  CHECK(text(ledger.ready(0, 2, 100)) == "ot one " && text(ledger.ready(1, 0, 3)) == "two");
  ledger.set_limit(0);  // holding again does not call back what was let out
  CHECK(ledger.committed(0) == 9);
  ledger.append(1, 3, view("four"));
  CHECK(ledger.committed(1) == 4 && !ledger.all_committed());
  ledger.drop(0, 6);
  CHECK(ledger.start(0) == 6 && text(ledger.ready(0, 6, 100)) == "ne " && ledger.held() == 8 + 8);
  ledger.set_limit(OutputLedger::kAll);
  CHECK(ledger.all_committed() && text(ledger.ready(0, 9, 100)) == "three");
  ledger.append(4, 9, view("now"));
  CHECK(text(ledger.ready(4, 0, 9)) == "now");
  // What the other side says has arrived, before this side has made it.
  ledger.drop(1, 10);
  CHECK(ledger.start(1) == 8);
  ledger.append(1, 9, view("five"));
  CHECK(ledger.start(1) == 10 && text(ledger.ready(1, 10, 9)) == "ve" && ledger.end(1) == 12);
}

TEST(the_ledger_against_a_simple_model) {
  for (int round = 0; round < 200; round++) {
    OutputLedger ledger(1 << 20);
    struct Piece {
      uint8_t channel;
      uint64_t mark, end;
    };
    std::vector<Piece> pieces;
    std::array<std::string, kOutputChannels> all;
    std::array<uint64_t, kOutputChannels> committed{}, dropped{};
    uint64_t mark = 0, limit = 0;
    for (int i = 0; i < 300; i++) {
      auto c = static_cast<uint8_t>(below(kOutputChannels));
      if (below(2)) {
        mark += below(2);
        std::string s(below(5000), static_cast<char>('a' + i % 26));
        all[c] += s;
        ledger.append(c, mark, view(s));
        if (!s.empty()) pieces.push_back({c, mark, all[c].size()});
      } else if (below(2)) {
        limit = below(mark + 2);
        ledger.set_limit(limit);
      } else if (committed[c] > dropped[c]) {
        dropped[c] += below(committed[c] - dropped[c] + 1);
        ledger.drop(c, dropped[c]);
      }
      // In order over all channels: nothing passes what waits.
      for (; !pieces.empty() && pieces.front().mark <= limit; pieces.erase(pieces.begin())) {
        committed[pieces.front().channel] = pieces.front().end;
      }
      size_t held = 0;
      for (uint8_t k = 0; k < kOutputChannels; k++) {
        held += all[k].size() - dropped[k];
        CHECK(ledger.start(k) == dropped[k] && ledger.committed(k) == committed[k] &&
              ledger.end(k) == all[k].size());
        CHECK(text(ledger.ready(k, dropped[k], SIZE_MAX)) ==
              all[k].substr(dropped[k], committed[k] - dropped[k]));
      }
      CHECK(ledger.held() == held && ledger.all_committed() == pieces.empty());
    }
  }
}

void try_arbiter(Arbiter& arbiter) {
  CHECK(arbiter.arm("p", 2, "s") && arbiter.arm("p", 2, "s") && arbiter.arm("p", 2, "other"));
  CHECK(arbiter.claim("p", 2, "a") == Claim::kWon && arbiter.claim("p", 2, "b") == Claim::kLost);
  CHECK(arbiter.claim("p", 2, "a") == Claim::kWon && arbiter.claim("p", 3, "b") == Claim::kWon);
  CHECK(arbiter.claim("q", 2, "b") == Claim::kWon);
  CHECK(failure_code([&] { arbiter.claim("../p", 2, "b"); }) == "ERR_LOCKSTEP_PAIR_ID");
  for (uint64_t generation = 10; generation < 40; generation++) {
    std::atomic<int> won{0}, lost{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++) {
      threads.emplace_back([&, i] {
        Claim c = arbiter.claim("p", generation, "id" + std::to_string(i));
        (c == Claim::kWon ? won : lost) += c != Claim::kUnreachable;
      });
    }
    for (auto& t : threads) t.join();
    CHECK(won == 1 && lost == 3);
  }
}

TEST(arbiters_let_exactly_one_win) {
  try_arbiter(*make_memory_arbiter("parts"));
  CHECK(make_memory_arbiter("parts")->claim("p", 2, "b") == Claim::kLost);
  std::string directory = fresh("arbiter");
  CHECK(::mkdir(directory.c_str(), 0700) == 0);
  try_arbiter(*make_file_arbiter(directory));
  CHECK(make_file_arbiter(directory)->claim("p", 2, "b") == Claim::kLost);
  struct stat s {};
  CHECK(::stat((directory + "/p.g2").c_str(), &s) == 0 && (s.st_mode & 0777) == 0600 && s.st_nlink == 1);
  CHECK(::stat((directory + "/p.armed2").c_str(), &s) == 0);
  CHECK(system(("test -z \"$(find " + directory + " -name '.*' -type f)\" && rm -r " + directory).c_str()) ==
        0);
  CHECK(make_file_arbiter(directory)->claim("p", 2, "b") == Claim::kUnreachable);
  CHECK(!make_file_arbiter(directory)->arm("p", 2, "b"));
}

// A console server and a raw client, by hand.
struct Console {
  OutputLedger ledger{10'000};
  Inbox inbox;
  ConsoleServer server{"tcp:127.0.0.1:0", {}, "pair", ledger, inbox, InputKind::kData};
  std::vector<std::unique_ptr<Connection>> clients;

  Connection& connect(const std::string& pair_id = {}, uint32_t version = kConsoleVersion) {
    int error;
    clients.push_back(std::make_unique<Connection>(connect_stream(server.address(), 100, &error)));
    clients.back()->send(encode_console(console_message::Hello{version, pair_id, {{0, 0}}}));
    serve();
    return *clients.back();
  }
  void serve() {
    for (int i = 0; i < 5; i++) {
      std::vector<pollfd> fds;
      server.add_to(&fds);
      poll(fds.data(), fds.size(), 2);
      server.serve(fds);
    }
  }
  void say(const ConsoleMessage& m) {
    clients.back()->send(encode_console(m));
    serve();
  }
  // What the newest client hears, in short.
  std::string heard(Connection& c) {
    std::string all;
    auto filled = Connection::Fill::kBytes;
    while ((filled = c.fill()) == Connection::Fill::kBytes) {
    }
    ConsoleMessage m;
    while (size_t used = parse_console(c.unread(), &m)) {
      if (auto* w = std::get_if<console_message::Welcome>(&m))
        all += "W" + std::to_string(w->generation) + "@" + std::to_string(w->input_offset) + " ";
      if (auto* o = std::get_if<console_message::Output>(&m))
        all += "O" + std::to_string(o->offset) + text(o->bytes) + " ";
      if (auto* a = std::get_if<console_message::InputAck>(&m))
        all += "A" + std::to_string(a->offset) + (a->eof ? "E " : " ");
      if (auto* e = std::get_if<console_message::Error>(&m)) all += e->code + " ";
      if (std::get_if<console_message::Ended>(&m)) all += "end ";
      c.consume(used);
    }
    return all + (filled == Connection::Fill::kClosed ? "closed" : "");
  }
  std::string typed() {
    std::string all;
    for (auto& i : inbox.take({9999, 9999, 9999, 9999}))
      all += i.kind == InputKind::kEof ? "<eof>" : text(i.bytes);
    return all;
  }
};

TEST(a_console_waits_for_its_side_to_go_live) {
  Console c;
  Connection& client = c.connect("pair");
  c.ledger.append(0, 0, view("abc"));
  c.server.pump();
  CHECK(c.heard(client).empty());
  c.ledger.drop(0, 1);
  c.server.go_live(2, 5, false);
  CHECK(c.heard(client) == "W2@5 A5 O1bc ");
  c.say(console_message::Input{3, view("xxyz")});  // two of it are known
  CHECK(c.typed() == "yz");
  c.server.input_committed(7, false);
  CHECK(c.heard(client) == "A7 ");
  c.say(console_message::InputEof{7});
  c.server.input_committed(7, true);
  CHECK(c.typed() == "<eof>" && c.heard(client) == "A7E ");
  // A newer client takes the place of the older, and gets what was not acknowledged again.
  Connection& newer = c.connect();
  CHECK(c.heard(client) == "ERR_LOCKSTEP_CONSOLE_REPLACED closed");
  CHECK(c.heard(newer) == "W2@7 A7E O1bc ");
  c.server.end(End{});
  CHECK(c.heard(newer) == "end ");
  c.say(console_message::OutputAck{0, 3});
  CHECK(!c.server.delivered_end());
  c.clients.clear();
  c.serve();
  CHECK(c.server.delivered_end());
}

TEST(a_console_client_may_have_more_than_its_new_side_has_made_again) {
  Console c;
  Connection& client = c.connect();
  c.ledger.set_limit(OutputLedger::kAll);
  c.ledger.append(0, 0, view("abc"));
  c.server.go_live(2, 0, false);
  CHECK(c.heard(client) == "W2@0 A0 O0abc ");
  c.say(console_message::OutputAck{0, 5});
  CHECK(c.ledger.held() == 0);
  c.ledger.append(0, 0, view("de"));
  c.server.pump();
  CHECK(c.heard(client) == "O3de " && c.ledger.held() == 0);  // comes for comparison, needs no other answer
  c.ledger.append(0, 0, view("f"));
  c.server.pump();
  CHECK(c.heard(client) == "O5f " && c.ledger.held() == 1);
}

TEST(a_guest_that_takes_no_input_bounds_what_clients_send_one_after_the_other) {
  Console c;
  c.server.go_live(1, 0, false);
  const std::string window(kConsoleInputWindow, 'x');
  for (size_t sent = 0; sent < Inbox::kBytesMax; sent += window.size()) {
    Connection& client = c.connect();
    c.say(console_message::Input{sent, view(window)});
    CHECK(c.heard(client).find("closed") == std::string::npos);
  }
  CHECK(c.inbox.room() == 0);
  Connection& last = c.connect();
  c.say(console_message::Input{Inbox::kBytesMax, view("x")});
  CHECK(c.heard(last).find("ERR_LOCKSTEP_CONSOLE_PROTOCOL") != std::string::npos);
  CHECK(c.inbox.take({1 << 20, 0, 0, 0}).front().bytes.size() == Inbox::kBytesMax);
}

TEST(a_console_client_that_breaks_the_protocol_is_sent_away) {
  using namespace console_message;
  const std::string kProtocol = "ERR_LOCKSTEP_CONSOLE_PROTOCOL closed";
  auto says = [&](const ConsoleMessage& m, bool live = true) {
    Console c;
    Connection& client = c.connect();
    if (live) c.server.go_live(1, 0, false);
    c.heard(client);
    c.say(m);
    return c.heard(client);
  };
  std::string big(kConsoleInputWindow + 1, 'x');
  CHECK(says(console_message::Input{1, view("gap")}) == kProtocol);
  CHECK(says(console_message::Input{UINT64_MAX, view("wrap")}) == kProtocol);
  CHECK(says(console_message::Input{0, view(big)}) == kProtocol);
  CHECK(says(console_message::Input{0, view("early")}, false) == kProtocol);
  CHECK(says(OutputAck{2, 0}) == kProtocol && says(OutputAck{200, 0}) == kProtocol);
  CHECK(says(InputEof{1}) == kProtocol && says(Signal{0}) == kProtocol && says(InputAck{}) == kProtocol);
  CHECK(says(console_message::Hello{kConsoleVersion, "", {}}) == kProtocol);
  CHECK(says(Signal{2}).empty() && says(Window{25, 80}).empty());
  Console c;
  CHECK(c.heard(c.connect("pair", 9)) == "ERR_LOCKSTEP_CONSOLE_VERSION closed");
  CHECK(c.heard(c.connect("other")) == "ERR_LOCKSTEP_OTHER_PAIR closed");
}

}  // namespace
}  // namespace lockstep::test
