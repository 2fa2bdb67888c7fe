#include "link/console_server.h"

#include <utility>

#include "error.h"

namespace lockstep {

using namespace console_message;

namespace {
[[noreturn]] void broke(const std::string& what) {
  throw Failure("ERR_LOCKSTEP_CONSOLE_PROTOCOL", "The console client broke the protocol: " + what);
}
}  // namespace

ConsoleServer::ConsoleServer(const std::string& address, const Security& security, std::string pair_id,
                             OutputLedger& ledger, Inbox& inbox, InputKind input_kind)
    : listener_(std::make_unique<Listener>(address, security, TlsPeer::kAnyone)),
      pair_id_(std::move(pair_id)),
      ledger_(ledger),
      inbox_(inbox),
      input_kind_(input_kind) {}

void ConsoleServer::add_to(std::vector<pollfd>* fds) const {
  if (listener_) fds->push_back({listener_->fd(), POLLIN, 0});
  for (const auto* c : {&client_, &newcomer_}) {
    if (!*c) continue;
    const Connection& connection = (*c)->connection;
    fds->push_back(
        {connection.fd(), static_cast<short>(POLLIN | (connection.unsent() > 0 ? POLLOUT : 0)), 0});
  }
}

void ConsoleServer::serve(std::span<const pollfd> fds) {
  for (const pollfd& p : fds) {
    if (p.revents == 0) continue;
    if (client_ && p.fd == client_->connection.fd()) {
      if (p.revents & POLLOUT) {
        client_->connection.flush();
        pump();
      }
      if ((p.revents & ~POLLOUT) && !understand()) lose_client({});
    } else if (newcomer_ && p.fd == newcomer_->connection.fd()) {
      if (!greet()) newcomer_.reset();
    } else if (listener_ && p.fd == listener_->fd()) {
      // Whoever connects without saying HELLO gives way to the next, and never costs us the client we have.
      if (auto stream = listener_->accept()) newcomer_ = std::make_unique<Client>(std::move(stream));
    }
  }
}

ConsoleServer::Changes ConsoleServer::take_changes() { return std::exchange(changes_, {}); }

bool ConsoleServer::greet() {
  Client& client = *newcomer_;
  if (client.connection.fill() == Connection::Fill::kClosed) return false;
  ConsoleMessage message;
  try {
    size_t used = parse_console(client.connection.unread(), &message);
    if (used == 0) return true;
    client.connection.consume(used);
  } catch (const Failure& failure) {
    send_away(client, failure.code, failure.what());
    return false;
  }
  const Hello* hello = std::get_if<Hello>(&message);
  if (hello == nullptr) {
    send_away(client, "ERR_LOCKSTEP_CONSOLE_PROTOCOL", "The first message must be HELLO.");
    return false;
  }
  if (hello->version != kConsoleVersion) {
    send_away(client, "ERR_LOCKSTEP_CONSOLE_VERSION",
              "This console speaks version " + std::to_string(kConsoleVersion) + " of the protocol.");
    return false;
  }
  if (!hello->pair_id.empty() && hello->pair_id != pair_id_) {
    send_away(client, "ERR_LOCKSTEP_OTHER_PAIR", "Another pair's console is at this address now.");
    return false;
  }
  if (client_) {
    send_away(*client_, "ERR_LOCKSTEP_CONSOLE_REPLACED", "Another client took over this console.");
    lose_client("A newer client replaced it.");
  }
  client_ = std::move(newcomer_);
  changes_.connected = true;
  had_client_ = true;
  if (live_) welcome();
  // What it sent behind its HELLO is in its buffer already, and no poll will tell.
  if (!understand()) lose_client({});
  return true;
}

void ConsoleServer::welcome() {
  Welcome m{kConsoleVersion, pair_id_, generation_, input_taken_, eof_taken_, kConsoleInputWindow, {}};
  // Output starts again from what was acknowledged, not from what the client says it has: it compares the
  // repeats, and so a side that would contradict what was seen before is found out.
  for (uint8_t channel : kChannels) {
    client_->sent[channel] = ledger_.start(channel);
    m.output_start.push_back({channel, ledger_.start(channel)});
  }
  client_->input_base = input_taken_;
  client_->welcomed = true;
  client_->end_sent = false;
  send(m);
  send(InputAck{input_acked_, eof_acked_});
  pump();
}

bool ConsoleServer::understand() {
  try {
    // One read each time round, so that a client that never stops talking cannot keep the loop from its peer.
    ConsoleMessage message;
    for (bool filled = false;; filled = true) {
      while (size_t used = parse_console(client_->connection.unread(), &message)) {
        handle(message);
        client_->connection.consume(used);
      }
      if (filled) return true;
      if (client_->connection.fill() == Connection::Fill::kClosed) return false;
    }
  } catch (const Failure& failure) {
    send_away(*client_, failure.code, failure.what());
    changes_.why = failure.what();
    return false;
  }
}

void ConsoleServer::handle(const ConsoleMessage& message) {
  // A client that waits for a side to go live has nothing to say to it yet.
  if (!client_->welcomed) broke("it spoke before WELCOME.");
  if (const auto* ack = std::get_if<OutputAck>(&message)) {
    if (!is_console_channel(ack->channel)) broke("it acknowledged a channel that it does not get.");
    // After a takeover a client has more than we have made again so far. We send that all the same, for it to
    // compare, and let go of it then.
    uint64_t& acked = client_->acked[ack->channel];
    acked = std::max(acked, ack->offset);
    ledger_.drop(ack->channel, client_->arrived(ack->channel));
  } else if (const auto* input = std::get_if<console_message::Input>(&message)) {
    take_input(*input);
  } else if (const auto* eof = std::get_if<InputEof>(&message)) {
    take_input_end(eof->offset);
  } else if (const auto* signal = std::get_if<Signal>(&message)) {
    if (signal->number < 1 || signal->number > 31) broke("a signal that does not exist.");
    inbox_.push({InputKind::kSignal, 0, {signal->number}});
  } else if (const auto* window = std::get_if<Window>(&message)) {
    uint16_t r = window->rows, c = window->columns;
    inbox_.push({InputKind::kWindow,
                 0,
                 {static_cast<uint8_t>(r), static_cast<uint8_t>(r >> 8), static_cast<uint8_t>(c),
                  static_cast<uint8_t>(c >> 8)}});
  } else {
    broke("a message that only a server sends, or a second HELLO.");
  }
}

void ConsoleServer::take_input(const console_message::Input& input) {
  if (input.offset > UINT64_MAX - input.bytes.size()) broke("an input offset out of range.");
  uint64_t end = input.offset + input.bytes.size();
  if (input.offset > input_taken_) {
    broke("input from byte " + std::to_string(input.offset) + ", but byte " + std::to_string(input_taken_) +
          " is next.");
  }
  if (end <= input_taken_) return;
  if (eof_taken_) broke("input after the end of input.");
  // The bound that makes it safe never to stop reading from a client: its acknowledgements of output come the
  // same way, and a guest that waits for them takes no input.
  // A client that follows another begins behind what that one sent, acknowledged or not.
  if (end > std::max(input_acked_, client_->input_base) + kConsoleInputWindow)
    broke("more input than the window allows.");
  // One client after the other could otherwise fill memory while the guest takes nothing.
  if (end > input_acked_ + Inbox::kBytesMax) broke("more input waits already than the guest takes.");
  auto fresh = input.bytes.subspan(static_cast<size_t>(input_taken_ - input.offset));
  inbox_.push({input_kind_, 0, Bytes(fresh.begin(), fresh.end())});
  input_taken_ = end;
}

void ConsoleServer::take_input_end(uint64_t offset) {
  if (offset != input_taken_) broke("the end of input is not where the input ends.");
  if (eof_taken_) return;
  eof_taken_ = true;
  inbox_.push({InputKind::kEof, 0, {}});
}

void ConsoleServer::go_live(uint64_t generation, uint64_t input_bytes, bool input_ended) {
  live_ = true;
  generation_ = generation;
  input_taken_ = input_acked_ = input_bytes;
  eof_taken_ = eof_acked_ = input_ended;
  if (client_) welcome();
}

bool ConsoleServer::pump() {
  if (!live_ || !client_ || !client_->welcomed) return false;
  Client& client = *client_;
  for (uint8_t channel : kChannels) {
    for (;;) {
      // What the client does not take stays in the ledger, where it is bounded.
      if (client.connection.unsent() > 0) return true;
      // A reader that fell behind what another has acknowledged meanwhile goes on from there.
      client.sent[channel] = std::max(client.sent[channel], ledger_.start(channel));
      auto bytes = ledger_.ready(channel, client.sent[channel], kConsoleChunk);
      if (bytes.empty()) break;
      client.connection.send(output_head(channel, client.sent[channel], bytes.size()), bytes,
                             generation_ > 1 ? "live-output" : "output");
      client.sent[channel] += bytes.size();
      ledger_.drop(channel, client.arrived(channel));
      output_sent_ = true;
    }
  }
  if (end_ && !client.end_sent && ledger_.all_committed()) {
    Ended m{static_cast<uint8_t>(end_->reason), end_->status, {}};
    for (uint8_t channel : kChannels) m.totals.push_back({channel, ledger_.end(channel)});
    client.end_sent = true;
    send(m);
  }
  return client.connection.unsent() > 0;
}

void ConsoleServer::input_committed(uint64_t bytes, bool eof) {
  if (bytes <= input_acked_ && (!eof || eof_acked_)) return;
  input_acked_ = std::max(input_acked_, bytes);
  eof_acked_ = eof_acked_ || eof;
  // Input may also come from elsewhere than the client; then its offsets move on without it.
  input_taken_ = std::max(input_taken_, input_acked_);
  eof_taken_ = eof_taken_ || eof_acked_;
  if (live_ && client_ && client_->welcomed) send(InputAck{input_acked_, eof_acked_});
}

void ConsoleServer::end(const End& end) {
  end_ = end;
  pump();
}

void ConsoleServer::close() {
  if (client_) lose_client({});
  newcomer_.reset();
  listener_.reset();
  live_ = false;
}

void ConsoleServer::lose_client(const std::string& why) {
  if (client_->end_sent && ledger_.held() == 0) end_delivered_ = true;
  client_.reset();
  changes_.lost = true;
  if (!why.empty()) changes_.why = why;
}

void ConsoleServer::send(const ConsoleMessage& message) { client_->connection.send(encode_console(message)); }

void ConsoleServer::send_away(Client& client, const std::string& code, const std::string& text) {
  client.connection.send(encode_console(Error{code, text}));
}

}  // namespace lockstep
