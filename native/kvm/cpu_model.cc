#include "kvm/cpu_model.h"

#include <cpuid.h>

#include <cstdio>
#include <cstring>
#include <sstream>

#include "error.h"

namespace lockstep {

namespace {

// Feature bits a level may show (psABI levels, with AES and PCLMUL, which come with every such CPU).
// Hidden on purpose: RDRAND, RDSEED, RDTSCP, XSAVEC/OPT/S, TSX, WAITPKG, RDPRU, all hypervisor leaves.
struct Level {
  const char* name;
  uint32_t one_ecx, seven_ebx, seven_edx, extended_ecx;
  uint32_t must_one_ecx, must_seven_ebx, must_extended_ecx;
  uint32_t xcr0;
};
// XSAVE and OSXSAVE are below v2's line, but every kernel has them, ours too.
constexpr uint32_t kXsave = 1 << 26 | 1 << 27;
constexpr uint32_t kSse42 = 1 | 1 << 1 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 23 | 1 << 25 | kXsave;
constexpr uint32_t kAvx = 1 << 12 | 1 << 22 | 1 << 28 | 1 << 29;
constexpr uint32_t kMustV2 = 1 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 23 | kXsave;
constexpr uint32_t kFsGsBase = 1;
constexpr uint32_t kErms = 1 << 9, kSha = 1 << 29, kFsrm = 1 << 4;
constexpr uint32_t kBmiAvx2 = 1 << 3 | 1 << 5 | 1 << 8;
constexpr uint32_t kLahf = 1, kLzcnt = 1 << 5, kPrefetchW = 1 << 8;
constexpr Level kLevels[] = {
    {"x86-64-v3", kSse42 | kAvx, kFsGsBase | kErms | kSha | kBmiAvx2, kFsrm, kLahf | kLzcnt | kPrefetchW,
     kMustV2 | kAvx, kFsGsBase | kBmiAvx2, kLahf | kLzcnt, 7},
    {"x86-64-v2", kSse42, kFsGsBase | kErms, kFsrm, kLahf | kPrefetchW, kMustV2, kFsGsBase, kLahf, 3},
};
constexpr uint32_t kOneEdx = 0x078bfbff;
constexpr uint32_t kExtendedEdx = 1 << 11 | 1 << 20 | 1 << 29 | kOneEdx % (1 << 10);

kvm_cpuid_entry2 native(uint32_t leaf, uint32_t subleaf = 0, bool indexed = false) {
  kvm_cpuid_entry2 e{};
  e.function = leaf;
  e.index = subleaf;
  e.flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
  __cpuid_count(leaf, subleaf, e.eax, e.ebx, e.ecx, e.edx);
  return e;
}

uint32_t native_max(uint32_t base) { return native(base).eax; }

bool host_has(const Level& level) {
  auto one = native(1), seven = native(7), extended = native(0x80000001);
  // OSXSAVE tells that the host's kernel lets AVX be used.
  return (one.ecx & level.must_one_ecx) == level.must_one_ecx &&
         (seven.ebx & level.must_seven_ebx) == level.must_seven_ebx &&
         (extended.ecx & level.must_extended_ecx) == level.must_extended_ecx;
}

void add_cache_leaves(std::vector<kvm_cpuid_entry2>& out, uint32_t leaf) {
  for (uint32_t index = 0; index < 8; index++) {
    auto e = native(leaf, index, true);
    e.eax &= 0x3fff;  // no sharing between processors: there is one
    out.push_back(e);
    if (!(e.eax & 31)) break;
  }
}

std::string vendor_of(const kvm_cpuid_entry2& zero) {
  char text[13] = {};
  std::memcpy(text, &zero.ebx, 4);
  std::memcpy(text + 4, &zero.edx, 4);
  std::memcpy(text + 8, &zero.ecx, 4);
  return text;
}

void add_name(std::vector<kvm_cpuid_entry2>& out) {
  char name[48] = "Lockstep virtual processor";
  for (uint32_t i = 0; i < 3; i++) {
    kvm_cpuid_entry2 e{};
    e.function = 0x80000002 + i;
    std::memcpy(&e.eax, name + 16 * i, 16);
    out.push_back(e);
  }
}

}  // namespace

CpuModel CpuModel::build(const std::string& wanted) {
  const Level* level = nullptr;
  for (const Level& candidate : kLevels) {
    if (wanted.empty() ? !host_has(candidate) : wanted != candidate.name) continue;
    level = &candidate;
    break;
  }
  if (!level)
    throw Failure("ERR_LOCKSTEP_CPU_MODEL",
                  wanted.empty() ? "this processor has neither x86-64-v2 nor x86-64-v3"
                                 : "there is no CPU model " + wanted,
                  "the models are x86-64-v2 and x86-64-v3");
  if (!host_has(*level))
    throw Failure("ERR_LOCKSTEP_CPU_MODEL", "this processor lacks " + wanted, "try --cpu x86-64-v2");
  CpuModel model;
  model.level_ = level->name;
  auto& out = model.entries_;
  bool amd_leaves = native_max(0x80000000) >= 0x8000001d && (native(0x80000001).ecx >> 22 & 1);

  auto zero = native(0);
  zero.eax = 0xd;
  out.push_back(zero);
  auto one = native(1);
  one.ebx = 8 << 8 | 1 << 16;  // CLFLUSH line of 64 bytes, one processor, APIC id 0
  one.ecx &= level->one_ecx;
  one.edx &= kOneEdx;
  out.push_back(one);
  if (!amd_leaves) {
    out.push_back(native(2));
    add_cache_leaves(out, 4);
  }
  auto seven = native(7, 0, true);
  seven.eax = 0;
  seven.ebx &= level->seven_ebx;
  seven.ecx = 0;
  seven.edx &= level->seven_edx;
  out.push_back(seven);
  kvm_cpuid_entry2 state{};
  state.function = 0xd;
  state.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
  state.eax = level->xcr0;
  state.ebx = state.ecx = level->xcr0 & 4 ? 832 : 576;  // legacy area, header, AVX
  out.push_back(state);
  if (level->xcr0 & 4) {
    state.index = 2;
    state.eax = 256;
    state.ebx = 576;
    state.ecx = 0;
    out.push_back(state);
  }
  auto extended = native(0x80000000);
  extended.eax = amd_leaves ? 0x8000001d : 0x80000008;
  out.push_back(extended);
  auto features = native(0x80000001);
  features.ebx = 0;
  features.ecx = (features.ecx & level->extended_ecx) | (amd_leaves ? 1u << 22 : 0);
  features.edx &= kExtendedEdx;
  out.push_back(features);
  add_name(out);
  for (uint32_t leaf : {0x80000005u, 0x80000006u})
    if (native_max(0x80000000) >= leaf) out.push_back(native(leaf));
  kvm_cpuid_entry2 sizes{};
  sizes.function = 0x80000008;
  sizes.eax = 0x3030;
  out.push_back(sizes);
  if (amd_leaves) add_cache_leaves(out, 0x8000001d);
  return model;
}

std::string CpuModel::serialise() const {
  std::string text = level_;
  char line[80];
  for (const auto& e : entries_) {
    std::snprintf(line, sizeof line, ";%x.%x%s:%x,%x,%x,%x", e.function, e.index, e.flags ? "i" : "", e.eax,
                  e.ebx, e.ecx, e.edx);
    text += line;
  }
  return text;
}

CpuModel CpuModel::parse(const std::string& text) {
  CpuModel model;
  std::stringstream stream(text);
  std::getline(stream, model.level_, ';');
  const Level* level = nullptr;
  for (const Level& candidate : kLevels)
    if (model.level_ == candidate.name) level = &candidate;
  if (!level)
    throw Failure("ERR_LOCKSTEP_CPU_MODEL",
                  "the recording's CPU model '" + model.level_.substr(0, 40) + "' is unknown here",
                  "replay it with the version of Lockstep that made it");
  for (std::string part; std::getline(stream, part, ';');) {
    kvm_cpuid_entry2 e{};
    unsigned used = 0;
    if (std::sscanf(part.c_str(), "%x.%x%n", &e.function, &e.index, &used) != 2)
      throw Failure("ERR_LOCKSTEP_CPU_MODEL", "the recording's CPU model is damaged");
    if (used < part.size() && part[used] == 'i') e.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, used++;
    if (std::sscanf(part.c_str() + used, ":%x,%x,%x,%x", &e.eax, &e.ebx, &e.ecx, &e.edx) != 4)
      throw Failure("ERR_LOCKSTEP_CPU_MODEL", "the recording's CPU model is damaged");
    model.entries_.push_back(e);
  }
  // Every feature the recorded machine showed must exist here, and approximations such as RCPPS differ
  // between vendors.
  auto lacks = [](uint32_t recorded, uint32_t here) { return (recorded & ~here) != 0; };
  auto one = model.cpuid(1, 0), seven = model.cpuid(7, 0), extended = model.cpuid(0x80000001, 0);
  if (!host_has(*level) || lacks(one.ecx, native(1).ecx) || lacks(seven.ebx, native(7).ebx) ||
      lacks(extended.ecx & level->extended_ecx, native(0x80000001).ecx))
    throw Failure("ERR_LOCKSTEP_CPU_MODEL", "this processor lacks features of the recorded " + model.level_,
                  "replay on a processor like the one that recorded");
  if (model.vendor() != vendor_of(native(0)))
    throw Failure(
        "ERR_LOCKSTEP_CPU_MODEL", "recorded on " + model.vendor() + ", this is " + vendor_of(native(0)),
        "replay on a processor of the same vendor: approximate instructions differ between vendors");
  return model;
}

CpuidResult CpuModel::cpuid(uint32_t leaf, uint32_t subleaf) const {
  for (const auto& e : entries_)
    if (e.function == leaf && (!(e.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e.index == subleaf))
      return {e.eax, e.ebx, e.ecx, e.edx};
  return {};
}

std::vector<kvm_cpuid_entry2> CpuModel::entries() const { return entries_; }
uint32_t CpuModel::xcr0() const {
  for (const Level& level : kLevels)
    if (level_ == level.name) return level.xcr0;
  return 3;
}
std::string CpuModel::vendor() const { return entries_.empty() ? "" : vendor_of(entries_.front()); }

}  // namespace lockstep
