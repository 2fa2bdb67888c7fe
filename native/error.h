// The one error type of the core. Becomes one LockstepError in TypeScript.
#pragma once

#include <cerrno>
#include <stdexcept>
#include <string>

namespace lockstep {

// A failure that a person can act on. `code` is one of the documented ERR_LOCKSTEP_ codes,
// `hint` says what to do about it, `operation` and `error_number` are set where a system call failed.
struct Failure : std::runtime_error {
  Failure(std::string code_, const std::string& message, std::string hint_ = {}, std::string operation_ = {},
          int error_number_ = 0)
      : std::runtime_error(message),
        code(std::move(code_)),
        hint(std::move(hint_)),
        operation(std::move(operation_)),
        error_number(error_number_) {}
  std::string code;
  std::string hint;
  std::string operation;
  int error_number;
};

// A system call failed: message is "what: strerror(error_number)".
[[noreturn]] void throw_system(const std::string& code, const std::string& operation, const std::string& what,
                               const std::string& hint = {}, int error_number = errno);

}  // namespace lockstep
