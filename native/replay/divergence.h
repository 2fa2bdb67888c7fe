// Replay and recording disagree: where, and what each side holds.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "log/event.h"

namespace lockstep {

struct Divergence {
  uint64_t event = 0;
  std::string kind;  // access, register, device, memory, output, end
  std::string where, expected, actual;
  std::vector<std::string> before;  // the last events, oldest first
};

struct Diverged : std::runtime_error {
  explicit Diverged(Divergence d)
      : std::runtime_error("replay diverged after event " + std::to_string(d.event) + ": " + d.where +
                           " is " + d.actual + ", recorded " + d.expected),
        divergence(std::move(d)) {}
  Divergence divergence;
};

std::string hex(uint64_t value);
// One line, for people.
std::string describe(const Event& event);

}  // namespace lockstep
