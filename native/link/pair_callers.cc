// Who connects to a live side: a new shadow, its own that lost the connection, or anybody else. Nobody of
// them is in the way of the link there is until it has said what it wants.
#include <utility>

#include "error.h"
#include "link/pair_impl.h"

namespace lockstep {

using namespace link_message;

namespace {
constexpr size_t kCallersMax = 8;  // at once; the oldest gives way
constexpr uint64_t kCallerUs = 5'000'000;
constexpr size_t kFirstWordBytesMax = 1024;
}  // namespace

void PairImpl::accept_link() {
  while (auto stream = link_listener_->accept()) {
    if (callers_.size() == kCallersMax) callers_.pop_front();
    callers_.push_back({std::make_unique<Connection>(std::move(stream)), now_us() + kCallerUs});
  }
}

void PairImpl::hear_callers(std::span<const pollfd> fds) {
  const uint64_t now = now_us();
  for (size_t i = fds.size(); i-- > 0;) {
    const bool speaks = fds[i].revents != 0 || may_greet(callers_[i]);
    const bool is_done = speaks ? hear(callers_[i]) : now >= callers_[i].until_us;
    if (is_done) callers_.erase(callers_.begin() + static_cast<ptrdiff_t>(i));
  }
}

// Whether it is a caller no more.
bool PairImpl::hear(Caller& caller) {
  const auto filled = caller.connection->fill();
  try {
    LinkMessage message;
    const size_t used = parse_link(caller.connection->unread(), &message);
    if (used == 0)
      return filled == Connection::Fill::kClosed || caller.connection->unread().size() > kFirstWordBytesMax;
    const auto* hello = std::get_if<Hello>(&message);
    if (hello && hello->shadow_id == shadow_id_ && hello->number <= call_number_) return true;
    // One that had not even the header cannot come back, but begins anew.
    if (hello && awaits_shadow() && link_->taken() == 0 && hello->shadow_id == shadow_id_)
      lose_link("The shadow begins anew.");
    caller.waits = hello && awaits_shadow() && filled != Connection::Fill::kClosed;
    if (caller.waits) return false;
    caller.connection->consume(used);
    if (hello) {
      greet_shadow(std::move(caller.connection), *hello);
    } else if (const auto* resume = std::get_if<Resume>(&message)) {
      take_back(std::move(caller.connection), *resume);
    } else if (const auto* witness = std::get_if<Witness>(&message)) {
      take_witness(std::move(caller.connection), *witness);
    }
  } catch (const Failure& failure) {
    if (caller.connection) caller.connection->send(encode_link(Refused{failure.what()}));
  }
  return true;
}

const char* PairImpl::reason_to_refuse() const {
  if (link_) return "This pair has its shadow already.";
  if (fence_.phase != FencePhase::kSolo && fence_.phase != FencePhase::kWon)
    return "This pair takes no shadow now.";
  if (started_ && memory_ == nullptr)
    return "The machine is just starting, or its image is still on its way; try again.";
  return nullptr;
}

void PairImpl::greet_shadow(std::unique_ptr<Connection> connection, const Hello& hello) {
  if (const char* why = reason_to_refuse()) {
    connection->send(encode_link(Refused{why}));
    return;
  }
  shadow_id_ = hello.shadow_id;
  call_number_ = hello.number;
  connection->send(encode_link(Header{options_.pair_id, fence_.generation, header_.size(), started_}));
  for (size_t at = 0; at < header_.size(); at += kHeaderDataBytesMax) {
    size_t bytes = std::min(kHeaderDataBytesMax, header_.size() - at);
    connection->send(encode_link(HeaderData{{header_.data() + at, bytes}}));
  }
  link_ = make_link(std::move(connection));
  if (started_) {
    join_ = Join::kBegins;
    join_began_us_ = now_us();
    rounds_ = 0;
  } else {
    joined_ = true;
    lag_.restart(log_bytes_, now_us());
  }
  heartbeat_at_us_ = 0;
  watch_afresh();
  note(PairNotice::kConnected, started_ ? "A shadow joins the running machine." : "A shadow joined.");
}

}  // namespace lockstep
