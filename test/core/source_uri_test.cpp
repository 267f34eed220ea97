#include "core/source_uri.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using core::ParseSourceUri;
using core::RefKind;
using core::SourceScheme;

namespace {
const std::string kSha(40, 'a');
const std::string kHex(64, 'b');
}  // namespace

TEST_CASE("every scheme and form of ref is parsed") {
  struct Row {
    std::string text;
    SourceScheme scheme;
    std::string host, repository, subpath;
    RefKind kind;
    std::string ref, name;
  };
  const std::vector<Row> rows = {
      {"gitea://o/r#tag:v1", SourceScheme::kGitea, "", "o/r", "", RefKind::kTag, "v1", "r"},
      {"gitea://o/r/a/b#branch:main", SourceScheme::kGitea, "", "o/r", "a/b", RefKind::kBranch,
       "main", "b"},
      {"github://o/r.git#v1.2.0", SourceScheme::kGithub, "", "o/r.git", "", RefKind::kBare,
       "v1.2.0", "r"},
      {"github://o/r#sha:" + kSha, SourceScheme::kGithub, "", "o/r", "", RefKind::kCommit, kSha,
       "r"},
      {"github://o/r#" + kSha, SourceScheme::kGithub, "", "o/r", "", RefKind::kCommit, kSha, "r"},
      {"github://o/r#sha:" + std::string(40, 'A'), SourceScheme::kGithub, "", "o/r", "",
       RefKind::kCommit, kSha, "r"},
      {"gitea://o/r", SourceScheme::kGitea, "", "o/r", "", RefKind::kNone, "", "r"},
      {"git+https://h.example/x/p.git#tag:release/1", SourceScheme::kGitHttps, "h.example",
       "x/p.git", "", RefKind::kTag, "release/1", "p"},
      {"git+https://h.example:8443/p.git//skills/one#v1", SourceScheme::kGitHttps, "h.example:8443",
       "p.git", "skills/one", RefKind::kBare, "v1", "one"},
      {"git+http://127.0.0.1:3000/a/b.git#v1", SourceScheme::kGitHttp, "127.0.0.1:3000", "a/b.git",
       "", RefKind::kBare, "v1", "b"},
      {"git+https://[::1]:8443/x.git#v1", SourceScheme::kGitHttps, "[::1]:8443", "x.git", "",
       RefKind::kBare, "v1", "x"},
      {"git+https://[2001:DB8::a]/o/p.git//one", SourceScheme::kGitHttps, "[2001:DB8::a]",
       "o/p.git", "one", RefKind::kNone, "", "one"},
      {"git+ssh://[fd00::10.0.0.1]:22/p.git#tag:v1", SourceScheme::kGitSsh, "[fd00::10.0.0.1]:22",
       "p.git", "", RefKind::kTag, "v1", "p"},
      {"oci://[::1]:5000/a/b:v1", SourceScheme::kOci, "[::1]:5000", "a/b", "", RefKind::kTag, "v1",
       "b"},
      {"git+ssh://h/p.git#tag:v1", SourceScheme::kGitSsh, "h", "p.git", "", RefKind::kTag, "v1",
       "p"},
      {"oci://reg:5000/a/b@sha256:" + kHex, SourceScheme::kOci, "reg:5000", "a/b", "",
       RefKind::kDigest, "sha256:" + kHex, "b"},
      {"oci://reg/a/b:v1", SourceScheme::kOci, "reg", "a/b", "", RefKind::kTag, "v1", "b"},
      {"oci://reg/a", SourceScheme::kOci, "reg", "a", "", RefKind::kNone, "", "a"},
      {"local://notes", SourceScheme::kLocal, "", "notes", "", RefKind::kNone, "", "notes"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const auto uri = ParseSourceUri(row.text);
    REQUIRE_MESSAGE(uri.has_value(), (uri ? "" : uri.error().message));
    CHECK(uri->text == row.text);
    CHECK(uri->scheme == row.scheme);
    CHECK(uri->host == row.host);
    CHECK(uri->repository == row.repository);
    CHECK(uri->subpath == row.subpath);
    CHECK(uri->ref_kind == row.kind);
    CHECK(uri->ref == row.ref);
    CHECK(uri->DefaultPluginName() == row.name);
  }
}

TEST_CASE("what cannot be a source is refused with a reason and a remedy") {
  const std::vector<std::string> bad = {"",
                                        "p",
                                        "http://h/p.git#v1",
                                        "ftp://h/p",
                                        "GITEA://o/r#v1",
                                        "gitea://o#v1",
                                        "gitea://o/#v1",
                                        "gitea:///r#v1",
                                        "gitea://o/r/#v1",
                                        "gitea://o/r//x#v1",
                                        "gitea://o/r/../x#v1",
                                        "gitea://o/r/./x#v1",
                                        "gitea://o/-r#v1",
                                        "gitea://o/r#",
                                        "gitea://o/r#tag:",
                                        "gitea://o/r#-x",
                                        "gitea://o/r#sha:abc",
                                        "gitea://o/r#a b",
                                        "gitea://o/r#a..b",
                                        "gitea://o/r#a@{1}",
                                        "gitea://o/r#a.lock",
                                        "gitea://o/r#a:b",
                                        "gitea://o/r#x#y",
                                        "gitea://o/r?x=1#v1",
                                        "gitea://o/r%2e#v1",
                                        "gitea://o/r\n#v1",
                                        "gitea://o/\xc3\xa4#v1",
                                        "gitea://u@o/r#v1",
                                        "git+https:///p.git#v1",
                                        "git+https://h#v1",
                                        "git+https://h/#v1",
                                        "git+https://u:pw@h/p.git#v1",
                                        "git+https://h:0/p.git#v1",
                                        "git+https://h:99999/p.git#v1",
                                        "git+https://h:x/p.git#v1",
                                        "git+https://-h/p.git#v1",
                                        "git+https://h/p.git//../x#v1",
                                        "git+https://h/p.git///x#v1",
                                        "git+ssh://git@h/p.git#v1",
                                        "oci://reg#v1",
                                        "oci://reg/a#v1",
                                        "oci://reg/A:v1",
                                        "oci://reg/a@sha256:12",
                                        "oci://reg/a@md5:12",
                                        "oci://reg/a:",
                                        "oci://reg/a:-x",
                                        "local://",
                                        "local://a/b",
                                        "local://..",
                                        "local://a#v1",
                                        "gitea://o/r#" + std::string(2048, 'x')};
  for (const std::string& text : bad) {
    CAPTURE(text);
    const auto uri = ParseSourceUri(text);
    REQUIRE(!uri);
    CHECK(uri.error().code == base::Code::kInvalid);
    CHECK(uri.error().reason == "InvalidSource");
    CHECK(uri.error().message.size() > 20);
    CHECK(uri.error().message.size() < 1024);
  }
}

TEST_CASE("an IPv6 address that is none, or that has no brackets, is refused with the right form") {
  struct Row {
    std::string host, says;
  };
  const std::vector<Row> rows = {{"::1", "brackets"},
                                 {"2001:db8::1:8443", "brackets"},
                                 {"[::1", "has no `]`"},
                                 {"[]", "is no IPv6 address"},
                                 {"[]:8443", "is no IPv6 address"},
                                 {"[::1::2]", "is no IPv6 address"},
                                 {"[fe80::1%25eth0]", "is no IPv6 address"},
                                 {"[fe80::1%eth0]", "is no IPv6 address"},
                                 {"[10.0.0.1]", "is no IPv6 address"},
                                 {"[host]", "is no IPv6 address"},
                                 {"[[::1]]", "is no IPv6 address"},
                                 {"[::1]8443", "only a port"},
                                 {"[::1].example", "only a port"},
                                 {"[::1]:", "port"},
                                 {"[::1]:0", "port"},
                                 {"[::1]:65536", "port"},
                                 {"[::1]:1:2", "port"},
                                 {"h]", "letters, digits"},
                                 {"u@[::1]", "sourceSecretRef"}};
  for (const Row& row : rows) {
    for (const char* scheme : {"git+https://", "git+http://", "git+ssh://", "oci://"}) {
      CAPTURE(row.host);
      CAPTURE(scheme);
      const auto uri = ParseSourceUri(scheme + row.host + "/a/b.git");
      REQUIRE(!uri);
      CHECK(uri.error().reason == "InvalidSource");
      CHECK(uri.error().message.find(row.says) != std::string::npos);
    }
  }
}

TEST_CASE("a password in a source never comes back in the message") {
  const auto uri = ParseSourceUri("git+https://user:hunter2@h/p.git#v1");
  REQUIRE(!uri);
  CHECK(uri.error().message.find("hunter2") == std::string::npos);
  CHECK(uri.error().message.find("sourceSecretRef") != std::string::npos);
}

TEST_CASE("a source at a commit is the same source without its ref; some keep no history") {
  const std::string commit(40, 'c');
  const auto at = [&](const char* text, const std::string& which) {
    const auto uri = AtCommit(*ParseSourceUri(text), which);
    return uri ? uri->text : uri.error().reason;
  };
  CHECK(at("gitea://o/p/sub#branch:main", commit) == "gitea://o/p/sub#sha:" + commit);
  CHECK(at("git+https://h/p.git#v1", commit) == "git+https://h/p.git#sha:" + commit);
  CHECK(at("gitea://o/p", commit) == "gitea://o/p#sha:" + commit);
  CHECK(at("local://p", commit) == "RevisionGone");
  CHECK(at("gitea://o/p#v1", "abc") == "RevisionGone");
  // What an image has brought may be of no known revision.
  const auto unknown = AtCommit(*ParseSourceUri("gitea://o/p"), "");
  REQUIRE(!unknown);
  CHECK(unknown.error().reason == "RevisionGone");
  CHECK(unknown.error().message.starts_with("nobody knows at which revision"));
}
