// Anything at all as what a live side sends of its machine, or a log starts from. The first byte chooses.
#include "error.h"
#include "log/log_start.h"
#include "machine_state.h"
#include "memory/page_pieces.h"

using namespace lockstep;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::span<const uint8_t> bytes(data + 1, size - 1);
  static GuestMemory memory(4 << 20);
  try {
    if (data[0] % 3 == 0) {
      const MachineState state = decode_machine_state(bytes);
      for (const auto& saved : state.channel_hashes) {
        StreamHash hash;
        hash.restore(saved);
        hash.add(bytes);
        (void)hash.value();
      }
    } else if (data[0] % 3 == 1) {
      decode_pages(bytes, memory);
    } else {
      FrameDecoder().start_from(decode_log_start(bytes));
    }
  } catch (const Failure& failure) {
    if (failure.code != "ERR_LOCKSTEP_STATE_DAMAGED" && failure.code != "ERR_LOCKSTEP_LOG_DAMAGED")
      __builtin_trap();
  }
  return 0;
}
