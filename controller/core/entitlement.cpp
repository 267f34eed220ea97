#include "core/entitlement.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/reasons.hpp"
#include "core/source_uri.hpp"

namespace core {
namespace {

bool Contains(const std::vector<std::string>& list, std::string_view value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

/// Without letter case and ".git": how a server would take the name, so that spelling does not get
/// a plugin past the list.
std::string Canonical(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  if (out.ends_with(".git")) out.resize(out.size() - 4);
  return out;
}

/// Same scheme family, host, repository and folder, whatever the ref.
bool SameOrigin(std::string_view a, std::string_view b) {
  if (a == b) return true;
  const auto left = ParseSourceUri(a);
  const auto right = ParseSourceUri(b);
  if (!left || !right) return false;
  const auto plain = [](SourceScheme s) {
    return s == SourceScheme::kGitHttp || s == SourceScheme::kGitSsh ? SourceScheme::kGitHttps : s;
  };
  return plain(left->scheme) == plain(right->scheme) &&
         Canonical(left->host) == Canonical(right->host) &&
         Canonical(left->repository) == Canonical(right->repository) &&
         left->subpath == right->subpath;
}

base::Error NotEntitled(std::string message) {
  return base::MakeError(base::Code::kForbidden, std::move(message), reason::kNotEntitled);
}

}  // namespace

const PrivilegedPlugin* FindPrivileged(std::string_view plugin_name, std::string_view source,
                                       std::string_view digest, const Policy& policy) {
  const PrivilegedPlugin* found = nullptr;
  for (const PrivilegedPlugin& entry : policy.privileged) {
    if (entry.name == plugin_name) return &entry;  // The name decides which entry's rules hold.
    if (found == nullptr && (SameOrigin(source, entry.source) ||
                             (!digest.empty() && Contains(entry.allowed_digests, digest))))
      found = &entry;
  }
  return found;
}

base::Status CheckEntitlement(api::WorkspaceKind kind, std::string_view plugin_name,
                              std::string_view source, std::string_view digest,
                              const Policy& policy) {
  const PrivilegedPlugin* entry = FindPrivileged(plugin_name, source, digest, policy);
  if (entry == nullptr) return {};
  if (kind != api::WorkspaceKind::kPlatform)
    return NotEntitled(fmt::format(
        "plugin `{}` is privileged (`{}` of the operator's privilegedPlugins) and only accepted on "
        "a workspace with spec.kind: Platform",
        plugin_name, entry->name));
  if (entry->name != plugin_name)
    return NotEntitled(
        fmt::format("plugin `{}` has the content or origin of the privileged plugin "
                    "`{}` and must be declared under that name",
                    plugin_name, entry->name));
  if (entry->source != source)
    return NotEntitled(fmt::format(
        "the privileged plugin `{}` is only accepted from `{}`; remove this declaration, or change "
        "privilegedPlugins in the operator's settings",
        plugin_name, entry->source));
  if (!digest.empty() && !Contains(entry->allowed_digests, digest))
    return NotEntitled(fmt::format(
        "the privileged plugin `{}` has digest {}, which privilegedPlugins[{}].digests does not "
        "list; an administrator must add it in the operator's settings",
        plugin_name, digest, plugin_name));
  return {};
}

}  // namespace core
