#include "memory/digest.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>

namespace lockstep {

const char* const kRegisterNames[18] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8",
                                        "r9",  "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags"};

namespace {

constexpr uint64_t kResumeFlag = 1ull << 16;

uint64_t mix(uint64_t content, uint64_t page) {
  uint64_t x = content ^ (page * 0x9e3779b97f4a7c15ull);
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93ull;
  return x ^ (x >> 32);
}

uint64_t content_hash(const GuestMemory& memory, uint64_t page) {
  return MemoryDigest::term(XXH3_64bits(memory.host() + page * kPageBytes, kPageBytes), page);
}

}  // namespace

// /proc/self/pagemap: pages neither present nor swapped were never touched and are zero. Without
// the file every page counts as touched.
std::vector<uint64_t> touched_pages(const GuestMemory& memory, bool expected) {
  std::vector<uint64_t> entries(memory.pages(), 1ull << 63), result;
  const int pagemap = memory.pagemap();
  uint64_t first = reinterpret_cast<uint64_t>(memory.host()) / kPageBytes;
  size_t bytes = entries.size() * 8;
  if (pagemap >= 0 && pread(pagemap, entries.data(), bytes, first * 8) != static_cast<ssize_t>(bytes))
    std::fill(entries.begin(), entries.end(), 1ull << 63);
  const auto touch = [&entries](uint64_t first, uint64_t count) {
    std::fill_n(entries.begin() + static_cast<ptrdiff_t>(first), count, 1ull << 63);
  };
  if (expected)
    for (const GuestMemory::Range& range : memory.expected()) touch(range.first, range.count);
  for (const GuestMemory::Mapping& mapping : memory.mappings())
    touch(mapping.gpa / kPageBytes, mapping.bytes / kPageBytes);
  for (uint64_t page = 0; page < entries.size(); page++)
    if (entries[page] >> 62) result.push_back(page);
  return result;
}

uint64_t hash_bytes(std::span<const uint8_t> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

uint64_t MemoryDigest::term(uint64_t hash, uint64_t page) {
  static const uint8_t zeros[kPageBytes] = {};
  static const uint64_t zero_hash = XXH3_64bits(zeros, kPageBytes);
  return hash == zero_hash ? 0 : mix(hash, page) | 1;
}

void MemoryDigest::reserve() {
  if (page_hash_.empty()) page_hash_.resize(pages_);
}

void MemoryDigest::adopt(uint64_t page, uint64_t term) {
  reserve();
  expects_known_ = true;
  sum_ += term - page_hash_[page];
  page_hash_[page] = term;
}

void MemoryDigest::begin_with(uint64_t sum, FirstTerm first_term) {
  expects_known_ = true;
  sum_ = sum;
  first_term_ = std::move(first_term);
  looked_up_.resize(pages_);
}

bool MemoryDigest::rehash(const GuestMemory& memory, uint64_t page) {
  if (first_term_ && !looked_up_[page]) {
    looked_up_[page] = true;
    page_hash_[page] = first_term_(page);
  }
  uint64_t now = content_hash(memory, page);
  if (now == page_hash_[page]) return false;
  sum_ += now - page_hash_[page];
  page_hash_[page] = now;
  return true;
}

void MemoryDigest::update(const GuestMemory& memory, std::span<const uint64_t> pages,
                          std::vector<PageHash>* hashes) {
  reserve();
  for (uint64_t page : pages) {
    rehash(memory, page);
    if (hashes) hashes->push_back({page, static_cast<uint32_t>(page_hash_[page])});
  }
}

std::vector<uint64_t> MemoryDigest::update_all(const GuestMemory& memory) {
  reserve();
  std::vector<uint64_t> stale;
  for (uint64_t page : touched_pages(memory, !expects_known_))
    if (rehash(memory, page)) stale.push_back(page);
  return stale;
}

uint32_t MemoryDigest::page_hash(const GuestMemory& memory, uint64_t page) {
  return static_cast<uint32_t>(content_hash(memory, page));
}

std::vector<uint64_t> register_values(const kvm_regs& r) {
  return {r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rbp, r.r8,
          r.r9,  r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rip, r.rflags & ~kResumeFlag};
}

namespace {

// x87 and SSE live in the legacy area; absent components hash as their initial state.
void hash_xsave(XXH3_state_t* hash, const uint8_t* area) {
  uint64_t present;
  std::memcpy(&present, area + 512, 8);
  struct {
    uint16_t fcw = 0x37f, fsw = 0;
    uint8_t ftw = 0;
    uint8_t st[8][16] = {};
    uint32_t mxcsr = 0x1f80;
  } __attribute__((packed)) legacy;
  if (present & 1) {
    std::memcpy(&legacy.fcw, area, 5);
    for (int i = 0; i < 8; i++) std::memcpy(legacy.st[i], area + 32 + 16 * i, 10);
  }
  if (present & 6) std::memcpy(&legacy.mxcsr, area + 24, 4);
  XXH3_64bits_update(hash, &legacy, sizeof legacy);
  // No model shows a component beyond AVX, so XCR0 keeps the rest absent. XMM, then the upper halves.
  static const uint8_t zeros[256] = {};
  XXH3_64bits_update(hash, present & 2 ? area + 160 : zeros, 256);
  XXH3_64bits_update(hash, present & 4 ? area + 576 : zeros, 256);
}

}  // namespace

uint64_t hash_registers(const VcpuState& state) {
  XXH3_state_t hash;
  XXH3_64bits_reset(&hash);
  auto add = [&](const void* data, size_t bytes) { XXH3_64bits_update(&hash, data, bytes); };
  std::vector<uint64_t> general = register_values(state.regs);
  add(general.data(), general.size() * 8);
  const kvm_sregs& s = state.sregs;
  // Of a segment, what decides how the guest runs; the accessed bit and hidden leftovers are the
  // host's affair. FS and GS bases are the program's.
  for (const kvm_segment* segment : {&s.cs, &s.ds, &s.es, &s.fs, &s.gs, &s.ss}) {
    uint64_t values[] = {segment->base, segment->selector, segment->dpl, segment->l, segment->db};
    add(values, sizeof values);
  }
  uint64_t control[] = {s.cr0, s.cr2, s.cr3, s.cr4, s.cr8, s.efer & ~(1ull << 10), s.gdt.base, s.idt.base};
  add(control, sizeof control);
  add(state.xcrs.xcrs, sizeof(kvm_xcr));
  hash_xsave(&hash, state.xsave.data());
  add(state.msrs.data(), state.msrs.size() * 8);
  uint8_t pending[] = {state.events.exception.injected, state.events.exception.nr,
                       state.events.interrupt.injected, state.events.interrupt.nr, state.events.nmi.pending};
  add(pending, sizeof pending);
  return XXH3_64bits_digest(&hash);
}

}  // namespace lockstep
