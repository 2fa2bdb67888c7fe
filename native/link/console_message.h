// The console protocol's messages. README.md in this directory is the specification for clients.
//
//   message := u32 length of what follows, u8 type, fields         (all little-endian)
#pragma once

#include <span>
#include <string>
#include <variant>
#include <vector>

#include "log/event.h"

namespace lockstep {

constexpr uint32_t kConsoleVersion = 1;
constexpr uint32_t kConsoleInputWindow =
    64 * 1024;                               // input bytes a client may send beyond what was acknowledged
constexpr size_t kConsoleChunk = 64 * 1024;  // data bytes in one message
constexpr size_t kConsoleMessageMax = kConsoleChunk + 1024;

namespace console_message {
struct ChannelOffset {
  uint8_t channel = 0;
  uint64_t offset = 0;
};
// Client to server.
struct Hello {
  uint32_t version = 0;
  std::string pair_id;
  std::vector<ChannelOffset> have;
};
struct OutputAck {
  uint8_t channel = 0;
  uint64_t offset = 0;
};
struct Input {
  uint64_t offset = 0;
  std::span<const uint8_t> bytes;
};
struct InputEof {
  uint64_t offset = 0;
};
struct Signal {
  uint8_t number = 0;
};
struct Window {
  uint16_t rows = 0, columns = 0;
};
// Server to client.
struct Welcome {
  uint32_t version = 0;
  std::string pair_id;
  uint64_t generation = 0, input_offset = 0;
  bool input_ended = false;
  uint32_t input_window = 0;
  std::vector<ChannelOffset> output_start;
};
struct Output {
  uint8_t channel = 0;
  uint64_t offset = 0;
  std::span<const uint8_t> bytes;
};
struct InputAck {
  uint64_t offset = 0;
  bool eof = false;
};
struct Ended {
  uint8_t reason = 0;
  uint32_t status = 0;
  std::vector<ChannelOffset> totals;
};
struct Error {
  std::string code, text;
};
}  // namespace console_message

using ConsoleMessage =
    std::variant<console_message::Hello, console_message::OutputAck, console_message::Input,
                 console_message::InputEof, console_message::Signal, console_message::Window,
                 console_message::Welcome, console_message::Output, console_message::InputAck,
                 console_message::Ended, console_message::Error>;

Bytes encode_console(const ConsoleMessage& message);
// What stands before the bytes of an Output, so that they need not be copied.
std::array<uint8_t, 14> output_head(uint8_t channel, uint64_t offset, size_t bytes);
// Bytes used, 0 when more are needed; throws ERR_LOCKSTEP_CONSOLE_PROTOCOL. Spans point into `bytes`.
size_t parse_console(std::span<const uint8_t> bytes, ConsoleMessage* message);

}  // namespace lockstep
