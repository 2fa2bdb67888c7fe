#include "device/exchange.h"

#include <algorithm>
#include <cstddef>

namespace lockstep {

namespace {
constexpr uint32_t kOutputMax = 1 << 20, kInputMax = 1 << 20;
constexpr uint64_t field(size_t offset) { return LS_GPA_EXCHANGE + offset; }
}  // namespace

ls_exchange Exchange::page() const {
  ls_exchange page{};
  memory_.load(LS_GPA_EXCHANGE, &page);
  return page;
}

void Exchange::store_channel(uint8_t index, const ls_channel& channel) {
  memory_.store(field(offsetof(ls_exchange, channel) + index * sizeof channel), channel);
}

void Exchange::write(const Access& access) {
  switch (access.address) {
    case LS_PORT_EXCHANGE: take_output(); break;
    case LS_PORT_EXIT:
      take_output();
      end();
      break;
    case LS_PORT_RANDOM: {
      std::array<uint8_t, sizeof(ls_exchange::random)> bytes;
      random_.fill(bytes);
      memory_.write(field(offsetof(ls_exchange, random)), bytes);
      break;
    }
    default: break;
  }
}

void Exchange::take_output() {
  ls_exchange now = page();
  for (uint8_t i = 0; i < LS_CHANNELS; i++) {
    ls_channel& channel = now.channel[i];
    bool changed = channel.out_len || channel.in_len;
    if (channel.out_len) {
      auto bytes = memory_.view(channel.out_gpa, std::min(channel.out_len, kOutputMax));
      if (!bytes.empty()) sink_.output(i, bytes);
    }
    channel.out_len = 0;
    channel.in_len = 0;
    if (changed) store_channel(i, channel);
  }
}

void Exchange::end() {
  ls_exchange now = page();
  now.report[sizeof now.report - 1] = 0;
  EndReason reason = now.exit_kind == LS_EXIT_STATUS   ? EndReason::kExited
                     : now.exit_kind == LS_EXIT_SIGNAL ? EndReason::kSignal
                                                       : EndReason::kPanic;
  sink_.end({0, 0, reason, now.exit_code}, now.report);
}

Want Exchange::want(const Access& access) {
  Want want;
  if (access.address != LS_PORT_EXCHANGE) return want;
  ls_exchange now = page();
  want.wait = now.flags & LS_EX_WAIT;
  want.time = now.flags & (LS_EX_WAIT | LS_EX_TIME);
  // Rounded up: a guest must not wake before its deadline only to wait again.
  if (want.wait && now.deadline_ns != UINT64_MAX)
    want.deadline_us = now.deadline_ns / 1000 + (now.deadline_ns % 1000 != 0);
  want.signals = true;
  for (uint8_t i = 0; i < LS_CHANNELS; i++)
    if (memory_.contains(now.channel[i].in_gpa, now.channel[i].in_cap))
      want.room[i] = std::min(now.channel[i].in_cap, kInputMax);
  return want;
}

void Exchange::input(const Input& input) {
  ls_exchange now = page();
  if (input.channel >= LS_CHANNELS) return;
  ls_channel& channel = now.channel[input.channel];
  switch (input.kind) {
    case InputKind::kData: {
      uint64_t room = channel.in_cap > channel.in_len ? channel.in_cap - channel.in_len : 0;
      auto bytes = std::span(input.bytes).first(std::min<uint64_t>(room, input.bytes.size()));
      if (!memory_.write(channel.in_gpa + channel.in_len, bytes)) return;
      channel.in_len += bytes.size();
      if (input.channel == LS_CH_CONSOLE) input_bytes_ += bytes.size();
      break;
    }
    case InputKind::kEof:
      channel.in_flags |= LS_IN_EOF;
      if (input.channel == LS_CH_CONSOLE) input_ended_ = true;
      break;
    case InputKind::kHangup: channel.out_flags |= LS_OUT_HANGUP; break;
    case InputKind::kSignal:
      if (input.bytes.size() == 1 && input.bytes[0] >= 1 && input.bytes[0] <= 32)
        memory_.store(field(offsetof(ls_exchange, signals)), now.signals | 1u << (input.bytes[0] - 1));
      return;
    case InputKind::kWindow:
      if (input.bytes.size() != 4) return;
      memory_.write(field(offsetof(ls_exchange, rows)), input.bytes);
      memory_.store(field(offsetof(ls_exchange, signals)), now.signals | 1u << 27);  // SIGWINCH
      return;
    default: return;
  }
  store_channel(input.channel, channel);
}

void Exchange::time(uint64_t now_us) {
  uint64_t now_ns = now_us * 1000;
  memory_.store(field(offsetof(ls_exchange, time_ns)), now_ns);
  if (!time_booted_) memory_.store(field(offsetof(ls_exchange, boot_time_ns)), now_ns);
  time_booted_ = true;
}

void Exchange::save(StateWriter& out) const {
  out.put(input_bytes_);
  out.put(input_ended_);
  out.put(time_booted_);
}

void Exchange::restore(StateReader& in) {
  in.get(input_bytes_);
  in.get(input_ended_);
  in.get(time_booted_);
}

}  // namespace lockstep
