#include "protocol/answer.hpp"

#include <fmt/format.h>

#include <iterator>

#include "base/log.hpp"
#include "codec/json.hpp"

namespace protocol {
namespace {

constexpr size_t kAnswerBytes = 1 << 20;
constexpr size_t kAnswerPlugins = 256;

base::Error Wrong(std::string_view field, std::string_view what) {
  return base::MakeError(base::Code::kInvalid, fmt::format("answer: field `{}` {}", field, what),
                         "InvalidField");
}

/// Reads a string member; absent is fine, another type is not.
base::Status ReadText(const codec::Json& object, const char* name, std::string& out) {
  const codec::Json& member = codec::GetMember(object, name);
  if (member.is_null()) return {};
  if (!member.is_string()) return Wrong(name, "must be a string");
  out = member.get_ref<const std::string&>();
  return {};
}

base::Status ReadPlugin(const codec::Json& item, PluginToFetch& out) {
  if (!item.is_object()) return Wrong("plugins[]", "must be an object");
  const std::pair<const char*, std::string*> members[] = {{"name", &out.name},
                                                          {"revision", &out.revision},
                                                          {"digest", &out.digest},
                                                          {"path", &out.path},
                                                          {"source", &out.source}};
  for (const auto& [name, text] : members) {
    if (auto status = ReadText(item, name, *text); !status) return status;
  }
  if (out.name.empty() || out.digest.empty() || out.path.empty()) {
    return Wrong("plugins[]", "needs name, digest and path");
  }
  if (const auto& management = codec::GetMember(item, "management"); !management.is_null()) {
    if (!management.is_boolean()) return Wrong("plugins[].management", "must be true or false");
    out.management = management.get<bool>();
  }
  return {};
}

base::Status ReadPlugins(const codec::Json& list, std::vector<PluginToFetch>& out) {
  if (list.is_null()) return {};
  if (!list.is_array() || list.size() > kAnswerPlugins) {
    return Wrong("plugins", fmt::format("must be a list of at most {}", kAnswerPlugins));
  }
  for (const auto& item : list) {
    if (auto status = ReadPlugin(item, out.emplace_back()); !status) return status;
  }
  return {};
}

base::Status ReadNames(const codec::Json& list, std::vector<std::string>& out) {
  if (list.is_null()) return {};
  if (!list.is_array() || list.size() > kAnswerPlugins) return Wrong("remove", "must be a list");
  for (const auto& item : list) {
    if (!item.is_string()) return Wrong("remove[]", "must be a string");
    out.push_back(item.get<std::string>());
  }
  return {};
}

base::Result<codec::Json> ParseObject(std::string_view bytes) {
  auto json = codec::ParseJson(bytes, {.bytes = kAnswerBytes, .depth = 16});
  if (!json) return json.error();
  if (!json->is_object()) return Wrong("(body)", "must be a JSON object");
  return json;
}

base::Status ReadAnswer(const codec::Json& json, HeartbeatAnswer& out) {
  const std::pair<const char*, std::string*> texts[] = {{"state", &out.state},
                                                        {"reason", &out.reason},
                                                        {"message", &out.message},
                                                        {"inventoryDigest", &out.inventory_digest},
                                                        {"answerTag", &out.tag}};
  for (const auto& [name, text] : texts) {
    if (auto status = ReadText(json, name, *text); !status) return status;
  }
  if (const auto& period = codec::GetMember(json, "nextPeriodSeconds"); !period.is_null()) {
    if (!period.is_number_integer() || period.get<int64_t>() < 0 || period.get<int64_t>() > 86400) {
      return Wrong("nextPeriodSeconds", "must be 0 to 86400");
    }
    out.next_period_seconds = static_cast<int32_t>(period.get<int64_t>());
  }
  if (const auto& known = codec::GetMember(json, "pluginsKnown"); !known.is_null()) {
    if (!known.is_boolean()) return Wrong("pluginsKnown", "must be true or false");
    out.plugins_known = known.get<bool>();
  }
  if (const auto& same = codec::GetMember(json, "unchanged"); !same.is_null()) {
    if (!same.is_boolean()) return Wrong("unchanged", "must be true or false");
    out.unchanged = same.get<bool>();
  }
  if (const auto& restart = codec::GetMember(json, "restart"); !restart.is_null()) {
    if (!restart.is_object()) return Wrong("restart", "must be an object");
    std::string boot_id;
    if (auto status = ReadText(restart, "expectedBootID", boot_id); !status) return status;
    if (boot_id.empty()) return Wrong("restart.expectedBootID", "is required");
    out.restart_expected_boot_id = boot_id;
  }
  if (auto status = ReadPlugins(codec::GetMember(json, "plugins"), out.plugins); !status) {
    return status;
  }
  return ReadNames(codec::GetMember(json, "remove"), out.remove);
}

}  // namespace

std::string Quoted(std::string_view text) { return '"' + base::EscapeJson(text) + '"'; }

std::string EncodePlugin(const PluginToFetch& plugin) {
  return fmt::format(R"({{"name":{},"revision":{},"digest":{},"path":{},"source":{}{}}})",
                     Quoted(plugin.name), Quoted(plugin.revision), Quoted(plugin.digest),
                     Quoted(plugin.path), Quoted(plugin.source),
                     plugin.management ? R"(,"management":true)" : "");
}

std::string EncodeNames(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) (out += out.empty() ? "" : ",") += Quoted(name);
  return out;
}

std::string EncodeAnswerTexts(const AnswerTexts& texts) {
  std::string out;
  out.reserve(512 + texts.plugins.size() + texts.remove.size());
  fmt::format_to(
      std::back_inserter(out),
      R"({{"state":{},"reason":{},"message":{},"nextPeriodSeconds":{},"pluginsKnown":{},"plugins":[)",
      Quoted(texts.state), Quoted(texts.reason), Quoted(texts.message), texts.next_period_seconds,
      texts.plugins_known);
  (out += texts.plugins) += ']';
  if (!texts.remove.empty()) ((out += R"(,"remove":[)") += texts.remove) += ']';
  if (texts.restart_expected_boot_id)
    fmt::format_to(std::back_inserter(out), R"(,"restart":{{"expectedBootID":{}}})",
                   Quoted(*texts.restart_expected_boot_id));
  return (out += R"(,"inventoryDigest":)") += Quoted(texts.inventory_digest);
}

std::string EncodeHeartbeatAnswer(const HeartbeatAnswer& answer) {
  if (answer.unchanged) return std::string(kUnchangedAnswer);
  std::string plugins;
  for (const auto& plugin : answer.plugins)
    (plugins += plugins.empty() ? "" : ",") += EncodePlugin(plugin);
  const std::string remove = EncodeNames(answer.remove);
  AnswerTexts texts{
      answer.state, answer.reason, answer.message, answer.next_period_seconds, answer.plugins_known,
      plugins,      remove,        std::nullopt,   answer.inventory_digest};
  if (answer.restart_expected_boot_id)
    texts.restart_expected_boot_id = *answer.restart_expected_boot_id;
  std::string out = EncodeAnswerTexts(texts);
  if (!answer.tag.empty()) (out += R"(,"answerTag":)") += Quoted(answer.tag);
  return out += '}';
}

base::Result<HeartbeatAnswer> DecodeHeartbeatAnswer(std::string_view bytes) {
  auto json = ParseObject(bytes);
  if (!json) return json.error();
  HeartbeatAnswer answer;
  if (auto status = ReadAnswer(*json, answer); !status) return status.error();
  return answer;
}

std::string EncodeError(const ErrorBody& body) {
  return fmt::format(R"({{"error":{},"message":{},"hint":{}}})", Quoted(body.error),
                     Quoted(body.message), Quoted(body.hint));
}

base::Result<ErrorBody> DecodeError(std::string_view bytes) {
  auto json = ParseObject(bytes);
  if (!json) return json.error();
  ErrorBody body;
  const std::pair<const char*, std::string*> texts[] = {
      {"error", &body.error}, {"message", &body.message}, {"hint", &body.hint}};
  for (const auto& [name, text] : texts) {
    if (auto status = ReadText(*json, name, *text); !status) return status.error();
  }
  return body;
}

}  // namespace protocol
