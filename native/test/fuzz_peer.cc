// Anything at all from the other side of a pair, to a whole side with its thread: a hostile shadow speaks to
// a primary that runs, a hostile primary to a shadow that joins it and relives what it sends. Each piece of
// the input is a message with a true length and checksum, so that what is behind the parser is reached.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "error.h"
#include "link/connection.h"
#include "link/link_message.h"
#include "link/pair.h"
#include "log/frame.h"
#include "memory/page_pieces.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

using namespace lockstep;

namespace {

constexpr uint64_t kMemoryBytes = 4 << 20;

void check(bool held) {
  if (!held) __builtin_trap();
}

std::string place(const char* name) {
  return "unix:/tmp/lockstep-fuzz-peer-" + std::to_string(getpid()) + name;
}

// What chance would hardly find: a frame that follows those before, a state and memory that fit it.
class Truth {
 public:
  // Empty for other types.
  Bytes message(uint8_t type, std::span<const uint8_t> data) {
    switch (type) {
      case 28: {
        Event event;
        event.lsn = ++lsn_;
        event.accesses = data.size() % 4;
        event.inputs.push_back({InputKind::kData, 0, Bytes(data.begin(), data.end())});
        encoder_->append(event);
        const Bytes frame = encoder_->take();
        return encode_link(link_message::Frame{frame});
      }
      case 29: {
        LogStart start;
        start.digest.lsn = ++lsn_;
        start.digest.memory = start.digest.whole = 1;
        start.chain = encoder_->chain();
        start.state.assign(data.begin(), data.end());
        FrameDecoder decoder;
        decoder.start_from(start);
        encoder_ = std::make_unique<FrameEncoder>(decoder);
        const Bytes encoded = encode_log_start(start);
        return encode_link(link_message::Start{0, 0, encoded});
      }
      case 30: {
        static const GuestMemory memory(kMemoryBytes);
        const uint64_t pages[] = {data.size()};
        const Bytes piece = encode_pages(memory, pages);
        return encode_link(link_message::Pages{piece});
      }
      case 31: return encode_link(link_message::Armed{2});
      default: return {};
    }
  }

 private:
  std::unique_ptr<FrameEncoder> encoder_ = std::make_unique<FrameEncoder>();
  uint64_t lsn_ = 0;
};

// Type and length first, up to 2 KiB.
Bytes messages(const uint8_t* data, size_t size) {
  Bytes all;
  Truth truth;
  while (size >= 2) {
    const uint8_t type = data[0] & 31;
    const size_t length = std::min<size_t>(data[1] | (data[0] >> 5) << 8, size - 2);
    const std::span<const uint8_t> fields(data + 2, length);
    Bytes message = truth.message(type, fields);
    if (message.empty()) {
      Bytes body{type};
      body.insert(body.end(), fields.begin(), fields.end());
      const auto sum = static_cast<uint32_t>(XXH3_64bits(body.data(), body.size()));
      if (type != 7)  // a frame has its own
        for (int i = 0; i < 4; i++) body.push_back(static_cast<uint8_t>(sum >> (8 * i)));
      for (int i = 0; i < 4; i++) message.push_back(static_cast<uint8_t>(body.size() >> (8 * i)));
      message.insert(message.end(), body.begin(), body.end());
    }
    all.insert(all.end(), message.begin(), message.end());
    data += 2 + length, size -= 2 + length;
  }
  return all;
}

// Says it all, hears what comes back, and hangs up when the other side has or when nothing comes any more.
void speak(Connection& connection, const Bytes& all) {
  connection.send(all);
  for (int quiet = 0; quiet < 2;) {
    pollfd p{connection.fd(), static_cast<short>(POLLIN | (connection.unsent() ? POLLOUT : 0)), 0};
    if (poll(&p, 1, 2) <= 0) {
      quiet++;
      continue;
    }
    connection.flush();
    if (connection.fill() == Connection::Fill::kClosed) return;
    connection.consume(connection.unread().size());
  }
}

PairOptions options() {
  PairOptions options;
  options.link_address = place(".link");
  options.console_address = place(".console");
  options.arbiter = make_memory_arbiter("fuzz");
  // Each run is a pair of its own.
  static uint64_t runs = 0;
  char id[33];
  snprintf(id, sizeof id, "%032llx", static_cast<unsigned long long>(++runs));
  options.pair_id = id;
  options.security.confined = false;  // threads of the sanitizer's have more to do
  return options;
}

void to_a_primary(const uint8_t* data, size_t size) {
  Inbox inbox;
  GuestMemory memory(kMemoryBytes);
  MemorySender sender(memory);
  const bool runs = size > 0 && data[0] & 1;
  PairOptions mine = options();
  mine.alone = true;
  auto pair = Pair::primary(mine, Bytes(100, 'h'), inbox, [](const PairEvent&) {});
  FrameEncoder encoder;
  uint64_t lsn = 0;
  const auto go_on = [&] {
    Event event;
    event.lsn = ++lsn;
    encoder.append(event);
    const Bytes frame = encoder.take();
    pair->frame(frame, lsn);
    pair->progress(lsn, 1);
    const uint8_t said[] = {'x'};
    pair->output(0, lsn, said);
    if (!pair->wants_state() || !pair->state_is_due()) return;
    LogStart start;
    start.digest.lsn = lsn;
    pair->saved(start);
  };
  if (runs) {
    pair->serve_joins({}, sender, [] {});
    go_on();
  }
  int error = 0;
  auto stream = connect_stream(mine.link_address, 1000, &error);
  check(stream != nullptr);
  Connection peer(std::move(stream));
  peer.send(encode_link(link_message::Hello{"shadow", 1}));
  for (int round = 0; round < 3; round++) {
    const size_t part = round == 2 ? size : std::min<size_t>(size, size / 2 + 1);
    speak(peer, messages(data, part));
    if (runs) go_on();
    data += part, size -= part;
  }
  pair->stop();
}

void to_a_shadow(const uint8_t* data, size_t size) {
  const bool runs = size > 0 && data[0] & 1;
  const PairOptions mine = options();
  Listener listener(mine.link_address);
  std::thread primary([&] {
    pollfd p{listener.fd(), POLLIN, 0};
    poll(&p, 1, 1000);
    auto stream = listener.accept();
    if (!stream) return;
    Connection peer(std::move(stream));
    peer.send(encode_link(link_message::Header{mine.pair_id, 1, 10, runs}));
    peer.send(
        encode_link(link_message::HeaderData{std::span(reinterpret_cast<const uint8_t*>("headerhead"), 10)}));
    speak(peer, messages(data, size));
  });
  try {
    Inbox inbox;
    Bytes header;
    GuestMemory memory(kMemoryBytes);
    auto pair = Pair::shadow(
        mine, inbox, [](const PairEvent&) {}, [](std::span<const uint8_t>) {}, 1000, &header);
    check(header.size() == 10);
    LogStart start;
    bool follows = true;
    if (pair->joins_running()) {
      try {
        follows =
            pair->receive_state([&](std::span<const uint8_t> piece) { decode_pages(piece, memory); }, &start);
      } catch (const Failure& failure) {
        check(failure.code.starts_with("ERR_LOCKSTEP_"));
        follows = false;
      }
      if (follows) pair->loaded(0, false);
    }
    Record record;
    while (follows && pair->next(&record) == RecordSource::Next::kRecord) {
      if (const auto* event = std::get_if<Event>(&record)) pair->executed(event->lsn);
      const uint8_t said[] = {'x'};
      pair->output(0, 0, said);
    }
    pair->stop();
  } catch (const Failure& failure) {
    check(failure.code.starts_with("ERR_LOCKSTEP_"));
  }
  if (primary.joinable()) primary.join();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  (data[0] & 1 ? to_a_primary : to_a_shadow)(data + 1, size - 1);
  return 0;
}
