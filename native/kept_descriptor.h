// What a process can open as root, and will want again when it is somebody else: a side that has given up its
// rights may start over all the same.
#pragma once

#include <string>

#include "kvm/system.h"

namespace lockstep {

// Keeps a duplicate under this name for as long as the process lives.
void keep_descriptor(const std::string& name, int fd);
// A duplicate of what is kept under this name; none, when nothing is.
Fd kept_descriptor(const std::string& name);

constexpr char kKeptKvm[] = "/dev/kvm";

}  // namespace lockstep
