// <linux/kvm.h> for C++. Headers of Linux 5.16 to 6.5 declare trailing arrays with an empty struct, which has
// no size in C but one byte in C++: structures grew, and with them the ioctl numbers that encode their size.
#pragma once

#include <linux/stddef.h>
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(TYPE, NAME) TYPE NAME[0]
#include <linux/kvm.h>

static_assert(sizeof(kvm_cpuid2) == 8 && sizeof(kvm_msrs) == 8 && sizeof(kvm_signal_mask) == 4);
