// What this host's KVM can do, found by trying: nothing may depend on one back end's accident.
#pragma once

#include <map>
#include <string>

namespace lockstep {

// Never throws: what could not be found out is absent, and `error` / `hint` say why KVM is not usable.
struct HostProbe {
  std::string error, hint, error_code;
  int api_version = 0;
  std::string back_end;  // "vmx", "svm", "pvm" or "unknown"
  std::string vendor, cpu_model;
  bool sync_regs = false, dirty_ring = false, immediate_exit = false, performance_counter = false;
  bool page_faults = false;           // memory can be filled while it is used (memory/page_faults.h)
  bool emulated_kernel_code = false;  // CPL 0 runs in KVM's emulator
  double kernel_instructions_per_us = 0;
  std::string syscall_arrives;  // "cpl0" or "cpl3"
  double exit_round_trip_us = 0;
};
HostProbe probe_host();

}  // namespace lockstep
