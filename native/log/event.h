// What the log is made of. Pure data: no file, no socket, no KVM.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace lockstep {

using Bytes = std::vector<uint8_t>;

// One thing that enters the machine from outside.
enum class InputKind : uint8_t {
  kData = 0,       // bytes on a channel
  kEof = 1,        // no more input on a channel
  kHangup = 2,     // nobody reads this channel's output any more
  kSignal = 3,     // bytes = {signal number}
  kWindow = 4,     // bytes = rows, columns as two little-endian uint16
  kSerial = 5,     // bytes for the 16550 of a bare guest
  kInterrupt = 6,  // bytes = {vector}: raised in the machine at this position
  kPacket = 7,     // one Ethernet frame for the network card; channel 0
};

struct Input {
  InputKind kind = InputKind::kData;
  uint8_t channel = 0;
  Bytes bytes;
  bool operator==(const Input&) const = default;
};

// All that enters the machine at one position.
struct Event {
  uint64_t lsn = 0;                 // the event's number since boot, from 1
  uint64_t accesses = 0;            // device accesses since the previous event (or boot)
  uint16_t access_hash = 0;         // low bits of the running hash of all accesses up to here
  std::optional<uint64_t> time_us;  // virtual time after this event, microseconds since the epoch
  std::vector<Input> inputs;
  bool operator==(const Event&) const = default;
};

struct PageHash {
  uint64_t page = 0;  // guest frame number
  uint32_t hash = 0;
  bool operator==(const PageHash&) const = default;
};

struct ChannelPosition {
  uint64_t bytes = 0;  // emitted since boot
  uint64_t hash = 0;   // running XXH3 of them
  bool operator==(const ChannelPosition&) const = default;
};

constexpr size_t kOutputChannels = 6;  // LS_CHANNELS, then the 16550, then the network
constexpr uint8_t kNetworkChannel = 5;

// What the machine is, taken right after the event `lsn` was applied, or `accesses` later when the machine
// ended.
struct Digest {
  uint64_t lsn = 0;
  uint64_t accesses = 0;  // since that event; not 0 only at the end
  uint64_t registers = 0;
  uint64_t devices = 0;
  std::optional<uint64_t> memory;  // absent: registers and devices only
  bool whole = false;              // memory was hashed whole, not by what was dirtied
  std::array<ChannelPosition, kOutputChannels> channels{};
  std::vector<uint64_t> register_values;  // rax rbx rcx rdx rsi rdi rsp rbp r8-r15 rip rflags, or empty
  std::vector<PageHash> pages;            // dirtied since the previous memory digest, ascending
  bool operator==(const Digest&) const = default;
};

enum class EndReason : uint8_t {
  kExited = 0,
  kSignal = 1,
  kPanic = 2,
  kHalted = 3,
  kShutdown = 4,
  kClosed = 5,
  kFailed = 6
};

struct PageBytes {
  uint64_t page = 0;  // guest frame number
  Bytes bytes;        // kPageBytes of them
  bool operator==(const PageBytes&) const = default;
};

// A forced stop: the guest computed for long without an access while another of its threads, or a timer, was
// due. The recorder stopped it anywhere, and what enters here is the very state it stood in: a replayer
// takes it over instead of computing up to it. An event like others, with an LSN; large ones come in parts.
struct Checkpoint {
  uint64_t lsn = 0;
  uint64_t accesses = 0;  // since the previous event
  uint16_t access_hash = 0;
  uint64_t time_us = 0;          // virtual time after it
  bool last = true;              // false: more parts of the same checkpoint follow, and only then it counts
  Bytes vcpu;                    // KvmVcpu's state, in the last part
  std::vector<PageBytes> pages;  // a superset of those written since the previous event
  bool operator==(const Checkpoint&) const = default;
};

// The log was closed on purpose. A log without one was cut.
struct End {
  uint64_t accesses = 0;  // since the last event
  uint16_t access_hash = 0;
  EndReason reason = EndReason::kExited;
  uint32_t status = 0;  // exit status or signal number
  bool operator==(const End&) const = default;
};

// The shadow went live here: what follows was recorded by it. Generation as of the arbiter.
struct Takeover {
  uint64_t lsn = 0;
  uint64_t generation = 0;
  bool operator==(const Takeover&) const = default;
};

// Only on the link, never in a log file: the primary has come this far without another event, so
// the shadow may run through this many accesses after event `lsn` before it has to wait.
struct Progress {
  uint64_t lsn = 0;
  uint64_t accesses = 0;
  bool operator==(const Progress&) const = default;
};

// Kinds of record as they stand in the log; 7 is reserved for a forced stop given by a branch count.
using Record = std::variant<Event, Digest, End, Takeover, Progress, Checkpoint>;

}  // namespace lockstep
