// A port of a Linux bridge.
#pragma once

namespace lockstep {

// The bridge learns no address behind this port, so that it sends what is meant for one of them to all ports.
// Without the right, or on a bridge that cannot do that, it goes on learning.
void flood_bridge_port(int interface_index);

}  // namespace lockstep
