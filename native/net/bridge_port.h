// A port of a Linux bridge.
#pragma once

namespace lockstep {

// Whether the bridge learns addresses behind this port. Where it does not, it sends what is meant for one of
// them to all ports, unless it has learned the address behind another. Without the right, or on a bridge that
// cannot do that, nothing changes.
void let_bridge_port_learn(int interface_index, bool learns);

}  // namespace lockstep
