#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>

#include "test/log_samples.h"

namespace lockstep::test {
namespace {

// The code of the failure of writing `frames` after a small header, or "".
std::string write_log(const std::string& path, const std::vector<Bytes>& frames, LogFileOptions options,
                      uint64_t* bytes = nullptr) {
  return failure_code([&] {
    LogFileWriter writer(path, encode_log_header(small_header()), options);
    if (bytes != nullptr) *bytes = writer.bytes();
    for (const Bytes& frame : frames) {
      writer.append(frame);
      if (bytes != nullptr) *bytes = writer.bytes();
    }
    writer.close();
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

TEST(a_full_disk_leaves_whole_frames_and_can_be_tried_again) {
  CHECK(in_child([] {
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
      printf("# left out: no mount namespace for a small disk here\n");
      return;
    }
    mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    char directory[] = "/tmp/lockstep-disk-XXXXXX";
    CHECK(mkdtemp(directory) != nullptr);
    CHECK(mount("none", directory, "tmpfs", 0, "size=128k") == 0);
    const std::string path = std::string(directory) + "/log";
    // What fills the disk is deleted later; the frame that found no room is then written after all.
    const std::string ballast = std::string(directory) + "/ballast";
    const int fd = open(ballast.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    const Bytes zeros(20'000);
    CHECK(write(fd, zeros.data(), zeros.size()) == static_cast<ssize_t>(zeros.size()));
    close(fd);
    std::vector<Record> records;
    for (uint64_t lsn = 1; lsn <= 60; lsn++)
      records.push_back(Event{lsn, 1, 1, lsn, {{InputKind::kData, 0, random_bytes(2000, false)}}});
    const std::vector<Bytes> frames = to_frames(records, 1);
    LogFileWriter writer(path, encode_log_header(small_header()), {});
    size_t written = 0;
    std::string code;
    while (written < frames.size() && (code = failure_code([&] { writer.append(frames[written]); })).empty())
      written++;
    CHECK(code == "ERR_LOCKSTEP_DISK_FULL" && written > 30);
    Reading reading = read_log(path);
    CHECK(reading.code.empty() && reading.cut && reading.records.size() == written);
    struct stat status;
    CHECK(stat(path.c_str(), &status) == 0 && static_cast<uint64_t>(status.st_size) == writer.bytes());
    CHECK(reading.whole_bytes == writer.bytes());
    unlink(ballast.c_str());
    writer.append(frames[written]);
    reading = read_log(path);
    CHECK(reading.records.size() == written + 1);
    CHECK(std::equal(reading.records.begin(), reading.records.end(), records.begin()));
    umount(directory);
    rmdir(directory);
  }));
}

TEST(a_limit_on_file_size_leaves_whole_frames) {
  CHECK(in_child([] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {3000, 3000};
    setrlimit(RLIMIT_FSIZE, &limit);
    const TemporaryFile file;
    uint64_t bytes = 0;
    const std::vector<Record> records = random_records(1000, true);
    CHECK(write_log(file.path(), to_frames(records, 1), {.force = true}, &bytes) == "ERR_LOCKSTEP_LOG_WRITE");
    const Reading reading = read_log(file.path());
    CHECK(reading.code.empty() && reading.cut && reading.whole_bytes == bytes);
    CHECK(std::equal(reading.records.begin(), reading.records.end(), records.begin()));
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
  header.version = 2;
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
