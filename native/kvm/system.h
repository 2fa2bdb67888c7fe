// /dev/kvm itself.
#pragma once

#include <unistd.h>

#include <utility>

#include "error.h"

namespace lockstep {

// Owns one file descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

class KvmSystem {
 public:
  // Throws ERR_LOCKSTEP_NO_KVM, ERR_LOCKSTEP_KVM_PERMISSION or ERR_LOCKSTEP_KVM_VERSION.
  KvmSystem();
  int fd() const { return fd_.get(); }
  int extension(int capability) const;
  size_t run_bytes() const { return run_bytes_; }

 private:
  Fd fd_;
  size_t run_bytes_ = 0;
};

// ioctl that throws ERR_LOCKSTEP_KVM naming the operation; retries EINTR unless told otherwise.
int kvm_ioctl(int fd, unsigned long request, void* argument, const char* operation);

}  // namespace lockstep
