// The link as its two sides see it: messages in order, each once, over one connection or several after each
// other. What is below, a connection that was reset and made anew, they need not know.
//
//   begin               handed              end
//     |------ kept -------|---- waits --------|
//   the peer has all    given to the      all that was sent
//   before              connection
//
// Positions count bytes of messages since the link began. A peer says how many it has taken, in its
// acknowledgements and heartbeats and when a connection was made anew: from there on they are sent again.
// What a connection had brought but nobody had taken yet goes with it.
//
// What has to wait, because the connection takes no more, is compressed when its turn comes, as one piece
// after another (Packing::kWaiting): that makes a slow link a faster one, and costs nothing where it is not
// slow. A machine whose clients wait for what its shadow acknowledges may never have more on its way than the
// queues of a slow path hold; so while those are seen to fill, all is compressed. Positions count bytes
// before compression.
//
// As with a connection, the write side belongs to whoever holds the owner's mutex, the read side to one
// thread.
#pragma once

#include <memory>
#include <optional>
#include <span>

#include "link/connection.h"
#include "link/link_message.h"
#include "link/packer.h"

namespace lockstep {

enum class Packing : uint8_t { kNever, kWaiting, kAlways };

class LinkStream {
 public:
  // `keeps`: it may outlast its connection. Else bytes are handed on and forgotten.
  LinkStream(std::unique_ptr<Connection> connection, bool keeps, Packing packing = Packing::kNever);
  bool keeps() const { return keeps_; }
  bool is_parted() const { return !connection_; }
  int fd() const { return connection_ ? connection_->fd() : -1; }
  const std::string& identity() const { return identity_; }

  void send(std::span<const uint8_t> message);
  // As Connection's.
  void send(std::span<const uint8_t> head, std::span<const uint8_t> body, const char* place);
  void flush();
  size_t unsent() const;
  // Whether the path was found to be slow, at this moment; it counts as slow for a while.
  void path_is_slow(bool slow, uint64_t now_us);

  Connection::Fill fill() { return connection_->fill(); }
  bool was_reset() const { return connection_ && connection_->was_reset(); }
  // The next whole message, which then counts as taken; spans in it live until the next call.
  bool next(LinkMessage* message);
  uint64_t taken() const { return taken_; }

  // The peer has taken so much, as it says itself.
  void peer_took(uint64_t bytes);
  // Hangs up; what is sent from now on waits for another connection.
  void part();
  bool can_resume(uint64_t peer_took) const { return keeps_ && peer_took >= begin_ && peer_took <= handed_; }
  // Goes on with this one, behind what the peer has taken.
  void resume(std::unique_ptr<Connection> connection, uint64_t peer_took);

 private:
  // What the peer has not confirmed for so long that this much has gathered will not be sent again.
  static constexpr size_t kKeptBytesMax = 64u << 20;
  // Less than this is not worth compressing.
  static constexpr size_t kPackBytesMin = 256;
  // Compression is what empties the queues: without it they would fill again at once.
  static constexpr uint64_t kSlowUs = 2'000'000;
  bool append(std::span<const uint8_t> head, std::span<const uint8_t> body);
  std::span<const uint8_t> waiting() const;
  void hand(size_t bytes);
  void hand_piece();
  void begin_connection();
  void forget(uint64_t before);

  const bool keeps_;
  const Packing packing_;
  uint64_t slow_until_us_ = 0;
  bool packs_all_;
  const std::string identity_;
  std::unique_ptr<Connection> connection_;
  Bytes kept_;          // from begin_ - skipped_: forgotten bytes are cut off lazily
  size_t skipped_ = 0;  // of kept_
  uint64_t begin_ = 0, handed_ = 0;
  bool cuts_message_ = false;  // the last piece did, perhaps: what follows belongs behind it
  std::optional<Packer> packer_;
  uint64_t taken_ = 0;
  size_t used_ = 0;  // by the message that was handed out last, of unpacked_ or of the connection's
  bool used_unpacked_ = false;
  std::optional<Unpacker> unpacker_;
  Bytes unpacked_;
  size_t unpacked_start_ = 0;
};

}  // namespace lockstep
