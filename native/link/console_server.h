// The server side of a pair's console: one client at a time, bytes with offsets both ways (README.md).
//
// A side that is not live accepts its client, reads its HELLO and keeps it waiting, so that going live costs
// no connect. Knows nothing of links and fences; everything here runs under the pair's mutex.
#pragma once

#include <poll.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "link/connection.h"
#include "link/console_message.h"
#include "link/output_ledger.h"
#include "link/socket.h"
#include "replay/inbox.h"

namespace lockstep {

class ConsoleServer {
 public:
  // Input from the client goes to the inbox as `input_kind`: data of channel 0, or bytes for a 16550.
  ConsoleServer(const std::string& address, const Security& security, std::string pair_id,
                OutputLedger& ledger, Inbox& inbox, InputKind input_kind);
  const std::string& address() const { return listener_->address(); }

  // ---- The poll loop.
  void add_to(std::vector<pollfd>* fds) const;
  void serve(std::span<const pollfd> fds);
  struct Changes {
    bool connected = false, lost = false;
    std::string why;  // of the loss, or empty
  };
  Changes take_changes();

  // ---- What the pair tells it.
  // Output may leave from now on. `input_bytes` of input, and its end when `input_ended`, are in the log.
  void go_live(uint64_t generation, uint64_t input_bytes, bool input_ended);
  void set_generation(uint64_t generation) { generation_ = generation; }
  // Sends what is committed, as far as the client takes it. True when the loop must wait for it to take more.
  bool pump();
  // Input is logged and safe up to here.
  void input_committed(uint64_t bytes, bool eof);
  // The machine ended: the client hears of it behind the last output.
  void end(const End& end);
  // Ends every conversation and listens no more.
  void close();

  bool first_output_sent() const { return output_sent_; }  // since going live (or since the mark was cleared)
  void clear_first_output() { output_sent_ = false; }
  bool has_client() const { return client_ != nullptr; }
  // A client has been here, if not now.
  bool had_client() const { return had_client_; }
  // The client has all output, was told of the end, and has hung up, as README.md asks it to.
  bool delivered_end() const { return end_delivered_; }

  static constexpr uint8_t kChannels[] = {0, 1, 4};  // stdout, stderr, 16550

 private:
  static bool is_console_channel(uint8_t channel) { return channel == 0 || channel == 1 || channel == 4; }
  struct Client {
    explicit Client(std::unique_ptr<Stream> stream) : connection(std::move(stream)) {}
    Connection connection;
    bool welcomed = false, end_sent = false;
    uint64_t input_base = 0;  // input that had come before its WELCOME
    std::array<uint64_t, kOutputChannels> sent{};
    std::array<uint64_t, kOutputChannels> acked{};  // may be ahead: received from the side before us
    uint64_t arrived(uint8_t channel) const { return std::min(acked[channel], sent[channel]); }
  };
  bool greet();       // the newcomer's HELLO; false: send it away
  bool understand();  // the client's messages; false: it broke off
  void handle(const ConsoleMessage& message);
  void take_input(const console_message::Input& input);
  void take_input_end(uint64_t offset);
  void welcome();
  void lose_client(const std::string& why);
  void send(const ConsoleMessage& message);
  void send_away(Client& client, const std::string& code, const std::string& text);

  std::unique_ptr<Listener> listener_;
  const std::string pair_id_;
  OutputLedger& ledger_;
  Inbox& inbox_;
  const InputKind input_kind_;
  std::unique_ptr<Client> client_;    // said HELLO
  std::unique_ptr<Client> newcomer_;  // did not yet
  Changes changes_;
  bool live_ = false, output_sent_ = false, end_delivered_ = false, had_client_ = false;
  uint64_t generation_ = 0;
  uint64_t input_taken_ = 0, input_acked_ = 0;  // pushed to the inbox / safe in the log
  bool eof_taken_ = false, eof_acked_ = false;
  std::optional<End> end_;
};

}  // namespace lockstep
