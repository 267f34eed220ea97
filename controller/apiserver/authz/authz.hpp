#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace apiserver {

struct Identity {
  std::string user;
  std::string uid;
  std::vector<std::string> groups;
};

/// What a caller may do, in the words of a Kubernetes policy rule; "*" matches all. Empty
/// `namespaces` means all of them and cluster-scoped resources; empty `names` means any.
struct PolicyRule {
  std::vector<std::string> verbs;
  std::vector<std::string> groups;
  std::vector<std::string> resources;  ///< "workspaces", "workspaces/status", "*"
  std::vector<std::string> namespaces;
  std::vector<std::string> names;
  std::vector<std::string> paths;  ///< Non-resource URLs; a trailing * matches any rest.
};

/// One question to the authorizer. `path` is set for non-resource requests only.
struct Attributes {
  std::string verb;
  std::string group;
  std::string resource;
  std::string subresource;
  std::string ns;
  std::string name;
  std::string path;
};

/// Bearer tokens and what they may do. Holds hashes only; a comparison visits every entry, whatever
/// it finds. Not thread safe while Add or Load run; const use is.
class TokenTable {
 public:
  /// Adds a token. kInvalid when it is shorter than 16 bytes or its user is empty.
  base::Status Add(std::string_view token, Identity identity, std::vector<PolicyRule> rules);
  /// Adds the tokens of a YAML or JSON file: `tokens: [{token | tokenSHA256, user, uid, groups[],
  /// rules[]}]`. The file must not be accessible to others (mode 0600 or 0400). Messages never hold
  /// a token.
  base::Status Load(const std::string& path);

  /// The identity of a token, or nothing.
  std::optional<Identity> Authenticate(std::string_view token) const;
  /// Members of system:masters may do everything; others what the rules of any of their tokens'
  /// user allow.
  bool Allowed(const Identity& identity, const Attributes& attributes) const;
  /// The rules that hold for an identity (for selfsubjectrulesreviews).
  std::vector<PolicyRule> RulesFor(const Identity& identity) const;

 private:
  struct Entry {
    std::array<uint8_t, 32> hash{};
    Identity identity;
    std::vector<PolicyRule> rules;
  };
  base::Status AddEntry(Entry entry);
  std::vector<Entry> entries_;
};

/// The group that may do everything.
inline constexpr std::string_view kMasters = "system:masters";

}  // namespace apiserver
