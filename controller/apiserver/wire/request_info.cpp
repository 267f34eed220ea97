#include "apiserver/wire/request_info.hpp"

#include <algorithm>
#include <cctype>

namespace apiserver {
namespace {

constexpr size_t kPathLimit = 2048;
constexpr size_t kParameterLimit = 64;

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::vector<std::string>> Split(std::string_view path) {
  std::vector<std::string> segments;
  size_t at = 0;
  while (at < path.size()) {
    const size_t end = std::min(path.find('/', at), path.size());
    if (end > at) {
      auto decoded = DecodePercent(path.substr(at, end - at));
      if (!decoded || decoded->find('\0') != std::string::npos) return std::nullopt;
      segments.push_back(std::move(*decoded));
    }
    at = end + 1;
  }
  return segments;
}

/// `rest` are the segments behind the group version.
void ReadResource(RequestInfo& info, const std::vector<std::string>& rest) {
  size_t at = 0;
  // namespaces/NAME/RESOURCE...; but namespaces/NAME itself and its subresources are the namespace
  // object.
  if (rest.size() >= 3 && rest[0] == "namespaces" && rest[2] != "status" && rest[2] != "finalize") {
    info.ns = rest[1];
    at = 2;
  }
  if (at < rest.size()) info.resource = rest[at];
  if (at + 1 < rest.size()) info.name = rest[at + 1];
  if (at + 2 < rest.size()) info.subresource = rest[at + 2];
  for (size_t i = at + 3; i < rest.size(); ++i) info.subresource += "/" + rest[i];
}

std::string VerbOf(const std::string& method, const RequestInfo& info) {
  if (method == "POST") return "create";
  if (method == "PUT") return "update";
  if (method == "PATCH") return "patch";
  if (method == "DELETE") return info.name.empty() ? "deletecollection" : "delete";
  if (info.query.Flag("watch")) return "watch";
  return info.name.empty() ? "list" : "get";
}

}  // namespace

std::optional<std::string> DecodePercent(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = HexDigit(text[i + 1]);
    const int low = HexDigit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    out.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return out;
}

std::optional<Query> Query::Parse(std::string_view text) {
  Query query;
  while (!text.empty()) {
    const size_t end = std::min(text.find('&'), text.size());
    std::string item(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (item.empty()) continue;
    std::replace(item.begin(), item.end(), '+', ' ');
    const size_t equals = std::min(item.find('='), item.size());
    auto name = DecodePercent(std::string_view(item).substr(0, equals));
    auto value = DecodePercent(equals < item.size() ? std::string_view(item).substr(equals + 1)
                                                    : std::string_view());
    if (!name || !value || query.items_.size() >= kParameterLimit) return std::nullopt;
    query.items_.emplace_back(std::move(*name), std::move(*value));
  }
  return query;
}

const std::string& Query::Get(std::string_view name) const {
  static const std::string kNone;
  for (const auto& [key, value] : items_) {
    if (key == name) return value;
  }
  return kNone;
}

bool Query::Has(std::string_view name) const {
  return std::any_of(items_.begin(), items_.end(),
                     [&](const auto& item) { return item.first == name; });
}

bool Query::Flag(std::string_view name) const {
  const std::string& value = Get(name);
  return value == "true" || value == "1";
}

std::optional<RequestInfo> ParseRequest(const http::Request& request) {
  RequestInfo info;
  const std::string_view target = request.target;
  const size_t question = std::min(target.find('?'), target.size());
  if (question > kPathLimit || !target.starts_with('/')) return std::nullopt;
  info.path = std::string(target.substr(0, question));
  auto query =
      Query::Parse(question < target.size() ? target.substr(question + 1) : std::string_view());
  auto segments = Split(info.path);
  if (!query || !segments) return std::nullopt;
  info.query = std::move(*query);
  info.segments = std::move(*segments);
  const auto& parts = info.segments;
  const bool core = parts.size() >= 3 && parts[0] == "api";
  const bool grouped = parts.size() >= 4 && parts[0] == "apis";
  if (core || grouped) {
    if (grouped) info.group = parts[1];
    info.version = parts[core ? 1 : 2];
    ReadResource(info, std::vector<std::string>(parts.begin() + (core ? 2 : 3), parts.end()));
    info.verb = VerbOf(request.method, info);
  } else {
    for (const char c : request.method)
      info.verb.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  }
  return info;
}

}  // namespace apiserver
