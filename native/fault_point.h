// Test aid: with LOCKSTEP_FAULT="place:n" in its environment this process kills itself (SIGKILL) the n-th
// time it passes that place; with "place:n:stop" it stops itself there (SIGSTOP) and goes on when it is
// continued. Unset, as always outside tests, a place costs one test of a constant.
#pragma once

namespace lockstep {

extern const bool fault_is_set;
bool fault_passes(const char* place);  // counts this pass
void fault_strike();

// True when it is to happen here and now: the caller leaves things half done and then calls fault_strike().
inline bool fault_due(const char* place) { return fault_is_set && fault_passes(place); }
inline void fault_point(const char* place) {
  if (fault_due(place)) fault_strike();
}

}  // namespace lockstep
