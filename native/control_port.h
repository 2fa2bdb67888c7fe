// Requests to the running guest (guest/abi.h, LS_CH_CONTROL): sent as logged input, answered as output.
#pragma once

#include <deque>
#include <functional>
#include <mutex>
#include <span>
#include <string>

#include "replay/inbox.h"

namespace lockstep {

class ControlPort {
 public:
  // status: 0 or a negative errno. Called on the vCPU thread, or on the thread that calls abandon().
  using Reply = std::function<void(int32_t status, Bytes bytes)>;
  explicit ControlPort(Inbox& inbox);
  void request(uint8_t op, const std::string& path, Reply reply);
  // What the guest said. Before this side is `live` it answers another's requests.
  void deliver(std::span<const uint8_t> bytes, bool live);
  // The machine is over: every open request fails with ESHUTDOWN.
  void abandon();

 private:
  Inbox& inbox_;
  std::mutex mutex_;
  uint32_t next_id_;
  bool over_ = false;
  // One at a time: the guest takes one whole request from an input.
  struct Request {
    uint32_t id;
    Bytes bytes;
    Reply reply;
  };
  void send_first();
  std::deque<Request> open_;
  Bytes received_;
  uint64_t skip_ = 0;  // bytes of an answer that nobody waits for
};

}  // namespace lockstep
