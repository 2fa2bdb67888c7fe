// Anything at all from who connects to a console, message by message: a server that never says more than it
// has, never takes more than its window, and goes on for the next client. The first byte of each piece says
// what it is: a message with a true length, raw bytes, or what happens to the server meanwhile.
#include <poll.h>
#include <unistd.h>

#include <algorithm>

#include "error.h"
#include "link/console_server.h"

using namespace lockstep;

namespace {

void check(bool held) {
  if (!held) __builtin_trap();
}

std::string address() {
  static const std::string path = "unix:/tmp/lockstep-fuzz-console-" + std::to_string(getpid());
  return path;
}

class World {
 public:
  World() : ledger_(1 << 20), server_(address(), {}, "pair", ledger_, inbox_, InputKind::kData) {}

  void connect() {
    int error = 0;
    client_ = connect_stream(address(), 1000, &error);
    serve();
  }
  void say(std::span<const uint8_t> bytes) {
    if (!client_) connect();
    if (client_ && client_->write(bytes) < 0) client_.reset();
    serve();
  }
  void live(uint8_t generation) {
    if (live_) return;
    live_ = true;
    ledger_.set_limit(OutputLedger::kAll);
    server_.go_live(generation, 0, false);
  }
  void print(std::span<const uint8_t> bytes) {
    ledger_.append(0, 1, bytes);
    server_.pump();
    serve();
  }
  // Input that came is in the log now.
  void commit() {
    int others = 0;
    for (const Input& input : inbox_.take({4096, 4096, 4096, 4096})) {
      others += input.kind == InputKind::kSignal || input.kind == InputKind::kWindow;
      taken_ += input.kind == InputKind::kData ? input.bytes.size() : 0;
      ended_ = ended_ || input.kind == InputKind::kEof;
    }
    server_.input_committed(taken_, ended_);
    check(inbox_.room() > 0 && others <= 32);  // each signal once, and a window size
  }

 private:
  void serve() {
    for (int round = 0; round < 4; round++) {
      std::vector<pollfd> fds;
      server_.add_to(&fds);
      if (poll(fds.data(), fds.size(), 0) <= 0) break;
      server_.serve(fds);
      (void)server_.take_changes();
    }
    uint8_t answer[65536];
    while (client_ && client_->read(answer) > 0) {
    }
  }

  OutputLedger ledger_;
  Inbox inbox_;
  ConsoleServer server_;
  std::unique_ptr<Stream> client_;
  uint64_t taken_ = 0;
  bool live_ = false, ended_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  World world;
  while (size >= 2) {
    const uint8_t what = data[0];
    const size_t length = std::min<size_t>(data[1], size - 2);
    const std::span<const uint8_t> piece(data + 2, length);
    switch (what % 8) {
      case 0: world.say(piece); break;
      case 1: world.connect(); break;
      case 2: world.live(what); break;
      case 3: world.print(piece); break;
      case 4: world.commit(); break;
      default: {
        Bytes message{static_cast<uint8_t>(length), 0, 0, 0};
        message.insert(message.end(), piece.begin(), piece.end());
        world.say(message);
      }
    }
    data += 2 + length, size -= 2 + length;
  }
  return 0;
}
