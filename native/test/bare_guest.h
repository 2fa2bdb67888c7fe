// Bare guests for the core's tests: an image around a few bytes of machine code, and a listener that collects
// what the machine says.
#pragma once

#include <condition_variable>
#include <cstring>
#include <mutex>

#include "machine.h"
#include "sha256.h"

namespace lockstep::test {

inline Bytes flat_image(StartMode mode, uint64_t gpa, const Bytes& code, uint64_t memory_bytes = 4 << 20) {
  Bytes content = code;
  content.resize((code.size() + kPageBytes - 1) / kPageBytes * kPageBytes);
  ImageHeader header{};
  header.mode = static_cast<uint32_t>(mode);
  header.entry = gpa;
  header.memory_bytes = memory_bytes;
  header.content_bytes = content.size();
  header.block_bytes = kPageBytes;
  Bytes hashes;
  for (size_t at = 0; at < content.size(); at += kPageBytes) {
    const auto hash = sha256(std::span(content).subspan(at, kPageBytes));
    hashes.insert(hashes.end(), hash.begin(), hash.end());
  }
  Bytes file = encode_image_front(header, {{gpa, code.size(), 0}}, "{}", {}, hashes);
  file.insert(file.end(), content.begin(), content.end());
  return file;
}

class Collector : public MachineListener {
 public:
  void on_state(const char*) override {}
  void on_ended(const MachineEnd& end) override {
    set([&] { end_ = end; });
  }
  void on_failed(const Failure& failure) override {
    set([&] { failure_ = failure; });
  }
  void on_pair(const PairEvent&) override {}
  void on_warning(const std::string&, const std::string&) override {}
  // Throws the Failure that the machine ended with, if one did.
  MachineEnd wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return end_ || failure_; });
    if (failure_) throw *failure_;
    return *end_;
  }

 private:
  template <typename Change>
  void set(Change change) {
    std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<MachineEnd> end_;
  std::optional<Failure> failure_;
};

}  // namespace lockstep::test
