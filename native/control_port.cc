#include "control_port.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>

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
constexpr uint64_t kReplyMax = 1 << 30;

// Ids begin anywhere: after a takeover the guest may still answer what the other side asked.
ControlPort::ControlPort(Inbox& inbox) : inbox_(inbox), next_id_(std::random_device()()) {}

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

void ControlPort::deliver(std::span<const uint8_t> bytes, bool live) {
  std::unique_lock lock(mutex_);
  received_.insert(received_.end(), bytes.begin(), bytes.end());
  auto drop = [&](uint64_t n) {
    received_.erase(received_.begin(), received_.begin() + static_cast<ptrdiff_t>(n));
  };
  for (;;) {
    uint64_t skipped = std::min<uint64_t>(skip_, received_.size());
    drop(skipped);
    skip_ -= skipped;
    ReplyHeader header;
    if (skip_ || received_.size() < sizeof header) return;
    std::memcpy(&header, received_.data(), sizeof header);
    bool ours = live && !open_.empty() && open_.front().id == header.id;
    bool too_large = header.bytes > kReplyMax;
    if (ours && !too_large && header.bytes > received_.size() - sizeof header) return;
    drop(sizeof header);
    skip_ = header.bytes;
    if (!ours) continue;
    Bytes body;
    if (!too_large) body.assign(received_.begin(), received_.begin() + static_cast<ptrdiff_t>(header.bytes));
    Reply reply = std::move(open_.front().reply);
    open_.pop_front();
    if (!open_.empty()) send_first();
    lock.unlock();
    reply(too_large ? -EFBIG : header.status, std::move(body));
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
