#include "image_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "error.h"

namespace lockstep {

namespace {

[[noreturn]] void cannot_read(const std::string& path) {
  throw_system("ERR_LOCKSTEP_SYSTEM", "read", "cannot read " + path);
}

Bytes read_range(const Fd& file, uint64_t offset, uint64_t bytes, const std::string& what) {
  Bytes result(bytes);
  for (uint64_t done = 0; done < bytes;) {
    const ssize_t got =
        pread(file.get(), result.data() + done, bytes - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) cannot_read(what);
    if (got == 0) result.resize(bytes = done);  // who parses it says that it is cut short
    done += static_cast<uint64_t>(got);
  }
  return result;
}

}  // namespace

ImageFile::ImageFile(Bytes bytes, std::shared_ptr<const Fd> content, std::shared_ptr<const BlockStore> store)
    : bytes_(std::move(bytes)),
      content_(std::move(content)),
      store_(std::move(store)),
      image_(content_ || store_ ? parse_image_front(bytes_) : parse_image(bytes_)) {}

std::shared_ptr<const ImageFile> ImageFile::from_bytes(Bytes file) {
  return std::shared_ptr<const ImageFile>(new ImageFile(std::move(file), nullptr));
}

std::shared_ptr<const ImageFile> ImageFile::on_its_way(std::shared_ptr<const BlockStore> store) {
  const auto front = store->image().file;
  return std::shared_ptr<const ImageFile>(
      new ImageFile(Bytes(front.begin(), front.end()), nullptr, std::move(store)));
}

std::shared_ptr<const ImageFile> ImageFile::open(const std::string& path) {
  auto file = std::make_shared<const Fd>(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  struct stat status {};
  if (!*file || fstat(file->get(), &status) != 0) cannot_read(path);
  const auto bytes = static_cast<uint64_t>(status.st_size);
  const Bytes start = read_range(*file, 0, std::min<uint64_t>(bytes, sizeof(ImageHeader)), path);
  const uint64_t front_bytes = image_front_bytes(start);
  Bytes front = read_range(*file, 0, std::min(bytes, front_bytes), path);
  const Image image = parse_image_front(front);
  const bool is_snapshot = image.header.mode == static_cast<uint32_t>(StartMode::kSnapshot);
  // What is mapped is looked at when it is used: a missing end would be found only there.
  if (!is_snapshot || bytes != image.file_bytes()) return from_bytes(read_range(*file, 0, bytes, path));
  return std::shared_ptr<const ImageFile>(new ImageFile(std::move(front), std::move(file)));
}

Bytes ImageFile::whole() const {
  if (store_) {
    if (store_->missing() > 0)
      throw Failure("ERR_LOCKSTEP_NOT_ARRIVED", "the image is still on its way",
                    "wait until it is whole, or keep it in the log by its hash");
    Bytes file(image_.file_bytes());
    store_->read(0, file);
    return file;
  }
  if (!content_) return bytes_;
  Bytes file = read_range(*content_, 0, image_.file_bytes(), "the snapshot");
  parse_image(file);
  return file;
}

std::unique_ptr<MemorySource> ImageFile::make_source() const {
  return content_ ? make_image_map(image_, content_) : make_image_copy(image_);
}

}  // namespace lockstep
