// By rtnetlink: sysfs shows the network namespace that it was mounted in, which need not be ours.
#include "net/bridge_port.h"

#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cstring>

#include "kvm/system.h"

namespace lockstep {

void let_bridge_port_learn_nothing(int interface_index) {
  struct {
    nlmsghdr head;
    ifinfomsg link;
    rtattr port;
    rtattr learning;
    uint8_t learns[NLMSG_ALIGNTO];
  } message{};
  message.head = {sizeof message, RTM_SETLINK, NLM_F_REQUEST, 0, 0};
  message.link.ifi_family = AF_BRIDGE;
  message.link.ifi_index = interface_index;
  message.port = {
      static_cast<uint16_t>(sizeof message.port + sizeof message.learning + sizeof message.learns),
      IFLA_PROTINFO | NLA_F_NESTED};
  message.learning = {static_cast<uint16_t>(sizeof message.learning + 1), IFLA_BRPORT_LEARNING};
  Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (socket) [[maybe_unused]]
    const ssize_t sent = send(socket.get(), &message, sizeof message, 0);
}

// An entry is removed by who names its port: so the bridge is asked first.
void let_bridge_forget(int interface_index, const std::array<uint8_t, 6>& address) {
  struct {
    nlmsghdr head;
    ndmsg entry;
    rtattr kind;
    uint8_t address[8];
  } message{};
  message.head = {sizeof message, RTM_GETNEIGH, NLM_F_REQUEST, 0, 0};
  message.entry.ndm_family = AF_BRIDGE;
  message.entry.ndm_ifindex = interface_index;
  message.entry.ndm_flags = NTF_MASTER;
  message.kind = {static_cast<uint16_t>(sizeof message.kind + address.size()), NDA_LLADDR};
  std::memcpy(message.address, address.data(), address.size());
  struct {
    nlmsghdr head;
    ndmsg entry;
    uint8_t rest[1024];
  } answer{};
  Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket || send(socket.get(), &message, sizeof message, 0) < 0) return;
  const ssize_t got = recv(socket.get(), &answer, sizeof answer, MSG_DONTWAIT);  // given while it was sent
  if (got < static_cast<ssize_t>(sizeof answer.head + sizeof answer.entry)) return;
  if (answer.head.nlmsg_type != RTM_NEWNEIGH) return;
  message.head.nlmsg_type = RTM_DELNEIGH;
  message.entry.ndm_ifindex = answer.entry.ndm_ifindex;
  [[maybe_unused]] const ssize_t sent = send(socket.get(), &message, sizeof message, 0);
}

}  // namespace lockstep
