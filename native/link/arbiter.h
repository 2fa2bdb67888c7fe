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
  // Any thread: a call that waits ends soon as unreachable, and so does every later one. What never waits for
  // long has nothing to do.
  virtual void cancel() {}
};

// Ids become names of files and keys, so they may hold nothing that means something in one. Throws.
void check_arbiter_id(const std::string& id);

// Files in a shared directory: O_EXCL temporary, fsync, link(2), fsync of the directory; mode 0600.
// Never flock. <pair>.g<N> holds the winner's claim id, <pair>.armed<N> the shadow's.
std::shared_ptr<Arbiter> make_file_arbiter(const std::string& directory);
// Within one process: `name` finds the same arbiter again.
std::shared_ptr<Arbiter> make_memory_arbiter(const std::string& name);

}  // namespace lockstep
