#include "machine_options.h"

#include <arpa/inet.h>

#include <cstdio>
#include <map>
#include <sstream>

#include "error.h"

namespace lockstep {

namespace {

std::string to_hex(const std::array<uint8_t, 32>& bytes) {
  static const char digits[] = "0123456789abcdef";
  std::string text;
  for (uint8_t byte : bytes) text += {digits[byte >> 4], digits[byte & 15]};
  return text;
}

std::string address_text(uint32_t address) {
  char text[INET_ADDRSTRLEN];
  return inet_ntop(AF_INET, &address, text, sizeof text);
}

uint32_t parse_address(const std::string& text) {
  uint32_t address;
  if (inet_pton(AF_INET, text.c_str(), &address) != 1) throw std::invalid_argument("address");
  return address;
}

std::string mac_text(const std::array<uint8_t, 6>& m) {
  char text[18];
  std::snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
  return text;
}

using Lines = std::map<std::string, std::string>;

NetOptions parse_net(const Lines& lines) {
  NetOptions net;
  const std::string& mac = lines.at("net_mac");
  for (size_t i = 0; i < net.mac.size(); i++) net.mac[i] = std::stoul(mac.substr(3 * i, 2), nullptr, 16);
  net.ip = parse_address(lines.at("net_ip"));
  net.netmask = parse_address(lines.at("net_netmask"));
  net.gateway = parse_address(lines.at("net_gateway"));
  net.mtu = std::stoul(lines.at("net_mtu"));
  net.dhcp = lines.contains("net_dhcp");
  if (net.mtu > kMtuMax) throw std::out_of_range("mtu");
  return net;
}

}  // namespace

std::string MachineOptions::serialise() const {
  Lines lines{{"columns", std::to_string(columns)},
              {"cpu_model", cpu_model},
              {"digest_every", std::to_string(digest_every)},
              {"fixed_time_us", std::to_string(fixed_time_us)},
              {"host", host},
              {"memory_bytes", std::to_string(memory_bytes)},
              {"rows", std::to_string(rows)},
              {"seed", to_hex(seed)},
              {"tty_flags", std::to_string(tty_flags)}};
  if (net) {
    lines["net_mac"] = mac_text(net->mac);
    lines["net_ip"] = address_text(net->ip);
    lines["net_netmask"] = address_text(net->netmask);
    lines["net_gateway"] = address_text(net->gateway);
    lines["net_mtu"] = std::to_string(net->mtu);
    if (net->dhcp) lines.emplace("net_dhcp", "1");
  }
  std::string text;
  for (const auto& [key, value] : lines) text += key + "=" + value + "\n";
  return text;
}

MachineOptions MachineOptions::parse(const std::string& text) {
  Lines lines;
  std::stringstream stream(text);
  for (std::string line; std::getline(stream, line);)
    if (size_t equals = line.find('='); equals != std::string::npos)
      lines[line.substr(0, equals)] = line.substr(equals + 1);
  try {
    MachineOptions options;
    options.memory_bytes = std::stoull(lines.at("memory_bytes"));
    options.cpu_model = lines.at("cpu_model");
    options.fixed_time_us = std::stoull(lines.at("fixed_time_us"));
    options.digest_every = std::stoull(lines.at("digest_every"));
    options.tty_flags = std::stoul(lines.at("tty_flags"));
    options.rows = std::stoul(lines.at("rows"));
    options.columns = std::stoul(lines.at("columns"));
    options.host = lines.at("host");
    if (lines.contains("net_mac")) options.net = parse_net(lines);
    const std::string& seed = lines.at("seed");
    for (size_t i = 0; i < options.seed.size(); i++)
      options.seed[i] = std::stoul(seed.substr(2 * i, 2), nullptr, 16);
    return options;
  } catch (const std::exception&) {
    throw Failure("ERR_LOCKSTEP_LOG_DAMAGED", "the log's machine options are not readable");
  }
}

}  // namespace lockstep
