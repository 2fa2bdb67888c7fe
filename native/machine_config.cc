#include "machine_config.h"

#include <arpa/inet.h>

#include <map>

#include "block_store_object.h"
#include "link/remote_arbiter.h"
#include "link/tls.h"
#include "napi_common.h"

namespace lockstep {

namespace {

// Typed access to a plain object that lib/ has already validated.
class Fields {
 public:
  explicit Fields(Napi::Object object) : object_(object) {}
  bool has(const char* name) const {
    Napi::Value value = object_.Get(name);
    return !value.IsUndefined() && !value.IsNull();
  }
  double number(const char* name, double absent) const {
    return has(name) ? object_.Get(name).As<Napi::Number>().DoubleValue() : absent;
  }
  std::string text(const char* name) const {
    return has(name) ? object_.Get(name).As<Napi::String>().Utf8Value() : std::string();
  }
  bool flag(const char* name) const { return has(name) && object_.Get(name).ToBoolean(); }
  Napi::Value value(const char* name) const { return object_.Get(name); }

 private:
  Napi::Object object_;
};

PairOptions parse_pair(const Fields& fields, MachineConfig* config) {
  PairOptions pair;
  pair.pair_id = fields.text("pairId");
  pair.link_address = fields.text("linkAddress");
  pair.relink_address = fields.text("relinkAddress");
  pair.alone = fields.flag("alone");
  pair.console_address = fields.text("consoleAddress");
  if (fields.has("tls")) {
    Fields tls(fields.value("tls").As<Napi::Object>());
    pair.security.tls = load_tls(tls.text("ca"), tls.text("cert"), tls.text("key"));
  }
  pair.security.plain_anywhere = fields.flag("insecure");
  pair.arbiter = make_arbiter(fields.text("arbiter"));
  pair.heartbeat_ms = fields.number("heartbeatMs", pair.heartbeat_ms);
  pair.silence_ms = fields.number("silenceMs", pair.silence_ms);
  pair.cut_ms = fields.number("cutMs", pair.cut_ms);
  pair.grace_ms = fields.number("graceMs", pair.grace_ms);
  const std::string compress = fields.text("compress");
  if (compress == "always") pair.compress = PairOptions::Compress::kAlways;
  if (compress == "never") pair.compress = PairOptions::Compress::kNever;
  pair.lag_bytes_max = fields.number("lagBytesMax", pair.lag_bytes_max);
  pair.forgets_unread = fields.flag("forgetsUnread");
  pair.drop_ms = fields.number("dropMs", pair.drop_ms);
  pair.output_bytes_max = fields.number("outputBytesMax", pair.output_bytes_max);
  config->connect_ms = fields.number("connectMs", config->connect_ms);
  return pair;
}

NetOptions parse_net(const Fields& fields) {
  NetOptions net;
  Bytes mac = to_bytes(fields.value("mac"));
  std::copy_n(mac.begin(), std::min(mac.size(), net.mac.size()), net.mac.begin());
  // Numbers here, as they are read aloud: 10.0.2.15 is 0x0a00020f.
  net.ip = htonl(static_cast<uint32_t>(fields.number("ip", 0)));
  net.netmask = htonl(static_cast<uint32_t>(fields.number("netmask", 0)));
  net.gateway = htonl(static_cast<uint32_t>(fields.number("gateway", 0)));
  net.mtu = fields.number("mtu", net.mtu);
  net.dhcp = fields.has("dhcp");
  return net;
}

NicConfig parse_nic(const Fields& fields) {
  NicConfig nic;
  if (fields.has("path"))
    nic.kind = NicConfig::Kind::kUnix;
  else if (fields.has("tap"))
    nic.kind = NicConfig::Kind::kTap;
  nic.name = fields.text("tap");
  nic.bridge = fields.text("bridge");
  nic.learned = fields.flag("learned");
  nic.kept = fields.flag("kept");
  nic.path = fields.text("path");
  nic.peer = fields.text("peer");
  return nic;
}

}  // namespace

std::shared_ptr<Arbiter> make_arbiter(const std::string& text) {
  if (text.starts_with("file:")) return make_file_arbiter(text.substr(5));
  if (text.starts_with("memory:")) return make_memory_arbiter(text.substr(7));
  if (text.starts_with("remote:")) return make_remote_arbiter(text.substr(7));
  throw Failure("ERR_LOCKSTEP_ARGUMENT",
                "an arbiter is 'file:DIRECTORY', 'memory:NAME' or 'remote:NAME', not '" + text + "'");
}

MachineConfig parse_machine_config(Napi::Object object) {
  static const std::map<std::string, Mode> modes{{"run", Mode::kRun},
                                                 {"record", Mode::kRecord},
                                                 {"replay", Mode::kReplay},
                                                 {"primary", Mode::kPrimary},
                                                 {"shadow", Mode::kShadow}};
  Fields fields(object);
  MachineConfig config;
  config.mode = modes.at(fields.text("mode"));
  if (fields.has("image")) config.image = to_bytes(fields.value("image"));
  config.image_path = fields.text("imagePath");
  if (fields.has("fork"))
    config.fork = *fields.value("fork").As<Napi::External<std::shared_ptr<Fork>>>().Data();
  config.reseed = fields.flag("reseed");
  if (fields.has("store")) {
    config.store = BlockStoreObject::Unwrap(fields.value("store").As<Napi::Object>())->store();
    if (!config.store) throw Failure("ERR_LOCKSTEP_CLOSED", "the stream is closed");
    config.store_sum = std::stoull(fields.text("storeSum"), nullptr, 16);
  }
  config.options.memory_bytes = fields.number("memoryBytes", 0);
  config.options.cpu_model = fields.text("cpuModel");
  if (fields.has("seed")) {
    Bytes seed = to_bytes(fields.value("seed"));
    std::copy_n(seed.begin(), std::min(seed.size(), config.options.seed.size()), config.options.seed.begin());
  }
  config.options.fixed_time_us = fields.number("fixedTimeUs", 0);
  config.options.digest_every = fields.number("digestEvery", 0);
  config.options.tty_flags = fields.number("ttyFlags", 0);
  config.options.rows = fields.number("rows", 0);
  config.options.columns = fields.number("columns", 0);
  config.options.host = fields.text("host");
  if (fields.has("net")) config.options.net = parse_net(Fields(fields.value("net").As<Napi::Object>()));
  if (fields.has("nic")) config.nic = parse_nic(Fields(fields.value("nic").As<Napi::Object>()));
  config.stdin_fd = fields.number("stdin", -1);
  config.stdout_fd = fields.number("stdout", -1);
  config.stderr_fd = fields.number("stderr", -1);
  config.log = fields.text("log");
  config.log_options.force = fields.flag("force");
  config.log_options.fsync = fields.flag("fsync");
  config.trace_pages = fields.flag("tracePages");
  if (fields.has("imageByHash")) config.image_by_hash = fields.flag("imageByHash");
  config.stop_at_event = fields.number("stopAtEvent", 0);
  config.live_after_stop = fields.flag("liveAfterStop");
  config.confined = !fields.flag("unconfined");
  config.kicks_per_second = fields.number("kicksPerSecond", 0);
  config.kick_seed = fields.number("kickSeed", 1);
  if (fields.has("pair")) config.pair = parse_pair(Fields(fields.value("pair").As<Napi::Object>()), &config);
  config.pair.security.confined = config.confined;
  return config;
}

}  // namespace lockstep
