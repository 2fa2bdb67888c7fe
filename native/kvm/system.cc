#include "kvm/system.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include "kept_descriptor.h"
#include "kvm/uapi.h"

namespace lockstep {

int kvm_ioctl(int fd, unsigned long request, void* argument, const char* operation) {
  int result;
  do {
    result = ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  if (result < 0) throw_system("ERR_LOCKSTEP_KVM", operation, operation, "run `lockstep doctor`");
  return result;
}

KvmSystem::KvmSystem() : fd_(kept_descriptor(kKeptKvm)) {
  if (!fd_) fd_ = Fd(open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!fd_) {
    if (errno == EACCES || errno == EPERM)
      throw_system(
          "ERR_LOCKSTEP_KVM_PERMISSION", "open", "/dev/kvm",
          "add yourself to the group that owns /dev/kvm (`sudo usermod -aG kvm $USER`, then log in again)");
    throw_system(
        "ERR_LOCKSTEP_NO_KVM", "open", "/dev/kvm",
        "load the kvm module of your processor, or turn on (nested) virtualisation for this machine");
  }
  int version = kvm_ioctl(fd(), KVM_GET_API_VERSION, nullptr, "KVM_GET_API_VERSION");
  if (version != 12)
    throw Failure("ERR_LOCKSTEP_KVM_VERSION",
                  "/dev/kvm speaks API version " + std::to_string(version) + ", not 12",
                  "use a Linux kernel of 2.6.22 or later");
  run_bytes_ = kvm_ioctl(fd(), KVM_GET_VCPU_MMAP_SIZE, nullptr, "KVM_GET_VCPU_MMAP_SIZE");
}

int KvmSystem::extension(int capability) const {
  int result = ioctl(fd(), KVM_CHECK_EXTENSION, capability);
  return result < 0 ? 0 : result;
}

}  // namespace lockstep
