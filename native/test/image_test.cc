#include "image.h"

#include <chrono>
#include <cstring>

#include "sha256.h"
#include "test/check.h"

namespace lockstep::test {
namespace {

using File = std::vector<uint8_t>;

std::string hex(const std::array<uint8_t, 32>& hash) {
  std::string text;
  char digits[3];
  for (const uint8_t byte : hash) text += (snprintf(digits, sizeof digits, "%02x", byte), digits);
  return text;
}

std::string hash_of(const std::string& text) {
  return hex(sha256({reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
}

void seal(File& file) {
  memset(file.data() + offsetof(ImageHeader, sha256), 0, 32);
  const auto hash = sha256(file);
  memcpy(file.data() + offsetof(ImageHeader, sha256), hash.data(), hash.size());
}

struct Parts {
  ImageHeader header{{'L', 'S', 'I', 'M', 'A', 'G', 'E', '1'}, 1, 0, 0x7c00, 2 << 20, 0, 0, {}};
  std::vector<ImageSegment> segments = {{0x7c00, 600, 4096}, {0x100000, 5000, 8192}};
  std::string manifest = "{}";
  size_t bytes = 8192 + 5000;

  File file() const {
    ImageHeader h = header;
    if (h.segment_count == 0) h.segment_count = static_cast<uint32_t>(segments.size());
    if (h.manifest_bytes == 0) h.manifest_bytes = static_cast<uint32_t>(manifest.size());
    File file(std::max(bytes, sizeof h + segments.size() * sizeof(ImageSegment) + manifest.size()));
    memcpy(file.data(), &h, sizeof h);
    memcpy(file.data() + sizeof h, segments.data(), segments.size() * sizeof(ImageSegment));
    memcpy(file.data() + sizeof h + segments.size() * sizeof(ImageSegment), manifest.data(), manifest.size());
    for (size_t i = 4096; i < file.size(); i++) file[i] = static_cast<uint8_t>(i * 7);
    file.resize(bytes);
    seal(file);
    return file;
  }
};

std::string problem(const File& file) {
  std::string message;
  const std::string code = failure_code([&] { parse_image(file); }, &message);
  CHECK(code.empty() || code == "ERR_LOCKSTEP_NOT_AN_IMAGE");
  return message;
}

// The message contains `expected` when the parts are changed so.
template <typename Change>
bool refused(const std::string& expected, Change change) {
  Parts parts;
  change(parts);
  return problem(parts.file()).find(expected) != std::string::npos;
}

TEST(sha256_knows_the_published_vectors) {
  for (const bool software : {true, false}) {
    sha256_use_software(software);
    CHECK(hash_of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(hash_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(hash_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK(hash_of(std::string(1'000'000, 'a')) ==
          "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  }
}

TEST(sha256_is_the_same_in_parts_and_in_software) {
  for (size_t size = 0; size < 300; size++) {
    File bytes(size);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(below(256));
    sha256_use_software(true);
    const auto expected = sha256(bytes);
    sha256_use_software(false);
    CHECK(sha256(bytes) == expected);
    Sha256 hash;
    for (size_t at = 0; at < size;) {
      const size_t part = std::min<size_t>(size - at, below(100));
      hash.update({bytes.data() + at, part});
      at += part;
    }
    CHECK(hash.finish() == expected);
  }
}

TEST(an_image_is_parsed) {
  const File file = Parts{}.file();
  const Image image = parse_image(file);
  CHECK(image.manifest == "{}" && image.segments.size() == 2 && image.header.entry == 0x7c00);
  CHECK(image.segments[1].gpa == 0x100000 && image.segments[1].bytes == 5000);
  CHECK(image.file.data() == file.data() && image.file.size() == file.size());
}

TEST(wrong_images_are_refused) {
  CHECK(refused("LSIMAGE1", [](Parts& p) { p.header.magic[7] = '2'; }));
  CHECK(refused("version", [](Parts& p) { p.header.version = 2; }));
  CHECK(refused("start mode", [](Parts& p) { p.header.mode = 3; }));
  CHECK(refused("memory size", [](Parts& p) { p.header.memory_bytes = 0; }));
  CHECK(refused("memory size", [](Parts& p) { p.header.memory_bytes = (2 << 20) + 4096; }));
  CHECK(refused("memory size", [](Parts& p) { p.header.memory_bytes = uint64_t{1} << 41; }));
  CHECK(refused("entry", [](Parts& p) { p.header.entry = 0x10000; }));
  CHECK(refused("entry", [](Parts& p) { p.header.mode = 1, p.header.entry = 2 << 20; }));
  CHECK(refused("too many segments", [](Parts& p) { p.header.segment_count = UINT32_MAX; }));
  CHECK(refused("cut short", [](Parts& p) { p.header.segment_count = 60'000; }));
  CHECK(refused("cut short", [](Parts& p) { p.header.manifest_bytes = UINT32_MAX; }));
  CHECK(refused("of the file", [](Parts& p) { p.segments[0].file_offset = 4097; }));
  CHECK(refused("of the file", [](Parts& p) { p.segments[0].file_offset = 0; }));
  CHECK(refused("of the file", [](Parts& p) { p.segments[0].file_offset = 0 - uint64_t{4096}; }));
  CHECK(refused("of the file", [](Parts& p) { p.segments[1].bytes = 5001; }));
  CHECK(refused("of the file", [](Parts& p) { p.segments[1].bytes = UINT64_MAX; }));
  CHECK(refused("outside of memory", [](Parts& p) { p.segments[1].gpa = (2 << 20) - 4999; }));
  CHECK(refused("outside of memory", [](Parts& p) { p.segments[1].gpa = UINT64_MAX; }));
  CHECK(refused("overlap", [](Parts& p) { p.segments[0].gpa = 0x100000 - 599; }));
  const File file = Parts{}.file();
  for (size_t size = 0; size < file.size(); size += 1 + below(20))
    CHECK(!problem(File(file.begin(), file.begin() + static_cast<ptrdiff_t>(size))).empty());
  for (size_t bit = 0; bit < file.size() * 8; bit += 1 + below(10)) {
    File wrong = file;
    wrong[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
    CHECK(!problem(wrong).empty());
  }
}

TEST(a_large_image_is_parsed_at_once) {
  Parts parts;
  parts.header.memory_bytes = 64 << 20;
  parts.segments[1].bytes = 10'000'000;
  parts.bytes = 8192 + 10'000'000;
  const File file = parts.file();
  const auto start = std::chrono::steady_clock::now();
  parse_image(file);
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  printf("# 10 MB: %.1f ms\n", took.count());
}

}  // namespace
}  // namespace lockstep::test
