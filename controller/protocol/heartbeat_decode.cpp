#include <fmt/format.h>
#include <simdjson.h>

#include <cmath>
#include <span>

#include "base/utf8.hpp"
#include "protocol/heartbeat.hpp"

namespace protocol {
namespace {

namespace od = simdjson::ondemand;

enum class TooLong { kRefuse, kCut };

/// Reads typed fields; the first failure is kept, with the field's name.
class Reader {
 public:
  bool Fail(std::string_view field, std::string_view what) {
    if (error_.empty()) error_ = fmt::format("field `{}` {}", field, what);
    return false;
  }
  bool Malformed(simdjson::error_code code) {
    if (error_.empty()) {
      error_ = code == simdjson::UTF8_ERROR ? "the body is not valid UTF-8"
                                            : "the body is not well-formed JSON";
    }
    return false;
  }
  const std::string& error() const { return error_; }

  bool Text(od::value value, std::string_view field, size_t limit, TooLong too_long,
            std::string& out) {
    std::string_view text;
    if (value.get_string().get(text) != simdjson::SUCCESS) return Fail(field, "must be a string");
    if (text.size() > limit) {
      if (too_long == TooLong::kRefuse) {
        return Fail(field, fmt::format("must be at most {} bytes long", limit));
      }
      out = base::CutUtf8(std::string(text), limit);
      return true;
    }
    out.assign(text);
    return true;
  }
  bool Int(od::value value, std::string_view field, int64_t limit, int64_t& out) {
    if (value.get_int64().get(out) != simdjson::SUCCESS) return Fail(field, "must be an integer");
    if (out < 0 || out > limit) return Fail(field, fmt::format("must be 0 to {}", limit));
    return true;
  }
  bool Number(od::value value, std::string_view field, double limit, std::optional<double>& out) {
    double number = 0;
    if (value.get_double().get(number) != simdjson::SUCCESS || !std::isfinite(number)) {
      return Fail(field, "must be a number");
    }
    if (number < 0 || number > limit) return Fail(field, fmt::format("must be 0 to {}", limit));
    out = number;
    return true;
  }
  bool Bool(od::value value, std::string_view field, std::optional<bool>& out) {
    bool flag = false;
    if (value.get_bool().get(flag) != simdjson::SUCCESS) {
      return Fail(field, "must be true or false");
    }
    out = flag;
    return true;
  }
  /// On-demand checks only what it reads, so what is ignored is walked too.
  bool Ignore(od::value value, std::string_view field, int depth);

 private:
  std::string error_;
};

bool ReadNull(od::value value) {
  bool null = false;
  return value.is_null().get(null) == simdjson::SUCCESS && null;
}

bool Reader::Ignore(od::value value, std::string_view field, int depth) {
  if (depth > kHeartbeatDepth) {
    return Fail(field, fmt::format("is nested more than {} deep", kHeartbeatDepth));
  }
  od::json_type type;
  if (value.type().get(type) != simdjson::SUCCESS) return Fail(field, "is not a JSON value");
  switch (type) {
    case od::json_type::array: {
      od::array array;
      if (auto code = value.get_array().get(array)) return Malformed(code);
      for (auto item : array) {
        od::value element;
        if (auto code = item.get(element)) return Malformed(code);
        if (!Ignore(element, field, depth + 1)) return false;
      }
      return true;
    }
    case od::json_type::object: {
      od::object object;
      if (auto code = value.get_object().get(object)) return Malformed(code);
      for (auto item : object) {
        od::value element;
        if (auto code = item.value().get(element)) return Malformed(code);
        if (!Ignore(element, field, depth + 1)) return false;
      }
      return true;
    }
    case od::json_type::string: {
      std::string_view text;
      if (auto code = value.get_string().get(text)) return Malformed(code);
      return true;
    }
    case od::json_type::boolean: {
      bool flag = false;
      if (auto code = value.get_bool().get(flag)) return Malformed(code);
      return true;
    }
    case od::json_type::number: {
      double number = 0;
      if (value.get_double().get(number) != simdjson::SUCCESS) {
        return Fail(field, "holds something that is not a JSON number");
      }
      return true;
    }
    case od::json_type::null:
      return ReadNull(value) || Fail(field, "is not a JSON value");
  }
  return Fail(field, "is not a JSON value");
}

struct Target {
  Heartbeat& heartbeat;
  Register* reg;  ///< Null: a heartbeat, whose `box.pull` and `address` say nothing.
};

bool IsId(std::string_view text) {
  for (const char c : text) {
    const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '.' || c == '_' || c == '-';
    if (!fine) return false;
  }
  return !text.empty();
}

/// One field: its wire name (with that of its parent) and how it is read.
struct Row {
  std::string_view name;
  bool (*read)(Reader&, od::value, Target&);
};

/// Reads an object by `rows`; a row twice is refused, null is skipped, the rest is checked and
/// ignored.
bool ReadObject(Reader& reader, od::object object, std::span<const Row> rows, Target& target,
                int depth) {
  uint32_t seen = 0;
  size_t next =
      0;  // Most senders keep to the rows' order: the row after the last one is looked at first.
  for (auto item : object) {
    std::string_view key;
    od::value value;
    if (auto code = item.unescaped_key().get(key)) return reader.Malformed(code);
    if (auto code = item.value().get(value)) return reader.Malformed(code);
    size_t i = next, left = rows.size();
    for (; left > 0 && rows[i].name != key; --left) i = i + 1 == rows.size() ? 0 : i + 1;
    if (left == 0) {
      const std::string name(key.substr(0, 64));
      if (!reader.Ignore(value, name, depth + 1)) return false;
      continue;
    }
    if ((seen >> i & 1U) != 0) return reader.Fail(rows[i].name, "is given twice");
    seen |= 1U << i;
    next = i + 1 == rows.size() ? 0 : i + 1;
    od::json_type type;
    if (value.type().get(type) != simdjson::SUCCESS) {
      return reader.Fail(rows[i].name, "is not a JSON value");
    }
    if (type == od::json_type::null) {
      if (!reader.Ignore(value, rows[i].name, depth + 1)) return false;
    } else if (!rows[i].read(reader, value, target)) {
      return false;
    }
  }
  return true;
}

bool ReadMembers(Reader& reader, od::value value, std::string_view field, std::span<const Row> rows,
                 Target& target) {
  od::object object;
  if (value.get_object().get(object) != simdjson::SUCCESS) {
    return reader.Fail(field, "must be an object");
  }
  return ReadObject(reader, object, rows, target, 2);
}

constexpr Row kBootInstallRows[] = {
    {"state",
     [](Reader& r, od::value v, Target& t) {
       std::string word;
       if (!r.Text(v, "bootInstall.state", 16, TooLong::kRefuse, word)) return false;
       for (const auto state :
            {BootInstallState::kRunning, BootInstallState::kDone, BootInstallState::kFailed}) {
         if (word != BootInstallStateName(state)) continue;
         t.heartbeat.boot_install->state = state;
         return true;
       }
       return r.Fail("bootInstall.state", "must be Running, Done or Failed");
     }},
    {"error",
     [](Reader& r, od::value v, Target& t) {
       return r.Text(v, "bootInstall.error", 1024, TooLong::kCut, t.heartbeat.boot_install->error);
     }},
};

constexpr Row kInventoryRows[] = {
    {"name",
     [](Reader& r, od::value v, Target& t) {
       return r.Text(v, "inventory[].name", 128, TooLong::kRefuse,
                     t.heartbeat.inventory->back().name);
     }},
    {"revision",
     [](Reader& r, od::value v, Target& t) {
       return r.Text(v, "inventory[].revision", 128, TooLong::kRefuse,
                     t.heartbeat.inventory->back().revision);
     }},
    {"digest",
     [](Reader& r, od::value v, Target& t) {
       return r.Text(v, "inventory[].digest", 128, TooLong::kRefuse,
                     t.heartbeat.inventory->back().digest);
     }},
    {"loaded",
     [](Reader& r, od::value v, Target& t) {
       std::optional<bool> loaded;
       if (!r.Bool(v, "inventory[].loaded", loaded)) return false;
       t.heartbeat.inventory->back().loaded = *loaded;
       return true;
     }},
    {"activatedThisBoot",
     [](Reader& r, od::value v, Target& t) {
       return r.Bool(v, "inventory[].activatedThisBoot",
                     t.heartbeat.inventory->back().activated_this_boot);
     }},
};

bool ReadInventory(Reader& reader, od::value value, Target& target) {
  od::array array;
  if (value.get_array().get(array) != simdjson::SUCCESS) {
    return reader.Fail("inventory", "must be a list");
  }
  auto& items = target.heartbeat.inventory.emplace();
  for (auto item : array) {
    od::value element;
    if (auto code = item.get(element)) return reader.Malformed(code);
    if (items.size() == kInventoryItems) {
      return reader.Fail("inventory", fmt::format("holds more than {} items", kInventoryItems));
    }
    items.emplace_back();
    if (!ReadMembers(reader, element, "inventory[]", kInventoryRows, target)) return false;
    if (items.back().name.empty()) return reader.Fail("inventory[].name", "is required");
  }
  return true;
}

bool ReadTools(Reader& reader, od::value value, Target& target) {
  od::array array;
  if (value.get_array().get(array) != simdjson::SUCCESS) {
    return reader.Fail("loadedTools", "must be a list");
  }
  auto& tools = target.heartbeat.loaded_tools.emplace();
  for (auto item : array) {
    od::value element;
    if (auto code = item.get(element)) return reader.Malformed(code);
    if (tools.size() == kLoadedTools) {
      return reader.Fail("loadedTools", fmt::format("holds more than {} items", kLoadedTools));
    }
    if (!reader.Text(element, "loadedTools[]", 256, TooLong::kRefuse, tools.emplace_back())) {
      return false;
    }
  }
  return true;
}

bool ReadTime(Reader& reader, od::value value, Target& target) {
  std::string text;
  if (!reader.Text(value, "time", 64, TooLong::kRefuse, text)) return false;
  target.heartbeat.time = base::ParseTime(text);
  return target.heartbeat.time || reader.Fail("time", "must be an RFC 3339 time");
}

bool ReadBootId(Reader& reader, od::value value, Target& target) {
  std::string& id = target.heartbeat.boot_id;
  if (!reader.Text(value, "bootID", 128, TooLong::kRefuse, id)) return false;
  return IsId(id) || reader.Fail("bootID", "must be made of letters, digits, `.`, `_` and `-`");
}

bool ReadBootInstall(Reader& reader, od::value value, Target& target) {
  target.heartbeat.boot_install.emplace();
  return ReadMembers(reader, value, "bootInstall", kBootInstallRows, target);
}

bool ReadActiveTasks(Reader& reader, od::value value, Target& target) {
  int64_t count = 0;
  if (!reader.Int(value, "activeTasks", 1'000'000, count)) return false;
  target.heartbeat.active_tasks = static_cast<int32_t>(count);
  return true;
}

bool ReadUptime(Reader& reader, od::value value, Target& target) {
  return reader.Int(value, "uptimeSeconds", int64_t{1} << 40,
                    target.heartbeat.uptime_seconds.emplace());
}

constexpr Row kBoxRows[] = {
    {"identity",
     [](Reader& r, od::value v, Target& t) {
       return r.Text(v, "box.identity", 256, TooLong::kRefuse, t.heartbeat.box_identity);
     }},
    {"pull",
     [](Reader& r, od::value v, Target& t) {
       std::optional<bool> pull;
       if (!r.Bool(v, "box.pull", pull)) return false;
       if (t.reg != nullptr) t.reg->pull = *pull;
       return true;
     }},
};

#define WO_FIELD(wire, ...)                                             \
  {                                                                     \
    wire, [](Reader& r, od::value v, Target& t) { return __VA_ARGS__; } \
  }

// In the order in which our agent writes them: see ReadObject.
constexpr Row kRows[] = {
    WO_FIELD("workspace", r.Text(v, "workspace", 512, TooLong::kRefuse, t.heartbeat.workspace)),
    WO_FIELD("bootID", ReadBootId(r, v, t)),
    WO_FIELD("sequence", r.Int(v, "sequence", INT64_MAX, t.heartbeat.sequence)),
    WO_FIELD("time", ReadTime(r, v, t)),
    WO_FIELD("agentVersion",
             r.Text(v, "agentVersion", 128, TooLong::kRefuse, t.heartbeat.agent_version)),
    WO_FIELD("runtime", r.Text(v, "runtime", 128, TooLong::kRefuse, t.heartbeat.runtime)),
    WO_FIELD("activeTasks", ReadActiveTasks(r, v, t)),
    WO_FIELD("currentTask", r.Text(v, "currentTask", 512, TooLong::kCut, t.heartbeat.current_task)),
    WO_FIELD("errorRate", r.Number(v, "errorRate", 1, t.heartbeat.error_rate)),
    WO_FIELD("sampleError",
             r.Text(v, "sampleError", 1024, TooLong::kCut, t.heartbeat.sample_error)),
    WO_FIELD("uptimeSeconds", ReadUptime(r, v, t)),
    WO_FIELD("monthlySpend", r.Number(v, "monthlySpend", 1e12, t.heartbeat.monthly_spend)),
    WO_FIELD("managementPresent", r.Bool(v, "managementPresent", t.heartbeat.management_present)),
    WO_FIELD("modelPresent", r.Bool(v, "modelPresent", t.heartbeat.model_present)),
    WO_FIELD("loadedTools", ReadTools(r, v, t)),
    WO_FIELD("bootInstall", ReadBootInstall(r, v, t)),
    WO_FIELD("inventory", ReadInventory(r, v, t)),
    WO_FIELD("inventoryDigest",
             r.Text(v, "inventoryDigest", 128, TooLong::kRefuse, t.heartbeat.inventory_digest)),
    WO_FIELD("answerTag", r.Text(v, "answerTag", 64, TooLong::kRefuse, t.heartbeat.answer_tag)),
    WO_FIELD("box", ReadMembers(r, v, "box", kBoxRows, t)),
    WO_FIELD("address", t.reg != nullptr
                            ? r.Text(v, "address", 256, TooLong::kRefuse, t.reg->address)
                            : r.Ignore(v, "address", 2)),
};

#undef WO_FIELD

/// Keeps the capacity of the strings.
void Clear(Heartbeat& heartbeat) {
  for (std::string* text :
       {&heartbeat.workspace, &heartbeat.boot_id, &heartbeat.agent_version, &heartbeat.runtime,
        &heartbeat.current_task, &heartbeat.sample_error, &heartbeat.inventory_digest,
        &heartbeat.box_identity, &heartbeat.answer_tag}) {
    text->clear();
  }
  heartbeat.sequence = -1;
  heartbeat.time.reset();
  heartbeat.active_tasks.reset();
  heartbeat.error_rate.reset();
  heartbeat.uptime_seconds.reset();
  heartbeat.monthly_spend.reset();
  heartbeat.management_present.reset();
  heartbeat.model_present.reset();
  heartbeat.loaded_tools.reset();
  heartbeat.boot_install.reset();
  heartbeat.inventory.reset();
}

bool CheckRequired(Reader& reader, const Heartbeat& heartbeat) {
  if (heartbeat.workspace.empty()) return reader.Fail("workspace", "is required");
  if (heartbeat.boot_id.empty()) return reader.Fail("bootID", "is required");
  if (heartbeat.sequence < 0) return reader.Fail("sequence", "is required");
  return true;
}

bool ReadBody(Reader& reader, std::string_view bytes, Target& target) {
  // One parser and one padded buffer a thread: a beat allocates neither.
  thread_local od::parser parser;
  thread_local std::string buffer;
  if (buffer.capacity() > (32U << 10) && bytes.size() < (8U << 10)) buffer = std::string();
  buffer.assign(bytes);
  buffer.append(simdjson::SIMDJSON_PADDING, '\0');
  od::document document;
  if (auto code = parser.iterate(buffer.data(), bytes.size(), buffer.size()).get(document)) {
    return reader.Malformed(code);
  }
  od::object object;
  if (auto code = document.get_object().get(object)) {
    return code == simdjson::INCORRECT_TYPE ? reader.Fail("(body)", "must be a JSON object")
                                            : reader.Malformed(code);
  }
  if (!ReadObject(reader, object, kRows, target, 1)) return false;
  if (document.current_location().error() == simdjson::SUCCESS) {
    return reader.Fail("(body)", "is followed by more text");
  }
  return CheckRequired(reader, target.heartbeat);
}

base::Status Decode(std::string_view bytes, Target target) {
  Clear(target.heartbeat);
  if (bytes.size() > kHeartbeatBytes) {
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("the body is larger than {} bytes", kHeartbeatBytes),
                           "TooLarge");
  }
  Reader reader;
  bool fine = false;
  try {
    fine = ReadBody(reader, bytes, target);
  } catch (const std::exception&) {  // out of memory
    reader.Fail("(body)", "could not be read");
  }
  if (fine) return {};
  return base::MakeError(base::Code::kInvalid, reader.error(), "InvalidField");
}

}  // namespace

base::Status DecodeHeartbeatInto(std::string_view bytes, Heartbeat& out) {
  return Decode(bytes, Target{out, nullptr});
}

base::Result<Heartbeat> DecodeHeartbeat(std::string_view bytes) {
  Heartbeat heartbeat;
  if (auto status = DecodeHeartbeatInto(bytes, heartbeat); !status) return status.error();
  return heartbeat;
}

base::Result<Register> DecodeRegister(std::string_view bytes) {
  Register body;
  if (auto status = Decode(bytes, Target{body.heartbeat, &body}); !status) return status.error();
  return body;
}

}  // namespace protocol
