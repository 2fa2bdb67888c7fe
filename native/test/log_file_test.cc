#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>

#include "log/frame_format.h"
#include "test/log_samples.h"

namespace lockstep::test {
namespace {

// A writer, and a decoder that knows the checksum chain of what it is given.
struct Log {
  Log(const std::string& path, LogFileOptions options)
      : writer(path, encode_log_header(small_header()), options) {}
  void append(const Bytes& frame, const End& reached = {}) {
    decoder.decode(frame, 0);
    writer.append(frame, decoder.position().chain, reached);
  }
  LogFileWriter writer;
  FrameDecoder decoder;
};

// The code of the failure of writing `frames` after a small header, or "".
std::string write_log(const std::string& path, const std::vector<Bytes>& frames, LogFileOptions options,
                      uint64_t* bytes = nullptr) {
  return failure_code([&] {
    Log log(path, options);
    for (const Bytes& frame : frames) {
      try {
        log.append(frame);
      } catch (...) {
        if (bytes != nullptr) *bytes = log.writer.bytes();
        throw;
      }
    }
    log.writer.close();
  });
}

// In a child of its own, which may change limits and mounts. Whether everything held there.
bool in_child(void (*body)()) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    bool held = true;
    try {
      body();
    } catch (const std::exception& error) {
      printf("# in the child: %s\n", error.what());
      held = false;
    }
    fflush(stdout);
    _exit(held ? 0 : 1);
  }
  int status = -1;
  return waitpid(child, &status, 0) == child && status == 0;
}

TEST(a_log_is_written_and_read) {
  for (const bool fsync : {false, true}) {
    const TemporaryFile file;
    const std::vector<Record> records = random_records(500, true);
    CHECK(write_log(file.path(), to_frames(records, 5), {.force = true, .fsync = fsync}) == "");
    LogFileReader reader(file.path());
    CHECK(reader.header().options == small_header().options && reader.header().image == small_header().image);
    CHECK(reader.header().image_sha256 == small_header().image_sha256);
    CHECK(!reader.ended() && !reader.cut());
    for (const Record& record : records) CHECK(reader.next() == record);
    CHECK(!reader.next() && !reader.next() && reader.ended() && !reader.cut());
    CHECK(reader.offset() == reader.file_bytes() && reader.whole_bytes() == reader.file_bytes());
    struct stat status;
    CHECK(stat(file.path().c_str(), &status) == 0 &&
          static_cast<uint64_t>(status.st_size) == reader.file_bytes());
    CHECK(repair_log(file.path()).dropped_bytes == 0);
  }
}

TEST(a_log_is_private_and_never_overwritten_unasked) {
  const TemporaryFile file;
  chmod(file.path().c_str(), 0644);
  CHECK(write_log(file.path(), {}, {}) == "ERR_LOCKSTEP_LOG_EXISTS");
  CHECK(write_log(file.path(), {}, {.force = true}) == "");
  struct stat status;
  CHECK(stat(file.path().c_str(), &status) == 0 && (status.st_mode & 07777) == 0600);
  unlink(file.path().c_str());
  umask(0);
  CHECK(write_log(file.path(), {}, {}) == "");
  CHECK(stat(file.path().c_str(), &status) == 0 && (status.st_mode & 07777) == 0600);
  CHECK(write_log("/nowhere/log", {}, {}) == "ERR_LOCKSTEP_LOG_WRITE");
  CHECK(write_log("/tmp", {}, {.force = true}) == "ERR_LOCKSTEP_LOG_WRITE");
}

TEST(a_pipe_without_a_reader_is_an_error_and_no_hang) {
  const TemporaryFile file;
  unlink(file.path().c_str());
  CHECK(mkfifo(file.path().c_str(), 0600) == 0);
  CHECK(write_log(file.path(), {}, {.force = true}) == "ERR_LOCKSTEP_LOG_WRITE");
  CHECK(write_log(file.path(), {}, {}) == "ERR_LOCKSTEP_LOG_EXISTS");
  CHECK(failure_code([&] { LogFileReader reader(file.path()); }) == "ERR_LOCKSTEP_NOT_A_LOG");
}

TEST(a_full_device_is_a_full_disk) {
  CHECK(write_log("/dev/full", {}, {.force = true}) == "ERR_LOCKSTEP_DISK_FULL");
  CHECK(write_log("/dev/null", to_frames(random_records(10, true), 1), {.force = true, .fsync = true}) == "");
}

constexpr End kReached{3, 4711, EndReason::kExited, 9};
constexpr End kEnded{3, 4711, EndReason::kFailed, 0};

// Nothing of a frame that failed, and the End behind the last whole one.
void check_ended(const std::string& path, const std::vector<Record>& records, size_t written) {
  const Reading reading = read_log(path);
  CHECK(reading.code.empty() && reading.ended && reading.records.size() == written + 1);
  CHECK(std::equal(reading.records.begin(), reading.records.end() - 1, records.begin()));
  CHECK(reading.records.back() == Record(kEnded));
  struct stat status;
  CHECK(stat(path.c_str(), &status) == 0 && static_cast<uint64_t>(status.st_size) == reading.whole_bytes);
  CHECK(status.st_blocks * 512 <= status.st_size + 4096);
}

TEST(a_full_disk_ends_the_log_behind_its_last_whole_frame) {
  CHECK(in_child([] {
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
      printf("# left out: no mount namespace for a small disk here\n");
      return;
    }
    mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    char directory[] = "/tmp/lockstep-disk-XXXXXX";
    CHECK(mkdtemp(directory) != nullptr);
    // Frames of all sizes, so that the last one that fits ends anywhere in a page: at its very end, too.
    for (int round = 0; round < 60; round++) {
      CHECK(mount("none", directory, "tmpfs", 0, "size=128k") == 0);
      const std::string path = std::string(directory) + "/log";
      std::vector<Record> records;
      for (uint64_t lsn = 1; lsn <= 3000; lsn++)
        records.push_back(
            Event{lsn, 1, 1, lsn, {{InputKind::kData, 0, random_bytes(1 + below(2000), false)}}});
      const std::vector<Bytes> frames = to_frames(records, 1);
      {
        Log log(path, {.fsync = below(2) == 0});
        size_t written = 0;
        const auto append = [&] { log.append(frames[written], kReached); };
        std::string code;
        // Somebody else takes all the room that is left, to the last byte.
        const size_t crowded_at = below(100);
        while ((code = failure_code(append)).empty()) {
          if (written++ != crowded_at) continue;
          const int other = open((path + "2").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
          const Bytes page(4096);
          while (write(other, page.data(), page.size()) > 0) continue;
          close(other);
        }
        CHECK(code == "ERR_LOCKSTEP_DISK_FULL");
        check_ended(path, records, written);
        CHECK(failure_code([&] { log.writer.append(frames[written], 0); }) == "ERR_LOCKSTEP_INTERNAL");
      }
      CHECK(umount(directory) == 0);
    }
    rmdir(directory);
  }));
}

TEST(room_that_was_set_aside_is_given_back) {
  const TemporaryFile file;
  const std::vector<Record> records = random_records(100, true);
  CHECK(write_log(file.path(), to_frames(records, 5), {.force = true}) == "");
  struct stat status;
  CHECK(stat(file.path().c_str(), &status) == 0 && status.st_blocks * 512 <= status.st_size + 4096);
}

TEST(a_limit_on_file_size_ends_the_log) {
  CHECK(in_child([] {
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t most = 3300; most > 3000; most -= 7) {
      const rlimit limit = {most, most};
      CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
      const TemporaryFile file;
      uint64_t bytes = 0;
      const std::vector<Record> records = random_records(1000, true);
      CHECK(write_log(file.path(), to_frames(records, 1), {.force = true}, &bytes) ==
            "ERR_LOCKSTEP_LOG_WRITE");
      const Reading reading = read_log(file.path());
      CHECK(reading.code.empty() && reading.ended && reading.whole_bytes == bytes && bytes <= most);
      CHECK(std::equal(reading.records.begin(), reading.records.end() - 1, records.begin()));
      CHECK(reading.records.back() == Record(End{0, 0, EndReason::kFailed, 0}));
    }
  }));
}

TEST(headers_come_back) {
  for (const size_t image_bytes : {size_t{0}, size_t{1}, size_t{100'000}, size_t{3'000'000}}) {
    LogHeader header = small_header();
    header.image = random_bytes(image_bytes, true);
    const Bytes bytes = encode_log_header(header);
    LogHeader back;
    CHECK(decode_log_header(bytes, &back) == bytes.size());
    CHECK(back.image == header.image && back.options == header.options);
    CHECK(back.image_sha256 == header.image_sha256 && back.version == kLogVersion);
    for (size_t size = 0; size < bytes.size(); size += size < 200 ? 1 : 1 + below(bytes.size() / 50 + 1))
      CHECK(decode_log_header({bytes.data(), size}, &back) == 0);
  }
}

TEST(wrong_headers_are_named) {
  const TemporaryFile file;
  const auto code_of = [&](const Bytes& bytes) {
    file.write(bytes);
    return read_log(file.path()).code;
  };
  LogHeader header = small_header();
  header.version = kLogVersion + 1;
  CHECK(code_of(encode_log_header(header)) == "ERR_LOCKSTEP_LOG_VERSION");
  header.version = 0;
  CHECK(code_of(encode_log_header(header)) == "ERR_LOCKSTEP_LOG_VERSION");
  CHECK(code_of({}) == "ERR_LOCKSTEP_NOT_A_LOG");
  CHECK(code_of({'h', 'e', 'l', 'l', 'o'}) == "ERR_LOCKSTEP_NOT_A_LOG");
  CHECK(code_of(random_bytes(5000, false)) == "ERR_LOCKSTEP_NOT_A_LOG");
  CHECK(read_log("/nowhere").code == "ERR_LOCKSTEP_LOG_READ");
  CHECK(read_log("/tmp").code == "ERR_LOCKSTEP_NOT_A_LOG");
  // Sent as text.
  Bytes bytes = encode_log_header(small_header());
  bytes.erase(bytes.begin() + 6);
  CHECK(code_of(bytes) == "ERR_LOCKSTEP_NOT_A_LOG");
  const Bytes good = encode_log_header(small_header());
  for (size_t bit = 0; bit < good.size() * 8; bit++) {
    Bytes wrong = good;
    wrong[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
    LogHeader back;
    const std::string code = failure_code([&] { decode_log_header(wrong, &back); });
    const size_t byte = bit / 8;
    CHECK(code == (byte < 8    ? "ERR_LOCKSTEP_NOT_A_LOG"
                   : byte < 12 ? "ERR_LOCKSTEP_LOG_VERSION"
                               : "ERR_LOCKSTEP_LOG_DAMAGED"));
  }
}

}  // namespace
}  // namespace lockstep::test
