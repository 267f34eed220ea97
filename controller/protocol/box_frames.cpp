#include "protocol/box_frames.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/utf8.hpp"
#include "codec/json.hpp"

namespace protocol {
namespace {

using codec::Json;

constexpr std::string_view kMagic = "MBX1";
constexpr size_t kHeaderBytes = 9;
constexpr size_t kBannerBytes = 64 << 10;
constexpr size_t kMessageBytes = 1024;
constexpr size_t kWordBytes = 256;

base::Error BadFrame(std::string what) {
  return base::MakeError(base::Code::kInvalid, "box helper: " + std::move(what), "BadFrame");
}

size_t LimitOf(FrameKind kind) {
  switch (kind) {
    case FrameKind::kRequest:
      return kBoxRequestBytes;
    case FrameKind::kReply:
      return kBoxReplyBytes;
    case FrameKind::kData:
      return 1 << 20;
    case FrameKind::kEnd:
      return 0;
  }
  return 0;
}

bool IsKind(char byte) { return byte == 'Q' || byte == 'D' || byte == 'E' || byte == 'R'; }

constexpr std::array<std::pair<BoxOp, std::string_view>, 8> kOps{
    {{BoxOp::kProbe, "probe"},
     {BoxOp::kDeliver, "deliver"},
     {BoxOp::kAdopt, "adopt"},
     {BoxOp::kActivate, "activate"},
     {BoxOp::kRemove, "remove"},
     {BoxOp::kClearRemovals, "clearRemovals"},
     {BoxOp::kWriteToken, "writeToken"},
     {BoxOp::kAgent, "agent"}}};

constexpr std::array<base::Code, 11> kCodes{
    base::Code::kInvalid,     base::Code::kNotFound,     base::Code::kAlreadyExists,
    base::Code::kConflict,    base::Code::kGone,         base::Code::kForbidden,
    base::Code::kUnavailable, base::Code::kUnauthorized, base::Code::kTimeout,
    base::Code::kCancelled,   base::Code::kInternal};

base::Code CodeOf(std::string_view name) {
  for (const base::Code code : kCodes)
    if (name == base::CodeName(code)) return code;
  return base::Code::kInternal;
}

/// Text from inside a box, fit for a condition.
std::string Clean(std::string text) {
  text = base::ShortenUtf8(std::move(text), kMessageBytes);
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return text;
}

Json ErrorJson(const base::Error& error) {
  return {
      {"code", base::CodeName(error.code)}, {"reason", error.reason}, {"message", error.message}};
}

std::optional<base::Error> ReadError(const Json& object) {
  const Json& error = codec::GetMember(object, "error");
  if (!error.is_object()) return std::nullopt;
  return base::MakeError(CodeOf(codec::GetString(error, "code")),
                         Clean(codec::GetString(error, "message")),
                         base::CutUtf8(Clean(codec::GetString(error, "reason")), 64));
}

base::Error Bad(const char* reason, std::string_view what) {
  return base::MakeError(base::Code::kInvalid, fmt::format("box helper: {}", what), reason);
}

base::Result<Json> ParseBounded(std::string_view bytes, size_t limit, const char* reason) {
  auto json = codec::ParseJson(bytes, {.bytes = limit, .depth = 8});
  if (!json) return Bad(reason, json.error().message);
  if (!json->is_object()) return Bad(reason, "the payload is no JSON object");
  return json;
}

base::Status ReadDeliveries(const Json& list, BoxRequest& out) {
  if (list.is_null()) return {};
  if (!list.is_array() || list.size() > kBoxNames)
    return Bad("BadRequest", "`deliveries` must be a list of at most 512");
  for (const Json& item : list) {
    const int64_t size = codec::GetInt(item, "size", -1);
    if (!item.is_object() || size < 0) return Bad("BadRequest", "`deliveries[]` needs a size");
    out.deliveries.push_back({codec::GetString(item, "name"), codec::GetString(item, "source"),
                              codec::GetString(item, "revision"), codec::GetString(item, "digest"),
                              static_cast<uint64_t>(size)});
  }
  return {};
}

BoxPlugin ReadPlugin(const Json& item) {
  const auto word = [&](const char* member) {
    return base::CutUtf8(Clean(codec::GetString(item, member)), kWordBytes);
  };
  return {word("name"),
          word("presence"),
          Clean(codec::GetString(item, "cause")),
          codec::GetBool(item, "hasReceipt"),
          word("revision"),
          word("digest"),
          word("receiptDigest"),
          word("activatedBootID"),
          codec::GetBool(item, "reloadNone"),
          codec::GetBool(item, "mcpMerged", true),
          codec::GetBool(item, "bootInstalled"),
          base::ParseTime(codec::GetString(item, "activatedTime"))};
}

/// Calls `read` for each item of a bounded list.
template <typename Read>
base::Status ForEachItem(const Json& reply, const char* name, const Read& read) {
  const Json& list = codec::GetMember(reply, name);
  if (list.is_null()) return {};
  if (!list.is_array() || list.size() > 4 * kBoxNames)
    return Bad("BadReply", fmt::format("`{}` is no list, or too long a one", name));
  for (const Json& item : list) {
    if (!item.is_object() || codec::GetString(item, "name").empty())
      return Bad("BadReply", fmt::format("`{}[]` needs a name", name));
    read(item);
  }
  return {};
}

}  // namespace

void AppendFrame(std::string& out, FrameKind kind, std::string_view payload) {
  out += kMagic;
  out += static_cast<char>(kind);
  for (int shift = 24; shift >= 0; shift -= 8)
    out += static_cast<char>(static_cast<uint32_t>(payload.size()) >> shift & 0xff);
  out += payload;
}

/// True if a frame was taken; false: more bytes are needed.
base::Result<bool> FrameReader::TakeOne(const Sink& sink) {
  const std::string_view left = std::string_view(pending_).substr(at_);
  if (left.size() < kHeaderBytes) {
    const size_t known = std::min(left.size(), kMagic.size());
    if (begun_ && left.substr(0, known) != kMagic.substr(0, known))
      return BadFrame("bytes between two frames");
    return false;
  }
  if (!left.starts_with(kMagic)) {
    if (begun_) return BadFrame("bytes between two frames");
    const size_t magic = left.find(kMagic);
    const size_t banner =
        magic != std::string_view::npos ? magic : left.size() - (kMagic.size() - 1);
    at_ += banner;
    skipped_ += banner;
    if (skipped_ > kBannerBytes) return BadFrame("64 KiB without a frame");
    return magic != std::string_view::npos;
  }
  if (!IsKind(left[4])) return BadFrame("a frame of an unknown kind");
  const auto kind = static_cast<FrameKind>(left[4]);
  uint32_t length = 0;
  for (size_t i = 5; i < kHeaderBytes; ++i)
    length = length << 8 | static_cast<unsigned char>(left[i]);
  if (length > LimitOf(kind))
    return BadFrame(fmt::format("a frame of {} bytes is over its limit", length));
  if (left.size() < kHeaderBytes + length) return false;
  begun_ = true;
  at_ += kHeaderBytes + length;
  if (auto taken = sink(kind, left.substr(kHeaderBytes, length)); !taken) return taken.error();
  return true;
}

base::Status FrameReader::Push(std::string_view bytes, const Sink& sink) {
  pending_ += bytes;
  while (true) {
    auto taken = TakeOne(sink);
    if (!taken) return taken.error();
    if (!*taken) break;
  }
  pending_.erase(0, at_);
  at_ = 0;
  return {};
}

std::string EncodeBoxRequest(const BoxRequest& request) {
  Json json{{"settingsFile", request.settings_file}};
  for (const auto& [op, name] : kOps)
    if (op == request.op) json["op"] = name;
  if (!request.names.empty()) json["names"] = request.names;
  if (!request.boot_id.empty()) json["bootID"] = request.boot_id;
  if (!request.token.empty()) json["token"] = request.token;
  for (const BoxDelivery& d : request.deliveries)
    json["deliveries"].push_back({{"name", d.name},
                                  {"source", d.source},
                                  {"revision", d.revision},
                                  {"digest", d.digest},
                                  {"size", d.size}});
  return codec::Dump(json);
}

base::Result<BoxRequest> DecodeBoxRequest(std::string_view bytes) {
  auto json = ParseBounded(bytes, kBoxRequestBytes, "BadRequest");
  if (!json) return json.error();
  BoxRequest out;
  const std::string name = codec::GetString(*json, "op");
  const auto op =
      std::find_if(kOps.begin(), kOps.end(), [&](const auto& o) { return o.second == name; });
  if (op == kOps.end()) return Bad("BadRequest", "`op` is not one that this helper knows");
  out.op = op->first;
  out.settings_file = codec::GetString(*json, "settingsFile", out.settings_file);
  out.boot_id = codec::GetString(*json, "bootID");
  out.token = codec::GetString(*json, "token");
  const Json& names = codec::GetMember(*json, "names");
  if (!names.is_null() && (!names.is_array() || names.size() > kBoxNames))
    return Bad("BadRequest", "`names` must be a list of at most 512");
  for (const Json& item : names) {
    if (!item.is_string()) return Bad("BadRequest", "`names[]` must be a string");
    out.names.push_back(item.get<std::string>());
  }
  if (auto read = ReadDeliveries(codec::GetMember(*json, "deliveries"), out); !read)
    return read.error();
  return out;
}

std::string EncodeBoxReply(const BoxReply& reply) {
  Json json = Json::object();
  if (reply.error) json["error"] = ErrorJson(*reply.error);
  for (const BoxPlugin& p : reply.plugins) {
    json["plugins"].push_back({{"name", p.name},
                               {"presence", p.presence},
                               {"cause", p.cause},
                               {"hasReceipt", p.has_receipt},
                               {"revision", p.revision},
                               {"digest", p.digest},
                               {"receiptDigest", p.receipt_digest},
                               {"activatedBootID", p.activated_boot_id},
                               {"reloadNone", p.reload_none},
                               {"mcpMerged", p.mcp_merged},
                               {"bootInstalled", p.boot_installed}});
    if (p.activated_time)
      json["plugins"].back()["activatedTime"] = base::FormatTime(*p.activated_time);
  }
  for (const BoxRemoval& r : reply.removals) {
    json["removals"].push_back({{"name", r.name}, {"bootID", r.boot_id}});
    if (r.removed_time) json["removals"].back()["removedTime"] = base::FormatTime(*r.removed_time);
  }
  for (const BoxResult& r : reply.results) {
    Json item{{"name", r.name}};
    if (r.error) item["error"] = ErrorJson(*r.error);
    json["results"].push_back(std::move(item));
  }
  if (reply.agent_running) json["agentRunning"] = true;
  return codec::Dump(json);
}

base::Result<BoxReply> DecodeBoxReply(std::string_view bytes) {
  auto json = ParseBounded(bytes, kBoxReplyBytes, "BadReply");
  if (!json) return json.error();
  BoxReply out;
  out.error = ReadError(*json);
  out.agent_running = codec::GetBool(*json, "agentRunning");
  auto read = ForEachItem(*json, "plugins",
                          [&](const Json& item) { out.plugins.push_back(ReadPlugin(item)); });
  if (read)
    read = ForEachItem(*json, "removals", [&](const Json& item) {
      out.removals.push_back({codec::GetString(item, "name"), codec::GetString(item, "bootID"),
                              base::ParseTime(codec::GetString(item, "removedTime"))});
    });
  if (read)
    read = ForEachItem(*json, "results", [&](const Json& item) {
      out.results.push_back({codec::GetString(item, "name"), ReadError(item)});
    });
  if (!read) return read.error();
  return out;
}

}  // namespace protocol
