#include "kept_descriptor.h"

#include <fcntl.h>

#include <map>
#include <mutex>

namespace lockstep {

namespace {
std::mutex mutex;
std::map<std::string, Fd>& kept() {
  static auto& all = *new std::map<std::string, Fd>;
  return all;
}
Fd duplicate(int fd) {
  Fd copy(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy) throw_system("ERR_LOCKSTEP_SYSTEM", "fcntl", "duplicating a descriptor");
  return copy;
}
}  // namespace

void keep_descriptor(const std::string& name, int fd) {
  std::lock_guard lock(mutex);
  kept()[name] = duplicate(fd);
}

Fd kept_descriptor(const std::string& name) {
  std::lock_guard lock(mutex);
  const auto found = kept().find(name);
  return found == kept().end() ? Fd() : duplicate(found->second.get());
}

}  // namespace lockstep
