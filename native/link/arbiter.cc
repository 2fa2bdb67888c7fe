#include "link/arbiter.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <mutex>

#include "error.h"
#include "fault_point.h"

namespace lockstep {

void check_arbiter_id(const std::string& id) {
  bool good = !id.empty() && id.size() <= 64;
  for (char c : id) good = good && (isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_');
  if (!good)
    throw Failure("ERR_LOCKSTEP_PAIR_ID", "\"" + id + "\" is not an id: use letters, digits, - and _.");
}

namespace {

struct Descriptor {
  int fd;
  explicit Descriptor(int f) : fd(f) {}
  Descriptor(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

class FileArbiter final : public Arbiter {
 public:
  explicit FileArbiter(std::string directory) : directory_(std::move(directory)) {}

  bool arm(const std::string& pair_id, uint64_t generation, const std::string& shadow_id) override {
    check_arbiter_id(pair_id);
    // A shadow that was recorded but never told so may be replaced by another: rename, unlike a claim.
    std::string name = pair_id + ".armed" + std::to_string(generation);
    std::string temporary = write_temporary(name, shadow_id);
    if (temporary.empty()) return false;
    if (::rename(temporary.c_str(), path(name).c_str()) != 0) {
      ::unlink(temporary.c_str());
      return false;
    }
    return sync_directory();
  }

  Claim claim(const std::string& pair_id, uint64_t generation, const std::string& claim_id) override {
    check_arbiter_id(pair_id);
    std::string name = pair_id + ".g" + std::to_string(generation);
    std::string temporary = write_temporary(name, claim_id);
    if (temporary.empty()) return Claim::kUnreachable;
    // link(2) is the compare-and-set: it makes the name with its whole contents, or fails. Over NFS its
    // answer can be lost although it was done; the link count of our own file then tells.
    fault_point("claim-before-link");
    int result = ::link(temporary.c_str(), path(name).c_str());
    int error = result == 0 ? 0 : errno;
    fault_point("claim-after-link");
    struct stat ours {};
    if (result != 0 && error != EEXIST && ::stat(temporary.c_str(), &ours) == 0 && ours.st_nlink == 2)
      error = 0;
    ::unlink(temporary.c_str());
    if (error != 0 && error != EEXIST) return Claim::kUnreachable;
    // Read back even after success: what stands there is the truth, whatever we were told.
    std::string winner;
    if (!read_file(path(name), &winner)) return Claim::kUnreachable;
    if (winner != claim_id) return Claim::kLost;
    // Won only when a crash of the host cannot undo it.
    return sync_directory() ? Claim::kWon : Claim::kUnreachable;
  }

 private:
  std::string path(const std::string& name) const { return directory_ + "/" + name; }

  // Empty when the directory cannot be written.
  std::string write_temporary(const std::string& name, const std::string& contents) {
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, 0) != sizeof random) return {};
    std::string temporary = path("." + name + "." + std::to_string(random));
    Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (file.fd < 0) return {};
    if (::write(file.fd, contents.data(), contents.size()) == static_cast<ssize_t>(contents.size()) &&
        ::fsync(file.fd) == 0) {
      return temporary;
    }
    ::unlink(temporary.c_str());
    return {};
  }

  static bool read_file(const std::string& path, std::string* contents) {
    Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (file.fd < 0) return false;
    char buffer[256];
    ssize_t n = ::read(file.fd, buffer, sizeof buffer);
    if (n <= 0) return false;
    contents->assign(buffer, static_cast<size_t>(n));
    return true;
  }

  bool sync_directory() {
    Descriptor directory(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return directory.fd >= 0 && ::fsync(directory.fd) == 0;
  }

  std::string directory_;
};

class MemoryArbiter final : public Arbiter {
 public:
  bool arm(const std::string& pair_id, uint64_t generation, const std::string& shadow_id) override {
    check_arbiter_id(pair_id);
    std::lock_guard lock(mutex_);
    armed_[{pair_id, generation}] = shadow_id;
    return true;
  }
  Claim claim(const std::string& pair_id, uint64_t generation, const std::string& claim_id) override {
    check_arbiter_id(pair_id);
    std::lock_guard lock(mutex_);
    auto [winner, is_new] = claims_.try_emplace({pair_id, generation}, claim_id);
    (void)is_new;
    return winner->second == claim_id ? Claim::kWon : Claim::kLost;
  }

 private:
  std::mutex mutex_;
  std::map<std::pair<std::string, uint64_t>, std::string> claims_, armed_;
};

}  // namespace

std::shared_ptr<Arbiter> make_file_arbiter(const std::string& directory) {
  return std::make_shared<FileArbiter>(directory);
}

std::shared_ptr<Arbiter> make_memory_arbiter(const std::string& name) {
  // Never forgotten while the process lives: a fence that can be forgotten is none.
  static std::mutex mutex;
  static auto& known = *new std::map<std::string, std::shared_ptr<Arbiter>>;
  std::lock_guard lock(mutex);
  std::shared_ptr<Arbiter>& arbiter = known[name];
  if (!arbiter) arbiter = std::make_shared<MemoryArbiter>();
  return arbiter;
}

}  // namespace lockstep
