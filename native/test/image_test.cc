#include "image.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <span>

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

constexpr size_t kFirst = 600, kSecond = 5000, kContent = 3 * 4096;

// Two segments, and content in blocks of a page.
struct Parts {
  ImageHeader header{};
  std::vector<ImageSegment> segments = {{0x7c00, kFirst, 0}, {0x100000, kSecond, 4096}};
  std::string manifest = "{}";
  File state = {1, 2, 3}, content = File(kContent);
  std::function<void(ImageHeader&)> damage;  // behind the writer's back, with a hash that is right

  Parts() {
    header.entry = 0x7c00;
    header.memory_bytes = 2 << 20;
    header.content_bytes = kContent;
    header.block_bytes = 4096;
    for (size_t i = 0; i < content.size(); i++) content[i] = static_cast<uint8_t>(i * 7 + i / 4096);
  }
  File hashes() const {
    File all;
    for (size_t at = 0; at < content.size(); at += header.block_bytes) {
      const auto bytes = std::min<size_t>(header.block_bytes, content.size() - at);
      const auto hash = sha256({content.data() + at, bytes});
      all.insert(all.end(), hash.begin(), hash.end());
    }
    return all;
  }
  File file() const {
    File file = encode_image_front(header, segments, manifest, state, hashes());
    if (damage) {
      ImageHeader changed;
      memcpy(&changed, file.data(), sizeof changed);
      damage(changed);
      memset(changed.sha256, 0, sizeof changed.sha256);
      memcpy(file.data(), &changed, sizeof changed);
      const auto hash = sha256(file);
      memcpy(file.data() + offsetof(ImageHeader, sha256), hash.data(), hash.size());
    }
    file.insert(file.end(), content.begin(), content.end());
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
  const Parts parts;
  const File file = parts.file();
  const Image image = parse_image(file);
  const uint64_t front = image.header.content_offset;
  CHECK(image.manifest == "{}" && image.segments.size() == 2 && image.header.entry == 0x7c00);
  CHECK(std::ranges::equal(image.state, parts.state));
  CHECK(image.segments[1].gpa == 0x100000 && image.segments[1].bytes == kSecond);
  CHECK(image.segments[1].file_offset == front + 4096);
  CHECK(image.file.data() == file.data() && image.file.size() == file.size());
  CHECK(front == 4096 && image_front_bytes(file) == front && image.file_bytes() == file.size());
}

TEST(a_front_proves_each_block) {
  Parts parts;
  parts.header.block_bytes = 8192;
  const File file = parts.file();
  const Image image = parse_image_front(std::span(file).first(4096));
  CHECK(image.header.block_count == 2 && image.block_length(0) == 8192 && image.block_length(1) == 4096);
  const auto content = std::span(file).subspan(image.header.content_offset);
  CHECK(image.is_block(0, content.first(8192)) && image.is_block(1, content.subspan(8192)));
  CHECK(!image.is_block(1, content.first(4096)) && !image.is_block(0, content.first(4096)));
  // What lies behind it is nobody's concern.
  CHECK(problem(File(file.begin(), file.begin() + 4096)).find("cut short") != std::string::npos);
  File more = file;
  more.push_back(0);
  CHECK(problem(more).find("more follows") != std::string::npos);
  CHECK(parse_image_front(more).segments.size() == 2);
}

TEST(segments_may_share_their_content) {
  Parts parts;
  parts.segments.push_back({0x180000, 4096, 4096});
  CHECK(problem(parts.file()).empty());
}

TEST(wrong_images_are_refused) {
  const auto with = [](std::function<void(ImageHeader&)> damage) {
    return [damage](Parts& p) { p.damage = damage; };
  };
  CHECK(refused("LSIMAGE", with([](ImageHeader& h) { h.magic[6] = '2'; })));
  CHECK(refused("version", with([](ImageHeader& h) { h.magic[7] = '1'; })));
  CHECK(refused("version", with([](ImageHeader& h) { h.version = 1; })));
  CHECK(refused("start mode", [](Parts& p) { p.header.mode = 4; }));
  CHECK(refused("memory size", [](Parts& p) { p.header.memory_bytes = 0; }));
  CHECK(refused("memory size", [](Parts& p) { p.header.memory_bytes = (2 << 20) + 4096; }));
  CHECK(refused("memory size", [](Parts& p) { p.header.memory_bytes = uint64_t{1} << 41; }));
  CHECK(refused("entry", [](Parts& p) { p.header.entry = 0x10000; }));
  CHECK(refused("entry", [](Parts& p) { p.header.mode = 1, p.header.entry = 2 << 20; }));
  CHECK(refused("too many segments", with([](ImageHeader& h) { h.segment_count = UINT32_MAX; })));
  CHECK(refused("not where it should be", with([](ImageHeader& h) { h.segment_count = 60'000; })));
  CHECK(refused("front is too large", with([](ImageHeader& h) { h.manifest_bytes = UINT32_MAX; })));
  CHECK(refused("front is too large", with([](ImageHeader& h) { h.state_bytes = UINT64_MAX; })));
  CHECK(refused("not where it should be", with([](ImageHeader& h) { h.content_offset += 4096; })));
  CHECK(refused("power of two", with([](ImageHeader& h) { h.block_bytes = 0; })));
  CHECK(refused("power of two", with([](ImageHeader& h) { h.block_bytes = 12288; })));
  CHECK(refused("power of two", with([](ImageHeader& h) { h.block_bytes = 1 << 25; })));
  CHECK(refused("made of pages", with([](ImageHeader& h) { h.content_bytes++; })));
  CHECK(refused("do not cover", with([](ImageHeader& h) { h.content_bytes += 4096; })));
  CHECK(refused("do not cover", with([](ImageHeader& h) { h.block_count--; })));
  CHECK(refused("of the file", [](Parts& p) { p.segments[0].file_offset = 1; }));
  CHECK(refused("of the file", [](Parts& p) { p.segments[0].file_offset = 0 - uint64_t{4096}; }));
  CHECK(refused("of the file", [](Parts& p) { p.segments[0].file_offset = kContent; }));
  CHECK(refused("of the file", [](Parts& p) { p.segments[1].bytes = 8193; }));
  CHECK(refused("of the file", [](Parts& p) { p.segments[1].bytes = UINT64_MAX; }));
  CHECK(refused("outside of memory", [](Parts& p) { p.segments[1].gpa = (2 << 20) - 4999; }));
  CHECK(refused("outside of memory", [](Parts& p) { p.segments[1].gpa = UINT64_MAX; }));
  CHECK(refused("overlap", [](Parts& p) { p.segments[0].gpa = 0x100000 - 599; }));
  CHECK(refused("snapshot", [](Parts& p) { p.header.mode = 3; }));
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
  parts.header.content_bytes = 2448 * 4096;
  parts.header.block_bytes = kImageBlockBytes;
  parts.content.resize(parts.header.content_bytes);
  parts.segments[1].bytes = 10'000'000;
  const File file = parts.file();
  const auto start = std::chrono::steady_clock::now();
  parse_image(file);
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  printf("# 10 MB: %.1f ms\n", took.count());
}

}  // namespace
}  // namespace lockstep::test
