#include "core/source_uri.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

namespace core {
namespace {

constexpr size_t kMaxBytes = 2048;

constexpr char kForms[] =
    "gitea://owner/repo[/folder]#tag:v1, github://owner/repo[/folder]#tag:v1, "
    "git+https://host/path.git[//folder]#tag:v1, git+ssh://host/path.git[//folder]#tag:v1, "
    "oci://registry/repository@sha256:..., local://name";

base::Error Bad(std::string_view text, std::string_view what) {
  // What may have been a password must not come back in a message.
  const bool shown = text.size() <= 256 && text.find('@') == std::string_view::npos;
  return base::MakeError(
      base::Code::kInvalid,
      shown ? fmt::format("source `{}`: {}", text, what) : fmt::format("source: {}", what),
      "InvalidSource");
}

bool IsAlnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool IsHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  });
}

bool IsFullSha(std::string_view text) {
  return (text.size() == 40 || text.size() == 64) && IsHex(text);
}

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::vector<std::string_view> Split(std::string_view text, char by) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0;;) {
    const size_t end = text.find(by, begin);
    parts.push_back(text.substr(begin, end - begin));
    if (end == std::string_view::npos) return parts;
    begin = end + 1;
  }
}

/// What is wrong with one segment of a path; empty: nothing.
std::string SegmentFault(std::string_view segment) {
  if (segment.empty()) return "a path has an empty segment; write single slashes and no last one";
  if (segment == "." || segment == "..") return "`.` and `..` are not allowed in a path";
  if (segment[0] == '-')
    return fmt::format("the path segment `{}` begins with `-`, which programs take for an option",
                       segment);
  for (const char c : segment)
    if (!IsAlnum(c) && std::string_view("._~+-").find(c) == std::string_view::npos)
      return "a path may hold letters, digits and . _ ~ + - only";
  return "";
}

std::string PathFault(std::string_view path) {
  for (const std::string_view segment : Split(path, '/'))
    if (std::string fault = SegmentFault(segment); !fault.empty()) return fault;
  return "";
}

/// What is wrong with `port`, the text behind the colon.
std::string PortFault(std::string_view port) {
  int number = 0;
  for (const char c : port)
    number = c < '0' || c > '9' || number > 65535 ? 99999 : number * 10 + (c - '0');
  return port.empty() || number < 1 || number > 65535 ? "the port is not a number from 1 to 65535"
                                                      : "";
}

/// `[address]`, with or without a port.
std::string BracketFault(std::string_view authority) {
  const size_t end = authority.find(']');
  if (end == std::string_view::npos)
    return "the `[` of an IPv6 address has no `]`; write for instance [2001:db8::1]:8443";
  in6_addr address;
  if (::inet_pton(AF_INET6, std::string(authority.substr(1, end - 1)).c_str(), &address) != 1)
    return "what stands in brackets is no IPv6 address (zones are not allowed); write for instance "
           "[2001:db8::1]:8443";
  const std::string_view rest = authority.substr(end + 1);
  if (rest.empty()) return "";
  return rest[0] == ':' ? PortFault(rest.substr(1))
                        : "after the `]` of an IPv6 address only a port may follow";
}

std::string HostFault(std::string_view authority) {
  if (authority.find('@') != std::string_view::npos)
    return "a user or password in the address is refused; leave it out and name a Secret in "
           "spec.sourceSecretRef";
  if (authority.starts_with('[')) return BracketFault(authority);
  const size_t colon = authority.find(':');
  const std::string_view host = authority.substr(0, colon);
  if (colon != std::string_view::npos) {
    const std::string_view port = authority.substr(colon + 1);
    if (port.find(':') != std::string_view::npos)
      return "an IPv6 address is written in brackets: [2001:db8::1]:8443";
    if (std::string fault = PortFault(port); !fault.empty()) return fault;
  }
  if (host.empty()) return "the host is missing";
  if (host.size() > 253) return "the host is longer than 253 bytes";
  if (!IsAlnum(host[0])) return "the host must begin with a letter or digit";
  for (const char c : host)
    if (!IsAlnum(c) && c != '.' && c != '-')
      return "the host may hold letters, digits, . and - only";
  return "";
}

/// The rules of git-check-ref-format that matter here, and no leading `-`.
std::string RefNameFault(std::string_view name) {
  if (name.empty()) return "the ref after `#` is empty; write for instance #tag:v1.0.0";
  if (name.size() > 255) return "the ref is longer than 255 bytes";
  if (name[0] == '-') return "the ref begins with `-`, which programs take for an option";
  if (name[0] == '/' || name.back() == '/' || name.back() == '.')
    return "the ref has `/` or `.` at an end where it may not be";
  for (const std::string_view bad : {"..", "//", "@{", "/."})
    if (name.find(bad) != std::string_view::npos)
      return fmt::format("the ref may not hold `{}`", bad);
  if (name.ends_with(".lock")) return "the ref may not end in .lock";
  for (const char c : name)
    if (std::string_view(" ~^:?*[\\#").find(c) != std::string_view::npos)
      return fmt::format(
          "the ref may not hold `{}`; write tag:NAME, sha:FULL, branch:NAME or a bare name", c);
  return "";
}

std::string ParseRef(std::string_view text, SourceUri* uri) {
  if (text.starts_with("tag:")) {
    uri->ref_kind = RefKind::kTag;
    uri->ref = text.substr(4);
  } else if (text.starts_with("branch:")) {
    uri->ref_kind = RefKind::kBranch;
    uri->ref = text.substr(7);
  } else if (text.starts_with("sha:")) {
    uri->ref_kind = RefKind::kCommit;
    uri->ref = Lower(text.substr(4));
    if (!IsFullSha(uri->ref)) return "sha: needs the full commit id, 40 or 64 hex digits";
  } else {
    uri->ref_kind = IsFullSha(text) ? RefKind::kCommit : RefKind::kBare;
    uri->ref = IsFullSha(text) ? Lower(text) : std::string(text);
  }
  return RefNameFault(uri->ref);
}

/// owner/repo[/subpath]
std::string ParseForge(std::string_view rest, SourceUri* uri) {
  if (rest.find('@') != std::string_view::npos)
    return "a user or password in the address is refused; leave it out and name a Secret in "
           "spec.sourceSecretRef";
  if (rest.find("//") != std::string_view::npos)
    return "write owner/repo/folder with single slashes";
  const std::vector<std::string_view> parts = Split(rest, '/');
  if (parts.size() < 2)
    return "write owner/repo, with an optional folder behind it: owner/repo/folder";
  if (std::string fault = PathFault(rest); !fault.empty()) return fault;
  const size_t repository = parts[0].size() + 1 + parts[1].size();
  uri->repository = rest.substr(0, repository);
  if (rest.size() > repository) uri->subpath = rest.substr(repository + 1);
  return "";
}

/// host/path.git[//subpath]
std::string ParseGit(std::string_view rest, SourceUri* uri) {
  const size_t slash = rest.find('/');
  if (std::string fault = HostFault(rest.substr(0, slash)); !fault.empty()) return fault;
  if (slash == std::string_view::npos || slash + 1 == rest.size())
    return "the repository's path is missing: host/path.git";
  uri->host = rest.substr(0, slash);
  std::string_view path = rest.substr(slash + 1);
  if (const size_t folder = path.find("//"); folder != std::string_view::npos) {
    uri->subpath = path.substr(folder + 2);
    path = path.substr(0, folder);
    if (std::string fault = PathFault(uri->subpath); !fault.empty()) return fault;
  }
  uri->repository = path;
  return PathFault(path);
}

/// registry/repository@sha256:... or registry/repository:tag
std::string ParseOci(std::string_view rest, SourceUri* uri) {
  const size_t slash = rest.find('/');
  if (slash == std::string_view::npos)
    return "write registry/repository@sha256:... or registry/repository:tag";
  if (std::string fault = HostFault(rest.substr(0, slash)); !fault.empty()) return fault;
  uri->host = rest.substr(0, slash);
  std::string_view path = rest.substr(slash + 1);
  if (const size_t at = path.find('@'); at != std::string_view::npos) {
    const std::string_view digest = path.substr(at + 1);
    if (!digest.starts_with("sha256:") || digest.size() != 71 || !IsHex(digest.substr(7)))
      return "after `@` a digest is needed: sha256: and 64 hex digits";
    uri->ref_kind = RefKind::kDigest;
    uri->ref = Lower(digest);
    path = path.substr(0, at);
  } else if (const size_t colon = path.find(':'); colon != std::string_view::npos) {
    const std::string_view tag = path.substr(colon + 1);
    const bool fine = !tag.empty() && tag.size() <= 128 && tag[0] != '-' && tag[0] != '.' &&
                      std::all_of(tag.begin(), tag.end(), [](char c) {
                        return IsAlnum(c) || c == '.' || c == '_' || c == '-';
                      });
    if (!fine)
      return "a tag has 1 to 128 letters, digits, _ . - and begins with a letter, a digit or _";
    uri->ref_kind = RefKind::kTag;
    uri->ref = tag;
    path = path.substr(0, colon);
  }
  if (std::any_of(path.begin(), path.end(), [](char c) { return c >= 'A' && c <= 'Z'; }))
    return "the repository of a registry is written in lower case";
  uri->repository = path;
  return PathFault(path);
}

std::string ParseLocal(std::string_view rest, SourceUri* uri) {
  if (rest.find('/') != std::string_view::npos)
    return "a local source is one name, without slashes: local://name";
  uri->repository = rest;
  return SegmentFault(rest);
}

struct Scheme {
  std::string_view prefix;
  SourceScheme scheme;
  std::string (*parse)(std::string_view, SourceUri*);
};
constexpr std::array<Scheme, 7> kSchemes = {{{"gitea://", SourceScheme::kGitea, ParseForge},
                                             {"github://", SourceScheme::kGithub, ParseForge},
                                             {"git+http://", SourceScheme::kGitHttp, ParseGit},
                                             {"git+https://", SourceScheme::kGitHttps, ParseGit},
                                             {"git+ssh://", SourceScheme::kGitSsh, ParseGit},
                                             {"oci://", SourceScheme::kOci, ParseOci},
                                             {"local://", SourceScheme::kLocal, ParseLocal}}};

bool HasFragment(SourceScheme scheme) {
  return scheme != SourceScheme::kOci && scheme != SourceScheme::kLocal;
}

std::string ParseBody(std::string_view body, const Scheme& scheme, SourceUri* uri) {
  if (body.find('?') != std::string_view::npos) return "a query (`?`) is not allowed";
  const size_t hash = body.find('#');
  if (hash != std::string_view::npos) {
    if (!HasFragment(scheme.scheme))
      return scheme.scheme == SourceScheme::kOci
                 ? "a registry's ref is written @sha256:... or :tag, not with `#`"
                 : "a local source has no ref; write local://name";
    if (std::string fault = ParseRef(body.substr(hash + 1), uri); !fault.empty()) return fault;
  }
  return scheme.parse(body.substr(0, hash), uri);
}

}  // namespace

std::string SourceUri::DefaultPluginName() const {
  const std::string_view path =
      subpath.empty() ? std::string_view(repository) : std::string_view(subpath);
  std::string_view last = path.substr(path.rfind('/') + 1);
  if (subpath.empty() && last.size() > 4 && last.ends_with(".git")) last.remove_suffix(4);
  return std::string(last);
}

base::Result<SourceUri> ParseSourceUri(std::string_view text) {
  if (text.empty())
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("source is empty; write one of {}", kForms),
                           "InvalidSource");
  if (text.size() > kMaxBytes) return Bad("", fmt::format("longer than {} bytes", kMaxBytes));
  for (const char c : text)
    if (static_cast<unsigned char>(c) <= 0x20 || static_cast<unsigned char>(c) >= 0x7f)
      return Bad("", "blanks, control characters and non-ASCII bytes are not allowed in a source");
  for (const Scheme& scheme : kSchemes) {
    if (!text.starts_with(scheme.prefix)) continue;
    SourceUri uri;
    uri.scheme = scheme.scheme;
    uri.text = text;
    const std::string fault = ParseBody(text.substr(scheme.prefix.size()), scheme, &uri);
    if (!fault.empty()) return Bad(text, fault);
    return uri;
  }
  return Bad(text, fmt::format("unknown scheme; write one of {}", kForms));
}

base::Result<SourceUri> AtCommit(const SourceUri& uri, const std::string& commit) {
  const bool history = uri.scheme != SourceScheme::kLocal && uri.scheme != SourceScheme::kOci;
  if (history && IsFullSha(commit))
    return ParseSourceUri(uri.text.substr(0, uri.text.find('#')) + "#sha:" + commit);
  const std::string why =
      commit.empty()
          ? fmt::format("nobody knows at which revision source `{}` had what was installed",
                        uri.text)
          : fmt::format(
                "source `{}` cannot be asked for its revision `{}`: it keeps no earlier ones",
                uri.text, commit);
  return base::MakeError(base::Code::kNotFound,
                         why +
                             "; set the annotation molecule.ai/reconcile-requested-at to install "
                             "what it has now",
                         "RevisionGone");
}

}  // namespace core
