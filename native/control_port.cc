#include "control_port.h"

#include <cerrno>
#include <cstring>

#include "guest/abi.h"

namespace lockstep {

namespace {
struct ReplyHeader {
  uint32_t id;
  int32_t status;
  uint64_t bytes;
};
}  // namespace

constexpr size_t kPathMax = 4000;

void ControlPort::request(uint8_t op, const std::string& path, Reply reply) {
  std::unique_lock lock(mutex_);
  if (over_ || path.size() > kPathMax) {
    bool over = over_;
    lock.unlock();
    return reply(over ? -ESHUTDOWN : -ENAMETOOLONG, {});
  }
  uint32_t id = next_id_++;
  Bytes bytes(8 + path.size());
  std::memcpy(bytes.data(), &id, 4);
  bytes[4] = op;
  std::memcpy(bytes.data() + 8, path.data(), path.size());
  open_.push_back({id, std::move(bytes), std::move(reply)});
  if (open_.size() == 1) send_first();
}

void ControlPort::send_first() { inbox_.push({InputKind::kData, LS_CH_CONTROL, open_.front().bytes}); }

void ControlPort::deliver(std::span<const uint8_t> bytes) {
  std::unique_lock lock(mutex_);
  received_.insert(received_.end(), bytes.begin(), bytes.end());
  ReplyHeader header;
  while (received_.size() >= sizeof header) {
    std::memcpy(&header, received_.data(), sizeof header);
    if (header.bytes > received_.size() - sizeof header) return;
    auto first = received_.begin() + sizeof header, last = first + static_cast<ptrdiff_t>(header.bytes);
    Bytes body(first, last);
    received_.erase(received_.begin(), last);
    // An answer to what was asked by another side before a takeover belongs to nobody.
    if (open_.empty() || open_.front().id != header.id) continue;
    Reply reply = std::move(open_.front().reply);
    open_.pop_front();
    if (!open_.empty()) send_first();
    lock.unlock();
    reply(header.status, std::move(body));
    lock.lock();
  }
}

void ControlPort::abandon() {
  std::deque<Request> open;
  {
    std::lock_guard lock(mutex_);
    over_ = true;
    open.swap(open_);
  }
  for (Request& request : open) request.reply(-ESHUTDOWN, {});
}

}  // namespace lockstep
