// What waits for a slow link is compressed: it comes out as it went in, and whoever sends something else gets
// nowhere.
#include <zstd.h>

#include "link/link_stream.h"
#include "link/packer.h"
#include "test/check.h"

namespace lockstep::test {
namespace {

using namespace link_message;

Bytes some_text(size_t bytes) {
  Bytes text;
  while (text.size() < bytes) {
    const auto word = static_cast<uint8_t>('a' + below(20));
    text.insert(text.end(), 1 + below(9), word);
  }
  text.resize(bytes);
  return text;
}

TEST(packed_pieces_come_out_as_they_went_in) {
  Packer packer;
  Unpacker unpacker;
  size_t plain_bytes = 0, packed_bytes = 0;
  for (int i = 0; i < 500; i++) {
    const Bytes piece = some_text(1 + below(below(10) ? 4000 : kPieceBytesMax));
    const Bytes packed = packer.pack(piece);
    Bytes out{1, 2, 3};
    unpacker.unpack(packed, piece.size(), &out);
    CHECK(out.size() == 3 + piece.size() && std::equal(piece.begin(), piece.end(), out.begin() + 3));
    plain_bytes += piece.size();
    packed_bytes += packed.size();
  }
  CHECK(packed_bytes < plain_bytes / 2);
  Bytes noise(kPieceBytesMax);
  for (uint8_t& b : noise) b = uint8_t(random()());
  Bytes out;
  unpacker.unpack(packer.pack(noise), noise.size(), &out);
  CHECK(out == noise);
  // It fits a message of its own.
  CHECK(!encode_link(Packed{uint32_t(noise.size()), Packer().pack(noise)}).empty());
}

TEST(a_packed_piece_that_is_not_what_it_says_is_refused) {
  const Bytes piece = some_text(5000), packed = Packer().pack(piece);
  const auto refuses = [](std::span<const uint8_t> bytes, size_t plain_bytes) {
    Bytes out;
    return failure_code([&] { Unpacker().unpack(bytes, plain_bytes, &out); }) ==
               "ERR_LOCKSTEP_LINK_DAMAGED" &&
           out.size() <= kPieceBytesMax;
  };
  CHECK(refuses(packed, piece.size() - 1) && refuses(packed, piece.size() + 1) && refuses(packed, 0));
  CHECK(refuses(packed, kPieceBytesMax + 1) && refuses({}, 10));
  CHECK(refuses(std::span(packed).first(packed.size() - 1), piece.size()));
  // Little that would become a lot: no more than was announced is ever made of it.
  const Bytes zeros(64u << 20);
  Bytes bomb(ZSTD_compressBound(zeros.size()));
  bomb.resize(ZSTD_compress(bomb.data(), bomb.size(), zeros.data(), zeros.size(), 1));
  CHECK(bomb.size() < 100'000 && refuses(bomb, kPieceBytesMax) && refuses(bomb, 100));
  for (int i = 0; i < 2000; i++) {
    Bytes flipped = packed, out;
    flipped[below(flipped.size())] ^= uint8_t(1 << below(8));
    // What is wrong inside is found by the checksum of the message around it.
    failure_code([&] { Unpacker().unpack(flipped, piece.size(), &out); });
    CHECK(out.size() <= piece.size());
  }
}

TEST(a_packed_piece_that_breaks_off_a_message_is_refused) {
  auto [a, b] = stream_pair();
  Connection peer(std::move(a));
  LinkStream link(std::make_unique<Connection>(std::move(b)), true);
  const Bytes frame = encode_link(Frame{some_text(3000)});
  peer.send(encode_link(Packed{1000, Packer().pack(std::span(frame).first(1000))}));
  peer.send(encode_link(Ready{}));
  LinkMessage message;
  CHECK(link.fill() == Connection::Fill::kBytes);
  CHECK(failure_code([&] { link.next(&message); }) == "ERR_LOCKSTEP_LINK_DAMAGED");
}

TEST(only_what_has_to_wait_is_compressed) {
  auto [a, b] = stream_pair();
  LinkStream link(std::make_unique<Connection>(std::move(a)), true, Packing::kWaiting);
  Connection wire(std::move(b));
  const Bytes frame = encode_link(Frame{some_text(20'000)});
  link.send(frame);
  CHECK(wire.fill() == Connection::Fill::kBytes && wire.unread().size() == frame.size());
  wire.consume(frame.size());
  constexpr size_t kFrames = 200;
  for (size_t i = 0; i < kFrames; i++) link.send(frame);
  CHECK(link.unsent() > kFrames * frame.size() / 2);
  size_t carried = 0;
  for (int i = 0; i < 100'000 && (link.unsent() > 0 || i < 1000); i++) {
    wire.fill();
    carried += wire.unread().size();
    wire.consume(wire.unread().size());
    link.flush();
  }
  CHECK(link.unsent() == 0 && carried < kFrames * frame.size() / 3);
}

TEST(all_is_compressed_while_the_path_is_full_and_for_a_while_after) {
  auto [a, b] = stream_pair();
  LinkStream link(std::make_unique<Connection>(std::move(a)), true, Packing::kWaiting);
  Connection wire(std::move(b));
  const Bytes frame = encode_link(Frame{some_text(20'000)});
  auto carried = [&] {
    link.send(frame);
    CHECK(wire.fill() == Connection::Fill::kBytes);
    const size_t bytes = wire.unread().size();
    wire.consume(bytes);
    return bytes;
  };
  CHECK(carried() == frame.size());
  link.path_is_slow(true, 1'000'000);
  CHECK(carried() < frame.size() / 2);
  link.path_is_slow(false, 2'000'000);
  CHECK(carried() < frame.size() / 2);
  link.path_is_slow(false, 4'000'000);
  CHECK(carried() == frame.size());
}

}  // namespace
}  // namespace lockstep::test
