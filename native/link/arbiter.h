// The fence: a generation-numbered compare-and-set without expiry, under the pair's random id.
#pragma once

#include <memory>
#include <string>

namespace lockstep {

enum class Claim { kWon, kLost, kUnreachable };

class Arbiter {
 public:
  virtual ~Arbiter() = default;
  // Records that shadow `shadow_id` may claim `generation`. Idempotent. False when unreachable.
  virtual bool arm(const std::string& pair_id, uint64_t generation, const std::string& shadow_id) = 0;
  // Exactly one claim id ever wins a generation; the same id asking again wins again (a lost answer is
  // read back, never assumed lost).
  virtual Claim claim(const std::string& pair_id, uint64_t generation, const std::string& claim_id) = 0;
};

// Files in a shared directory: O_EXCL temporary, fsync, link(2), fsync of the directory; mode 0600.
// Never flock. <pair>.g<N> holds the winner's claim id, <pair>.armed<N> the shadow's.
std::shared_ptr<Arbiter> make_file_arbiter(const std::string& directory);
// Within one process: `name` finds the same arbiter again.
std::shared_ptr<Arbiter> make_memory_arbiter(const std::string& name);

}  // namespace lockstep
