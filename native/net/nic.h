// The host's side of a machine's network card: where frames come from and go to.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <span>
#include <string>

#include "machine_options.h"

namespace lockstep {

// Which back end, as asked for.
struct NicConfig {
  enum class Kind : uint8_t { kNone, kTap, kUnix };
  Kind kind = Kind::kNone;
  std::string name;        // kTap: the interface, "" makes up one
  std::string bridge;      // kTap: which it becomes a port of, "" of none
  bool learned = false;    // kTap with a bridge: it is told nothing, and learns the machine by itself
  bool flooded = false;    // kTap with a bridge: the other ports hear what is sent to the machine
  bool kept = false;       // kTap: this process will open it again, and may not be root then
  std::string path, peer;  // kUnix: this side's socket, and the other's ("": whoever last sent something)
};

class Nic {
 public:
  virtual ~Nic() = default;
  // Readable when a frame may be there.
  virtual int fd() const = 0;
  // Moves one frame into `into`; its length, 0 when there is none now.
  virtual size_t receive(std::span<uint8_t> into) = 0;
  // False when the host takes it not now: it is lost, as on a wire.
  virtual bool send(std::span<const uint8_t> frame) = 0;
  // What is sent to this address is to come here too, wherever the network has it.
  virtual void listen_for(const std::array<uint8_t, 6>& address) { (void)address; }
  // What it is called outside: an interface or a path.
  virtual std::string name() const = 0;

  std::atomic<uint64_t> lost_in{0}, lost_out{0};
};

// An interface that exists is taken as it is. One that does not is made, with the gateway's address and the
// machine's netmask and MTU, and is gone when closed; a port of a bridge has no address of its own. Throws
// ERR_LOCKSTEP_NET_PERMISSION, ERR_LOCKSTEP_NO_TUN, ERR_LOCKSTEP_NET_BUSY, ERR_LOCKSTEP_NET.
std::unique_ptr<Nic> open_tap(const NicConfig& config, const NetOptions& options);
// One datagram a frame. Throws ERR_LOCKSTEP_NET, ERR_LOCKSTEP_NET_BUSY.
std::unique_ptr<Nic> open_unix_nic(const std::string& path, const std::string& peer);

// Sends what stands in the network's output channel; how many bytes of it were whole frames. Null loses them.
size_t send_frames(Nic* nic, std::span<const uint8_t> stream);

// Tells switches and neighbours where the machine is: a gratuitous ARP request (RFC 5227, 3).
void announce(Nic* nic, const NetOptions& options);

// Null for kNone.
std::unique_ptr<Nic> open_nic(const NicConfig& config, const NetOptions& options);

}  // namespace lockstep
