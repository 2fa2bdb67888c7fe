// Hashes of meaning: memory by page and incrementally, registers without what hardware leaves lying about.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kvm/vcpu.h"
#include "log/event.h"
#include "memory/guest_memory.h"

namespace lockstep {

// XXH3 of arbitrary bytes: the one hash of the core.
uint64_t hash_bytes(std::span<const uint8_t> bytes);

// The pages that the host ever backed, or would when they are looked at, ascending: all others are zero.
// Without `expected`: leaves out those that are still to come (GuestMemory::expect).
std::vector<uint64_t> touched_pages(const GuestMemory& memory, bool expected = true);

// The sum over all pages of a mix of page number and page content; zero pages count nothing, so a
// fresh memory is 0 and never has to be read.
class MemoryDigest {
 public:
  explicit MemoryDigest(uint64_t pages) : pages_(pages) {}
  // Of memory whose pages come later: what they will add up to, and each one's own term once it is there.
  using FirstTerm = std::function<uint64_t(uint64_t page)>;
  void begin_with(uint64_t sum, FirstTerm first_term);
  // Rehashes these pages; appends (page, hash) of each to `hashes` when given.
  void update(const GuestMemory& memory, std::span<const uint64_t> pages, std::vector<PageHash>* hashes);
  // Rehashes all of memory that the host ever backed; returns the pages whose hash was not up to
  // date, which must be none if dirty tracking told the truth.
  std::vector<uint64_t> update_all(const GuestMemory& memory);
  uint64_t value() const { return sum_; }
  static uint32_t page_hash(const GuestMemory& memory, uint64_t page);
  // What a page counts, by the hash of its bytes; 0: it is all zeros.
  static uint64_t term(uint64_t hash, uint64_t page);
  // Of a fresh memory that is filled by now: takes the word of who filled it.
  void adopt(uint64_t page, uint64_t term);

 private:
  bool rehash(const GuestMemory& memory, uint64_t page);
  void reserve();
  uint64_t pages_;
  std::vector<uint64_t> page_hash_;  // empty as long as nobody asked: a machine may never be
  uint64_t sum_ = 0;
  bool expects_known_ = false;  // pages that are still to come count already
  FirstTerm first_term_;
  std::vector<bool> looked_up_;  // pages whose first term is known
};

// Of everything a vCPU holds: RFLAGS.RF masked, XSAVE by value, x87 instruction and data pointers left out.
uint64_t hash_registers(const VcpuState& state);
// rax rbx rcx rdx rsi rdi rsp rbp r8-r15 rip rflags, and their names.
std::vector<uint64_t> register_values(const kvm_regs& regs);
extern const char* const kRegisterNames[18];

}  // namespace lockstep
