// Anything at all as the bytes of the other side of a link, or of a console: an error or a message, which
// must come back the same from our own encoder. The first byte chooses; checksums are mended so that they do
// not keep the fuzzer out.
#include "error.h"
#include "link/console_message.h"
#include "link/link_message.h"
#include "link/packer.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

using namespace lockstep;

namespace {

void check(bool held) {
  if (!held) __builtin_trap();
}

void mend(Bytes& bytes) {
  if (bytes.size() < 9) return;
  size_t length = bytes[0] | bytes[1] << 8;
  bytes[2] = bytes[3] = 0;
  if (length < 5 || 4 + length > bytes.size()) return;
  auto sum = static_cast<uint32_t>(XXH3_64bits(bytes.data() + 4, length - 4));
  for (size_t i = 0; i < 4; i++) bytes[length + i] = static_cast<uint8_t>(sum >> (8 * i));
}

void link(std::span<const uint8_t> bytes) {
  try {
    LinkMessage message;
    Unpacker unpacker;
    Bytes unpacked;
    while (size_t used = parse_link(bytes, &message)) {
      check(used <= bytes.size());
      // A text that is too long for its encoder is cut, a flag may be any byte: what comes out is then
      // stable.
      Bytes once = encode_link(message);
      LinkMessage again;
      check(parse_link(once, &again) == once.size() && encode_link(again) == once);
      if (const auto* packed = std::get_if<link_message::Packed>(&message)) {
        unpacked.clear();
        unpacker.unpack(packed->bytes, packed->plain_bytes, &unpacked);
        check(unpacked.size() == packed->plain_bytes);
      }
      bytes = bytes.subspan(used);
    }
  } catch (const Failure& failure) {
    check(failure.code == "ERR_LOCKSTEP_LINK_DAMAGED" || failure.code == "ERR_LOCKSTEP_LINK_VERSION");
  }
}

void console(std::span<const uint8_t> bytes) {
  try {
    ConsoleMessage message;
    while (size_t used = parse_console(bytes, &message)) {
      check(used <= bytes.size());
      Bytes once = encode_console(message);
      ConsoleMessage again;
      check(parse_console(once, &again) == once.size() && encode_console(again) == once);
      bytes = bytes.subspan(used);
    }
  } catch (const Failure& failure) {
    check(failure.code == "ERR_LOCKSTEP_CONSOLE_PROTOCOL");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  Bytes bytes(data + 1, data + size);
  if (data[0] % 3 == 0) {
    console(bytes);
  } else {
    if (data[0] % 3 == 1) mend(bytes);
    link(bytes);
  }
  return 0;
}
