// A port of a Linux bridge.
#pragma once

#include <array>
#include <cstdint>

namespace lockstep {

// The bridge learns no addresses behind this port any more: it sends what is meant for one of them to all
// ports, unless it has learned the address behind another. Without the right, or on a bridge that cannot do
// that, nothing changes.
void let_bridge_port_learn_nothing(int interface_index);

// The bridge of this port forgets behind which of its ports the address is, and so sends what is meant for it
// to all of them. Limits as above.
void let_bridge_forget(int interface_index, const std::array<uint8_t, 6>& address);

}  // namespace lockstep
