#include "boot.h"

#include <algorithm>

#include "guest/abi.h"

namespace lockstep {

namespace {

constexpr uint64_t kPresentWritable = 3, kUser = 4, kAccessed = 0x20, kDirty = 0x40, kHuge = 0x80;
constexpr uint64_t kTable = kPresentWritable | kUser | kAccessed | kDirty;
constexpr uint64_t kHugeBytes = 2 << 20;
constexpr uint32_t kLstar = 0xc0000082, kStar = 0xc0000081, kSfmask = 0xc0000084;

constexpr uint64_t kCr0 = 0x80050033;                        // PG AM WP NE ET MP PE
constexpr uint64_t kCr4 = 0x20 | 0x600 | 0x10000 | 0x40000;  // PAE, OSFXSR OSXMMEXCPT, FSGSBASE, OSXSAVE
constexpr uint64_t kEfer = 0xd01;                            // NXE LMA LME SCE

kvm_segment segment(uint16_t selector, uint8_t type, uint8_t dpl, bool code) {
  kvm_segment s{};
  s.limit = 0xffffffff;
  s.selector = selector;
  s.type = type;
  s.present = 1;
  s.dpl = dpl;
  s.s = 1;
  s.g = 1;
  s.l = code;
  s.db = !code;
  return s;
}

// 2 MiB pages for `bytes` from `base`: PML4, one PDPT, and one directory for each GiB, at `tables`.
void map_huge(GuestMemory& memory, uint64_t tables, uint64_t base, uint64_t bytes) {
  uint64_t pdpt = tables + kPageBytes, directory = pdpt + kPageBytes;
  memory.store(tables + 8 * (base >> 39 & 511), pdpt | kTable);
  for (uint64_t at = 0; at < bytes; at += kHugeBytes) {
    uint64_t table = directory + (at >> 30) * kPageBytes;
    if (!(at & ((1 << 30) - 1))) memory.store(pdpt + 8 * (at >> 30), table | kTable);
    memory.store(table + 8 * (at >> 21 & 511), at | kTable | kHuge);
  }
}

void set_flat_gdt(GuestMemory& memory, uint64_t gpa) {
  memory.store<uint64_t>(gpa + LS_SEL_KERNEL_CODE, 0x00af9b000000ffff);
  memory.store<uint64_t>(gpa + LS_SEL_KERNEL_DATA, 0x00cf93000000ffff);
  memory.store<uint64_t>(gpa + 0x20, 0x00cffb000000ffff);
  memory.store<uint64_t>(gpa + (LS_SEL_USER_DATA & ~3), 0x00cff3000000ffff);
  memory.store<uint64_t>(gpa + (LS_SEL_USER_CODE & ~3), 0x00affb000000ffff);
}

// The TSS holds RSP0 for faults and the bitmap of the ports that CPL 3 may reach.
uint32_t set_tss(GuestMemory& memory) {
  constexpr uint32_t kBitmap = 0x68, kPortsCovered = 256;
  memory.store<uint64_t>(LS_GPA_TSS + 4, LS_DIRECT_MAP + LS_GPA_FAULT_STACK + kPageBytes);
  memory.store<uint16_t>(LS_GPA_TSS + 102, kBitmap);
  std::array<uint8_t, kPortsCovered / 8 + 1> bitmap;
  bitmap.fill(0xff);
  for (unsigned port = LS_PORT_RDRAND32; port <= LS_PORT_RANDOM; port++) bitmap[port / 8] &= ~(1 << port % 8);
  memory.write(LS_GPA_TSS + kBitmap, bitmap);
  return kBitmap + bitmap.size() - 1;
}

void set_idt(GuestMemory& memory, const ls_kernel_header& kernel) {
  for (uint64_t vector = 0; vector < LS_VECTORS; vector++) {
    uint64_t handler = kernel.vectors[vector];
    if (!handler) continue;
    uint64_t type = vector == 3 ? 0xee : 0x8e;  // INT3 carries the kernel's services
    memory.store<uint64_t>(LS_GPA_IDT + 16 * vector, (handler & 0xffff) | LS_SEL_KERNEL_CODE << 16 |
                                                         type << 40 | (handler >> 16 & 0xffff) << 48);
    memory.store<uint64_t>(LS_GPA_IDT + 16 * vector + 8, handler >> 32);
  }
}

void map_register_page(GuestMemory& memory, uint64_t tables, uint64_t base, uint64_t gpa) {
  uint64_t pdpt = tables + kPageBytes, table = pdpt + kPageBytes + (gpa >> 30) * kPageBytes;
  memory.store(tables + 8 * (base >> 39 & 511), pdpt | kTable);
  memory.store(pdpt + 8 * (gpa >> 30), table | kTable);
  memory.store(table + 8 * (gpa >> 21 & 511), (gpa & ~(kHugeBytes - 1)) | kTable | kHuge);
}

void describe_net(const NetOptions& net, GuestMemory& memory, ls_boot& boot) {
  boot.net_mmio_gpa = net_mmio_gpa(memory.bytes());
  std::copy(net.mac.begin(), net.mac.end(), boot.mac);
  boot.mtu = net.mtu;
  boot.ip = net.ip;
  boot.netmask = net.netmask;
  boot.gateway = net.gateway;
  boot.net_flags = net.dhcp ? LS_NET_DHCP : 0;
  map_register_page(memory, LS_GPA_TABLES, LS_DIRECT_MAP, boot.net_mmio_gpa);
}

void boot_program(const CpuModel& model, const BootOptions& options, GuestMemory& memory, KvmVcpu& vcpu) {
  ls_kernel_header kernel{};
  ls_boot boot{};
  memory.load(LS_GPA_KERNEL, &kernel);
  memory.load(LS_GPA_BOOT, &boot);
  if (std::memcmp(kernel.magic, "LSKERN1", 8) || kernel.abi_version != LS_ABI_VERSION ||
      boot.magic != LS_BOOT_MAGIC)
    throw Failure("ERR_LOCKSTEP_NOT_AN_IMAGE", "the image holds no guest kernel of this version",
                  "pack the program again with `lockstep image`");
  boot.ram_bytes = memory.bytes();
  boot.xcr0 = model.xcr0();
  boot.hwcap = model.cpuid(1, 0).edx;
  boot.hwcap2 = 2;  // FSGSBASE
  boot.flags = options.tty_flags;
  boot.rows = options.rows;
  boot.columns = options.columns;
  std::copy(options.random.begin(), options.random.end(), boot.random);
  map_huge(memory, LS_GPA_TABLES, LS_DIRECT_MAP, memory.bytes());
  if (options.net) describe_net(*options.net, memory, boot);
  memory.store(LS_GPA_BOOT, boot);
  set_flat_gdt(memory, LS_GPA_GDT);
  uint32_t tss_limit = set_tss(memory);
  set_idt(memory, kernel);
  const uint64_t reflect[] = {kernel.fault_entry, LS_SEL_USER_CODE, 0x202, 0, LS_SEL_USER_DATA};
  memory.store(LS_GPA_REFLECT, reflect);

  kvm_sregs s = vcpu.sregs();
  s.cs = segment(LS_SEL_USER_CODE, 11, 3, true);
  s.ds = s.es = s.fs = s.gs = s.ss = segment(LS_SEL_USER_DATA, 3, 3, false);
  s.tr = {};
  s.tr.base = LS_DIRECT_MAP + LS_GPA_TSS;
  s.tr.limit = tss_limit;
  s.tr.selector = LS_SEL_TSS;
  s.tr.present = 1;
  s.tr.type = 11;
  s.gdt = {LS_DIRECT_MAP + LS_GPA_GDT, 0x4f, {}};
  s.idt = {LS_DIRECT_MAP + LS_GPA_IDT, 16 * LS_VECTORS - 1, {}};
  s.cr0 = kCr0;
  s.cr3 = LS_GPA_TABLES;
  s.cr4 = kCr4;
  s.efer = kEfer;
  vcpu.set_sregs(s);
  vcpu.set_xcr0(model.xcr0());
  vcpu.set_msr(kStar, 0x23ull << 48 | 0x10ull << 32);
  vcpu.set_msr(kLstar, kernel.syscall_entry);
  vcpu.set_msr(kSfmask, 0x40500);
  kvm_regs r{};
  r.rip = kernel.entry;
  r.rsp = kernel.stack_top;
  r.rflags = 0x202;
  vcpu.set_regs(r);
}

// Bare guests in long mode: everything below 4 GiB mapped one to one, tables and GDT at the top of RAM.
void boot_long(const Image& image, GuestMemory& memory, KvmVcpu& vcpu) {
  constexpr uint64_t kMapped = 4ull << 30, kTables = 8 * kPageBytes;
  uint64_t tables = memory.bytes() - kTables, gdt = memory.bytes() - kPageBytes;
  map_huge(memory, tables, 0, kMapped);
  set_flat_gdt(memory, gdt);
  uint64_t lowest = memory.bytes();
  for (const ImageSegment& segment : image.segments) lowest = std::min(lowest, segment.gpa);
  kvm_sregs s = vcpu.sregs();
  s.cs = segment(LS_SEL_KERNEL_CODE, 11, 0, true);
  s.ds = s.es = s.fs = s.gs = s.ss = segment(LS_SEL_KERNEL_DATA, 3, 0, false);
  s.gdt = {gdt, 0x4f, {}};
  s.cr0 = kCr0;
  s.cr3 = tables;
  s.cr4 = 0x620;
  s.efer = kEfer;
  vcpu.set_sregs(s);
  kvm_regs r{};
  r.rip = image.header.entry;
  r.rsp = lowest >= kPageBytes ? lowest : tables;
  r.rflags = 2;
  vcpu.set_regs(r);
}

void boot_real(const Image& image, KvmVcpu& vcpu) {
  kvm_sregs s = vcpu.sregs();
  for (kvm_segment* segment : {&s.cs, &s.ds, &s.es, &s.fs, &s.gs, &s.ss}) {
    segment->base = 0;
    segment->selector = 0;
  }
  vcpu.set_sregs(s);
  kvm_regs r{};
  r.rip = image.header.entry;
  r.rflags = 2;
  vcpu.set_regs(r);
}

}  // namespace

uint64_t net_mmio_gpa(uint64_t memory_bytes) {
  constexpr uint64_t kUsual = 0xd0000000;
  return std::max(kUsual, memory_bytes);
}

void prepare_vcpu(const CpuModel& model, KvmVcpu& vcpu) { vcpu.set_cpuid(model.entries()); }

void boot_image(const Image& image, const CpuModel& model, const BootOptions& options, GuestMemory& memory,
                KvmVcpu& vcpu) {
  prepare_vcpu(model, vcpu);
  switch (static_cast<StartMode>(image.header.mode)) {
    case StartMode::kProgram: return boot_program(model, options, memory, vcpu);
    case StartMode::kLong: return boot_long(image, memory, vcpu);
    case StartMode::kReal: return boot_real(image, vcpu);
    case StartMode::kSnapshot: break;
  }
  throw Failure("ERR_LOCKSTEP_NOT_AN_IMAGE", "the image is none that boots");
}

}  // namespace lockstep
