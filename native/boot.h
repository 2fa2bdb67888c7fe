// Brings memory and vCPU to the state in which an image starts.
#pragma once

#include "image.h"
#include "kvm/cpu_model.h"
#include "kvm/vcpu.h"
#include "machine_options.h"
#include "memory/guest_memory.h"

namespace lockstep {

struct BootOptions {
  uint32_t tty_flags = 0;  // LS_BOOT_
  uint16_t rows = 0, columns = 0;
  std::span<const uint8_t, 32> random;
  const NetOptions* net = nullptr;  // null: no network card
};

// Where the card's registers are: below 4 GiB, or behind memory that reaches so far.
uint64_t net_mmio_gpa(uint64_t memory_bytes);

// Where the machine's state comes from elsewhere, no more than what is not in it.
void prepare_vcpu(const CpuModel& model, KvmVcpu& vcpu);

// Sets registers, and what of memory is the monitor's; the image's own is there already. Throws
// ERR_LOCKSTEP_NOT_AN_IMAGE.
void boot_image(const Image& image, const CpuModel& model, const BootOptions& options, GuestMemory& memory,
                KvmVcpu& vcpu);

}  // namespace lockstep
