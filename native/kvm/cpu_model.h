// The processor that the guest sees: the host's, cut to a named level, the same on every host that has it.
#pragma once

#include "kvm/uapi.h"

#include <cstdint>
#include <string>
#include <vector>

namespace lockstep {

struct CpuidResult {
  uint32_t eax, ebx, ecx, edx;
};

class CpuModel {
 public:
  // `level`: "x86-64-v2" or "x86-64-v3"; "" takes the higher one that this host has. Throws
  // ERR_LOCKSTEP_CPU_MODEL when the name is unknown or the host lacks it.
  static CpuModel build(const std::string& level);
  // From what serialise() wrote, in a log or from the primary. Throws ERR_LOCKSTEP_CPU_MODEL when this host
  // lacks a feature of it or is of another vendor.
  static CpuModel parse(const std::string& text);
  std::string serialise() const;

  CpuidResult cpuid(uint32_t leaf, uint32_t subleaf) const;  // as the processor answers, absent leaves zero
  std::vector<kvm_cpuid_entry2> entries() const;
  uint32_t xcr0() const;
  std::string vendor() const;
  const std::string& level() const { return level_; }

 private:
  std::string level_;
  std::vector<kvm_cpuid_entry2> entries_;
};

}  // namespace lockstep
