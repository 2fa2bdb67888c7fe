// A primary that keeps to the form of each message and to no order: its shadow gives it up and waits for
// nothing. What else a peer could send is left to fuzz_peer.cc.
#include <poll.h>

#include <future>
#include <optional>

#include "link/connection.h"
#include "link/link_message.h"
#include "link/pair.h"
#include "log/frame.h"
#include "test/check.h"

namespace lockstep::test {
namespace {

using namespace link_message;

class HostilePrimary {
 public:
  explicit HostilePrimary(bool is_running) : is_running_(is_running) {}

  // Whether a shadow that hears this takes a state, or anything to replay; nothing, when it waits for ever.
  std::optional<bool> is_followed(const LinkMessage& message) {
    auto said = std::async(std::launch::async, [&] { say(message); });
    PairOptions options;
    options.link_address = listener_.address();
    options.console_address = "tcp:127.0.0.1:0";
    options.arbiter = make_memory_arbiter("hostile");
    Inbox inbox;
    Bytes header;
    auto pair = Pair::shadow(
        options, inbox, [](const PairEvent&) {}, [](std::span<const uint8_t>) {}, 5000, &header);
    auto taken = std::async(std::launch::async, [&] {
      LogStart start;
      if (is_running_) return pair->receive_state([](std::span<const uint8_t>) {}, &start);
      Record record;
      said.wait();
      return pair->next(&record) != RecordSource::Next::kStopped;
    });
    const bool waits = taken.wait_for(std::chrono::seconds(10)) != std::future_status::ready;
    pair->stop();
    const bool result = taken.get();
    return waits ? std::nullopt : std::optional(result);
  }

 private:
  // Hangs up when the shadow has, or after a second.
  void say(const LinkMessage& message) {
    pollfd p{listener_.fd(), POLLIN, 0};
    poll(&p, 1, 5000);
    Connection shadow(listener_.accept());
    shadow.send(encode_link(Header{std::string(32, 'f'), 1, 0, is_running_}));
    shadow.send(encode_link(message));
    p.fd = shadow.fd();
    for (int i = 0; i < 10 && poll(&p, 1, 100) >= 0; i++)
      if (p.revents && shadow.fill() == Connection::Fill::kClosed) return;
  }

  Listener listener_{"tcp:127.0.0.1:0"};
  const bool is_running_;
};

TEST(a_primary_that_speaks_too_early_is_given_up) {
  Event event;
  event.lsn = 1;
  FrameEncoder encoder;
  encoder.append(event);
  const Bytes frame = encoder.take();
  for (const LinkMessage& message : std::initializer_list<LinkMessage>{
           Ended{0, 0}, Armed{2}, Frame{frame}, ProgressTo{{1, 1}}, HandOver{}, Released{0, 1}}) {
    CHECK(HostilePrimary(true).is_followed(message) == std::optional(false));
  }
  CHECK(HostilePrimary(false).is_followed(Armed{2}) == std::optional(false));
}

}  // namespace
}  // namespace lockstep::test
