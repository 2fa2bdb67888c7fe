// Guest memory in pieces, to be sent or kept: numbered pages, compressed together; a page of zeros costs a
// byte or two.
#pragma once

#include "log/event.h"
#include "memory/guest_memory.h"

namespace lockstep {

constexpr size_t kPiecePagesMax = 128;  // half a mebibyte, whatever is in them

bool is_zero(std::span<const uint8_t> page);

// `pages` ascending, at most kPiecePagesMax of them.
Bytes encode_pages(const GuestMemory& memory, std::span<const uint64_t> pages);
// Believes nothing: throws ERR_LOCKSTEP_STATE_DAMAGED.
void decode_pages(std::span<const uint8_t> piece, GuestMemory& memory);

}  // namespace lockstep
