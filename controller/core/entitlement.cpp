#include "core/entitlement.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/reasons.hpp"
#include "core/source_uri.hpp"

namespace core {
namespace {

bool Contains(const std::vector<std::string>& list, std::string_view value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

/// Base URLs may be percent-encoded; sources may not.
std::string Decoded(std::string_view text) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool coded =
        text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0;
    out += coded ? static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2])) : text[i];
    if (coded) i += 2;
  }
  return out;
}

/// Without the port: one server has several (https, its own http, ssh), and they show the same
/// repositories. Addresses in one spelling; no last dot.
std::string CanonicalHost(std::string_view authority) {
  authority = authority.substr(authority.rfind('@') + 1);
  if (authority.starts_with('[')) {
    const std::string text(authority.substr(1, authority.find(']') - 1));
    in6_addr address;
    char out[INET6_ADDRSTRLEN];
    if (::inet_pton(AF_INET6, text.c_str(), &address) == 1)
      return ::inet_ntop(AF_INET6, &address, out, sizeof out);
    return Lower(text);
  }
  std::string host = Lower(authority.substr(0, authority.find(':')));
  while (host.ends_with('.')) host.pop_back();
  in_addr address;
  char out[INET_ADDRSTRLEN];
  if (::inet_aton(host.c_str(), &address) == 1)
    return ::inet_ntop(AF_INET, &address, out, sizeof out);
  return host;
}

/// As servers take it: without letter case, repeated slashes and ".git".
std::string CanonicalPath(std::string_view path) {
  std::string out;
  for (const char c : Lower(path))
    if (c != '/' || (!out.empty() && out.back() != '/')) out += c;
  while (out.ends_with('/')) out.pop_back();
  if (out.ends_with(".git")) out.resize(out.size() - 4);
  return out;
}

/// Host and path of a repository below an operator's base URL. Without one nothing can be fetched,
/// and the scheme stands for the host.
std::string BelowBase(std::string_view scheme, const std::string& base_url,
                      const std::string& repository) {
  const std::string url = Decoded(base_url);
  const size_t start = url.find("://");
  if (start == std::string::npos) return fmt::format("{}://{}", scheme, CanonicalPath(repository));
  const std::string_view rest = std::string_view(url).substr(start + 3);
  const size_t slash = std::min(rest.find('/'), rest.size());
  return CanonicalHost(rest.substr(0, slash)) + "/" +
         CanonicalPath(fmt::format("{}/{}", rest.substr(slash), repository));
}

/// Where the bytes really come from, whatever the ref and however it is spelled.
std::string Origin(const SourceUri& uri, const Policy& policy) {
  switch (uri.scheme) {
    case SourceScheme::kGitea:
      return "git " + BelowBase("gitea", policy.gitea_base_url, uri.repository);
    case SourceScheme::kGithub:
      return "git " + BelowBase("github", policy.github_base_url, uri.repository);
    case SourceScheme::kGitHttp:
    case SourceScheme::kGitHttps:
    case SourceScheme::kGitSsh:
      return "git " + CanonicalHost(uri.host) + "/" + CanonicalPath(uri.repository);
    case SourceScheme::kOci:
      return "oci " + CanonicalHost(uri.host) + "/" + CanonicalPath(uri.repository);
    case SourceScheme::kLocal:
      break;
  }
  return "local " + CanonicalPath(uri.repository);
}

bool SameOrigin(std::string_view a, std::string_view b, const Policy& policy) {
  if (a == b) return true;
  const auto left = ParseSourceUri(a);
  const auto right = ParseSourceUri(b);
  return left && right && left->subpath == right->subpath &&
         Origin(*left, policy) == Origin(*right, policy);
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
    if (found == nullptr && (SameOrigin(source, entry.source, policy) ||
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
