// lib/native.ts NativeConfig to MachineConfig.
#pragma once

#include <napi.h>

#include "machine.h"

namespace lockstep {

MachineConfig parse_machine_config(Napi::Object object);
// 'file:DIRECTORY', 'memory:NAME', or 'remote:NAME', which a clerk serves.
std::shared_ptr<Arbiter> make_arbiter(const std::string& text);

}  // namespace lockstep
