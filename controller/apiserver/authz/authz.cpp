#include "apiserver/authz/authz.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/file.hpp"
#include "base/sha256.hpp"
#include "codec/json.hpp"

namespace apiserver {
namespace {

constexpr size_t kShortestToken = 16;
constexpr size_t kMostTokens = 1000;
constexpr size_t kTokenFileLimit = 1 << 20;

base::Error Bad(const std::string& message) {
  return base::MakeError(base::Code::kInvalid, message, "InvalidTokens");
}

std::vector<std::string> Texts(const codec::Json& object, const char* key) {
  std::vector<std::string> texts;
  const codec::Json& list = codec::GetMember(object, key);
  if (!list.is_array()) return texts;
  for (const codec::Json& item : list) {
    if (item.is_string()) texts.push_back(item.get<std::string>());
  }
  return texts;
}

PolicyRule ReadRule(const codec::Json& json) {
  PolicyRule rule;
  rule.verbs = Texts(json, "verbs");
  rule.groups = Texts(json, "apiGroups");
  rule.resources = Texts(json, "resources");
  rule.namespaces = Texts(json, "namespaces");
  rule.names = Texts(json, "resourceNames");
  rule.paths = Texts(json, "nonResourceURLs");
  return rule;
}

bool Has(const std::vector<std::string>& list, std::string_view value) {
  return std::any_of(list.begin(), list.end(),
                     [&](const std::string& item) { return item == "*" || item == value; });
}

bool PathMatches(const std::vector<std::string>& patterns, std::string_view path) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    if (!pattern.ends_with('*')) return pattern == path;
    return path.starts_with(std::string_view(pattern).substr(0, pattern.size() - 1));
  });
}

bool RuleAllows(const PolicyRule& rule, const Attributes& asked) {
  if (!Has(rule.verbs, asked.verb)) return false;
  if (!asked.path.empty()) return PathMatches(rule.paths, asked.path);
  const std::string resource =
      asked.subresource.empty() ? asked.resource : asked.resource + "/" + asked.subresource;
  if (!Has(rule.groups, asked.group) || !Has(rule.resources, resource)) return false;
  if (!rule.namespaces.empty() && !Has(rule.namespaces, asked.ns)) return false;
  return rule.names.empty() || Has(rule.names, asked.name);
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

bool ParseHash(const std::string& text, std::array<uint8_t, 32>& hash) {
  if (text.size() != 64) return false;
  for (size_t i = 0; i < 32; ++i) {
    const int high = HexDigit(text[2 * i]);
    const int low = HexDigit(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    hash[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return true;
}

base::Status CheckPrivate(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0)
    return base::ErrnoError(errno, fmt::format("reading token file {}", path));
  if ((info.st_mode & 077) != 0)
    return Bad(fmt::format("token file {} is readable by others: chmod 600 it", path));
  return {};
}

}  // namespace

base::Status TokenTable::AddEntry(Entry entry) {
  if (entry.identity.user.empty()) return Bad("a token has no user");
  if (entries_.size() >= kMostTokens) return Bad(fmt::format("more than {} tokens", kMostTokens));
  entries_.push_back(std::move(entry));
  return {};
}

base::Status TokenTable::Add(std::string_view token, Identity identity,
                             std::vector<PolicyRule> rules) {
  if (token.size() < kShortestToken) {
    return Bad(fmt::format("the token of user \"{}\" is shorter than {} bytes", identity.user,
                           kShortestToken));
  }
  return AddEntry(Entry{base::Sha256Of(token), std::move(identity), std::move(rules)});
}

base::Status TokenTable::Load(const std::string& path) {
  if (auto safe = CheckPrivate(path); !safe) return safe;
  auto text = base::ReadFile(path, kTokenFileLimit);
  if (!text) return text.error();
  auto documents = codec::ParseYaml(*text);
  if (!documents || documents->size() != 1)
    return Bad(fmt::format("token file {} must be one YAML document", path));
  const codec::Json& list = codec::GetMember(documents->front(), "tokens");
  if (!list.is_array()) return Bad(fmt::format("token file {} must have a list `tokens`", path));
  for (size_t i = 0; i < list.size(); ++i) {
    const codec::Json& item = list[i];
    Identity identity{codec::GetString(item, "user"), codec::GetString(item, "uid"),
                      Texts(item, "groups")};
    std::vector<PolicyRule> rules;
    for (const codec::Json& rule : codec::GetMember(item, "rules")) rules.push_back(ReadRule(rule));
    base::Status added;
    if (const std::string hash = codec::GetString(item, "tokenSHA256"); !hash.empty()) {
      Entry entry{{}, std::move(identity), std::move(rules)};
      if (!ParseHash(hash, entry.hash))
        added = Bad("tokenSHA256 must be 64 lower-case hexadecimal digits");
      else
        added = AddEntry(std::move(entry));
    } else {
      added = Add(codec::GetString(item, "token"), std::move(identity), std::move(rules));
    }
    if (!added)
      return Bad(fmt::format("token file {}: tokens[{}]: {}", path, i, added.error().message));
  }
  return {};
}

std::optional<Identity> TokenTable::Authenticate(std::string_view token) const {
  const base::Sha256Digest hash = base::Sha256Of(token);
  const std::string_view wanted(reinterpret_cast<const char*>(hash.data()), hash.size());
  const Entry* found = nullptr;
  for (const Entry& entry : entries_) {
    const std::string_view held(reinterpret_cast<const char*>(entry.hash.data()),
                                entry.hash.size());
    if (base::ConstantTimeEqual(wanted, held)) found = &entry;
  }
  if (found == nullptr) return std::nullopt;
  Identity identity = found->identity;
  identity.groups.emplace_back("system:authenticated");
  return identity;
}

std::vector<PolicyRule> TokenTable::RulesFor(const Identity& identity) const {
  std::vector<PolicyRule> rules;
  if (std::find(identity.groups.begin(), identity.groups.end(), kMasters) !=
      identity.groups.end()) {
    rules.push_back(PolicyRule{{"*"}, {"*"}, {"*"}, {}, {}, {}});
    rules.push_back(PolicyRule{{"*"}, {}, {}, {}, {}, {"*"}});
  }
  for (const Entry& entry : entries_) {
    if (entry.identity.user == identity.user)
      rules.insert(rules.end(), entry.rules.begin(), entry.rules.end());
  }
  // Whoever is known may look at what the server serves and ask what they may do.
  rules.push_back(
      PolicyRule{{"get"},
                 {},
                 {},
                 {},
                 {},
                 {"/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", "/version",
                  "/version/", "/healthz", "/livez", "/readyz", "/livez/*", "/readyz/*"}});
  rules.push_back(
      PolicyRule{{"create"},
                 {"authorization.k8s.io", "authentication.k8s.io"},
                 {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"},
                 {},
                 {},
                 {}});
  return rules;
}

bool TokenTable::Allowed(const Identity& identity, const Attributes& attributes) const {
  const std::vector<PolicyRule> rules = RulesFor(identity);
  return std::any_of(rules.begin(), rules.end(),
                     [&](const PolicyRule& rule) { return RuleAllows(rule, attributes); });
}

}  // namespace apiserver
