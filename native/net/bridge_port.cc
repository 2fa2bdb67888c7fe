// By rtnetlink: sysfs shows the network namespace that it was mounted in, which need not be ours.
#include "net/bridge_port.h"

#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cstdint>

#include "kvm/system.h"

namespace lockstep {

void let_bridge_port_learn(int interface_index, bool learns) {
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
  message.learns[0] = learns ? 1 : 0;
  message.learning = {static_cast<uint16_t>(sizeof message.learning + 1), IFLA_BRPORT_LEARNING};
  Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (socket) [[maybe_unused]]
    const ssize_t sent = send(socket.get(), &message, sizeof message, 0);
}

}  // namespace lockstep
