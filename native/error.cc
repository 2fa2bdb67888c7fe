#include "error.h"

#include <cstring>

#include "sandbox.h"

namespace lockstep {

void throw_system(const std::string& code, const std::string& operation, const std::string& what,
                  const std::string& hint, int error_number) {
  // strerror_r, because several machines fail in several threads of one process. This is the GNU one, which
  // returns the text and may leave the buffer alone.
  char buffer[128];
  const std::string refused = refused_call(error_number);
  const std::string text =
      refused.empty() ? strerror_r(error_number, buffer, sizeof buffer) : refused + " (" + operation + ")";
  throw Failure(code, what + ": " + text, hint, operation, error_number);
}

}  // namespace lockstep
