#include "machine_options.h"

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

}  // namespace

std::string MachineOptions::serialise() const {
  std::map<std::string, std::string> lines{{"columns", std::to_string(columns)},
                                           {"cpu_model", cpu_model},
                                           {"digest_every", std::to_string(digest_every)},
                                           {"fixed_time_us", std::to_string(fixed_time_us)},
                                           {"host", host},
                                           {"memory_bytes", std::to_string(memory_bytes)},
                                           {"rows", std::to_string(rows)},
                                           {"seed", to_hex(seed)},
                                           {"tty_flags", std::to_string(tty_flags)}};
  std::string text;
  for (const auto& [key, value] : lines) text += key + "=" + value + "\n";
  return text;
}

MachineOptions MachineOptions::parse(const std::string& text) {
  std::map<std::string, std::string> lines;
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
    const std::string& seed = lines.at("seed");
    for (size_t i = 0; i < options.seed.size(); i++)
      options.seed[i] = std::stoul(seed.substr(2 * i, 2), nullptr, 16);
    return options;
  } catch (const std::exception&) {
    throw Failure("ERR_LOCKSTEP_LOG_DAMAGED", "the log's machine options are not readable");
  }
}

}  // namespace lockstep
