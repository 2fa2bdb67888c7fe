#include "device/board.h"

namespace lockstep {

namespace {
constexpr uint64_t all_ones(uint8_t size) { return size >= 8 ? ~0ull : (1ull << (8 * size)) - 1; }
template <typename D>
bool owns(uint64_t port) {
  return port >= D::kPort && port < D::kPort + D::kPorts;
}
}  // namespace

Board::Board(Sink& sink, GuestMemory& memory, const CpuModel& model, std::span<const uint8_t, 32> seed,
             bool has_exchange, const std::optional<VirtioNetConfig>& net)
    : sink_(sink),
      has_exchange_(has_exchange),
      clock_(sink),
      random_(seed),
      serial_(sink),
      power_(sink),
      exchange_(sink, memory, random_),
      traps_(model, clock_, random_) {
  if (net) net_.emplace(sink, memory, *net);
}

Device* Board::find(const Access& access) {
  if (access.space == Space::kMmio) return net_ && net_->owns(access.address) ? &*net_ : nullptr;
  if (access.space != Space::kPort) return nullptr;
  uint64_t port = access.address;
  if (has_exchange_) return port >= LS_PORT_EXCHANGE && port <= LS_PORT_RANDOM ? &exchange_ : nullptr;
  if (owns<Serial>(port)) return &serial_;
  if (owns<Clock>(port)) return &clock_;
  if (owns<Random>(port)) return &random_;
  if (owns<Power>(port)) return &power_;
  return nullptr;
}

void Board::write(const Access& access) {
  Device* device = find(access);
  // The exit that the guest kernel makes anyway serves its network card too, its last one included.
  if (net_ && device == &exchange_) net_->transmit();
  if (device) device->write(access);
}

// An address where nothing is reads as all ones, as on a real bus.
uint64_t Board::read(const Access& access) {
  Device* device = find(access);
  return device ? device->read(access) & all_ones(access.size) : all_ones(access.size);
}

Want Board::want(const Access& access) {
  Want want;
  if (Device* device = find(access)) want = device->want(access);
  if (net_ && (!has_exchange_ || (access.space == Space::kPort && access.address == LS_PORT_EXCHANGE)))
    want.packets = net_->room();
  if (access.space == Space::kPort && Traps::is_trap(access.address))
    want.time = Traps::wants_time(access.address);
  if (access.space == Space::kHalt) {
    want.wait = true;
    want.deadline_us = clock_.deadline_us();
  }
  if (!has_exchange_) {
    want.bare = true;
    want.serial = serial_.room();
    want.time = want.time || clock_.armed();
  }
  return want;
}

void Board::apply(const Event& event) {
  if (event.time_us) {
    clock_.time(*event.time_us);
    if (has_exchange_) exchange_.time(*event.time_us);
  }
  for (const Input& input : event.inputs) {
    if (input.kind == InputKind::kInterrupt) {
      if (!has_exchange_ && !input.bytes.empty())
        sink_.raise(input.bytes[0]);  // our kernel has no use for one
    } else if (input.kind == InputKind::kPacket) {
      if (net_) net_->input(input);
    } else if (has_exchange_) {
      exchange_.input(input);
    } else {
      serial_.input(input);
    }
  }
}

Bytes Board::save() const {
  StateWriter out;
  clock_.save(out);
  random_.save(out);
  serial_.save(out);
  exchange_.save(out);
  traps_.save(out);
  if (net_) net_->save(out);
  return out.bytes();
}

void Board::restore(std::span<const uint8_t> state) {
  StateReader in(state);
  clock_.restore(in);
  random_.restore(in);
  serial_.restore(in);
  exchange_.restore(in);
  traps_.restore(in);
  if (net_) net_->restore(in);
  in.check_end();
}

}  // namespace lockstep
