/** The numbers of native/guest/abi.h that the packer needs. A test compares the two files. */

export const LS_ABI_VERSION = 1;
export const LS_GPA_BOOT = 0x7000;
export const LS_GPA_KERNEL = 0x100000;
export const LS_DIRECT_MAP = 0x7e0000000000;
export const LS_BOOT_MAGIC = 0x31544f4f42534cn;
export const LS_ARCHIVE_MAGIC = 0x3153454c4946534cn;

export const LS_VDSO_CALLS = 452;
export const LS_VDSO_TABLE = 0xe000;

export const LS_PORT_RDRAND32 = 0x80;
export const LS_PORT_RDRAND64 = 0x90;
export const LS_PORT_RDSEED32 = 0xa0;
export const LS_PORT_RDSEED64 = 0xb0;
export const LS_PORT_CPUID = 0xc0;
export const LS_PORT_RDTSC = 0xc1;
export const LS_PORT_RDTSCP = 0xc2;
export const LS_PORT_RDPID = 0xd0;
