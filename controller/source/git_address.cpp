#include "source/git_address.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace source {
namespace {

/// "host[:port]" of a URL; empty if it has no such form.
std::string HostOf(std::string_view url) {
  const size_t start = url.find("://");
  if (start == std::string_view::npos) return "";
  url.remove_prefix(start + 3);
  return std::string(url.substr(0, url.find('/')));
}

/// An entry without a port stands for every port of that host.
bool IsNamed(const std::vector<std::string>& hosts, std::string_view host) {
  const std::string_view name =
      host.substr(0, host.starts_with('[') ? host.find(']') + 1 : host.find(':'));
  return std::any_of(hosts.begin(), hosts.end(), [&](const std::string& entry) {
    return entry == "*" || entry == host || entry == name;
  });
}

base::Error NotAllowed(std::string message) {
  return base::MakeError(base::Code::kForbidden, std::move(message), "HostNotAllowed");
}

base::Result<GitAddress> Check(std::string url, const SourceSettings& settings, bool base_url) {
  const bool plain = url.starts_with("http://");
  if (!plain && !url.starts_with("https://"))
    return base::MakeError(base::Code::kInvalid, fmt::format("`{}` must begin with https://", url),
                           "SourceSchemeUnavailable");
  const std::string host = HostOf(url);
  const bool named_plain =
      std::find(settings.plain_http_hosts.begin(), settings.plain_http_hosts.end(), "*") ==
          settings.plain_http_hosts.end() &&
      IsNamed(settings.plain_http_hosts, host);
  if (plain && !named_plain)
    return NotAllowed(
        fmt::format("host `{}` may not be reached by http without TLS; use https, or let the admin "
                    "add it to the plain-http hosts",
                    host));
  if (!base_url && !named_plain && !IsNamed(settings.allowed_hosts, host))
    return NotAllowed(
        fmt::format("host `{}` is not among the allowed source hosts; the admin can add it", host));
  return GitAddress{std::move(url), plain};
}

base::Result<GitAddress> BelowBase(const std::string& base_url, const core::SourceUri& uri,
                                   const SourceSettings& settings, const char* name) {
  if (base_url.empty())
    return base::MakeError(
        base::Code::kInvalid,
        fmt::format("{}:// sources need the operator setting of their base URL", name),
        "SourceSchemeUnavailable");
  std::string url = base_url;
  while (url.ends_with('/')) url.pop_back();
  url += "/" + uri.repository;
  if (!url.ends_with(".git")) url += ".git";
  return Check(std::move(url), settings, true);
}

}  // namespace

base::Result<GitAddress> MakeGitAddress(const core::SourceUri& uri,
                                        const SourceSettings& settings) {
  switch (uri.scheme) {
    case core::SourceScheme::kGitea:
      return BelowBase(settings.gitea_base_url, uri, settings, "gitea");
    case core::SourceScheme::kGithub:
      return BelowBase(settings.github_base_url, uri, settings, "github");
    case core::SourceScheme::kGitHttp:
      return Check(fmt::format("http://{}/{}", uri.host, uri.repository), settings, false);
    case core::SourceScheme::kGitHttps:
      return Check(fmt::format("https://{}/{}", uri.host, uri.repository), settings, false);
    default:
      break;
  }
  return base::MakeError(base::Code::kInvalid,
                         fmt::format("source `{}`: this operator does not serve that scheme yet; "
                                     "use git+https, gitea, github or local",
                                     uri.text),
                         "SourceSchemeUnavailable");
}

}  // namespace source
