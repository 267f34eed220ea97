#include "source/git_source.hpp"

#include <doctest/doctest.h>

#include "bundle/canonical_tar.hpp"
#include "source/git_program.hpp"
#include "source/source_set.hpp"
#include "support/git_server.hpp"
#include "support/ipv6.hpp"
#include "support/plugin_tar.hpp"

using namespace support;
namespace fs = std::filesystem;
using source::Credentials;

namespace {

core::SourceUri Uri(const std::string& host, const std::string& repository,
                    const std::string& ref = "", const std::string& subpath = "") {
  core::SourceUri uri;
  uri.scheme = core::SourceScheme::kGitHttp;
  uri.host = host;
  uri.repository = repository;
  uri.subpath = subpath;
  const size_t colon = ref.find(':');
  const std::string kind = colon == std::string::npos ? "" : ref.substr(0, colon);
  uri.ref = colon == std::string::npos ? ref : ref.substr(colon + 1);
  uri.ref_kind = ref.empty()        ? core::RefKind::kNone
                 : kind == "tag"    ? core::RefKind::kTag
                 : kind == "branch" ? core::RefKind::kBranch
                 : kind == "sha"    ? core::RefKind::kCommit
                                    : core::RefKind::kBare;
  uri.text = "git+http://" + host + "/" + repository + "//" + subpath + "#" + ref;
  return uri;
}

struct Fixture {
  GitServer server;
  TempFolder temp;
  source::SourceSettings settings;
  std::unique_ptr<source::PluginSource> git;

  Fixture() {
    settings.work_directory = temp / "work";
    settings.plain_http_hosts = {"127.0.0.1"};
    settings.git.low_speed_seconds = 2;
    settings.git.resolve_deadline = base::Millis(20'000);
    Make();
  }
  void Make() {
    auto made = source::MakeSources(settings);
    REQUIRE_MESSAGE(made, (made ? "" : made.error().message));
    git = *std::move(made);
  }
  base::Result<source::Resolution> Resolve(const std::string& repository, const std::string& ref,
                                           const std::optional<Credentials>& who = {}) {
    return git->Resolve(Uri(server.Host(), repository, ref), who, {});
  }
  base::Result<source::Artifact> Get(const std::string& repository, const std::string& ref,
                                     const std::string& subpath = "",
                                     const std::optional<Credentials>& who = {}) {
    const auto uri = Uri(server.Host(), repository, ref, subpath);
    auto resolution = git->Resolve(uri, who, {});
    if (!resolution) return resolution.error();
    return git->Fetch(uri, *resolution, who, temp / "out.tar", {});
  }
  std::string Reason(const std::string& repository, const std::string& ref,
                     const std::string& subpath = "", const std::optional<Credentials>& who = {}) {
    const auto artifact = Get(repository, ref, subpath, who);
    if (artifact) return "";
    last_message = artifact.error().message;
    return artifact.error().reason;
  }
  /// Nothing of a finished run stays behind.
  bool WorkIsClean() const {
    for (const auto& entry : fs::directory_iterator(settings.work_directory))
      if (entry.path().filename().string().starts_with("git-")) return false;
    return true;
  }
  std::string last_message;
};

constexpr char kPlugin[] =
    "printf 'name: hello\\nversion: 1\\n' > plugin.yaml; mkdir -p bin; printf '#!/bin/sh\\n' > "
    "bin/run.sh; chmod +x bin/run.sh; git add -A; git commit -qm one; ";

}  // namespace

TEST_CASE("tags (annotated and light), branches, commits and bare refs resolve rightly") {
  Fixture f;
  const std::string ids = f.server.MakeRepository(
      "hello",
      std::string(kPlugin) +
          "git tag light; git tag -m note noted; git tag -m deep nested noted; git branch both; "
          "git tag both; echo x > y; git add y; git commit -qm two; git branch next; "
          "echo $(git rev-parse main~1) $(git rev-parse main)");
  const std::string one = ids.substr(0, 40), two = ids.substr(41);
  const struct {
    std::string ref, commit, kind;
  } rows[] = {{"tag:light", one, "Tag"},      {"tag:noted", one, "Tag"},
              {"tag:nested", one, "Tag"},     {"branch:main", two, "Branch"},
              {"branch:next", two, "Branch"}, {"sha:" + one, one, "Commit"},
              {one, one, "Commit"},           {"light", one, "Tag"},
              {"next", two, "Branch"},        {"tag:both", one, "Tag"}};
  for (const auto& row : rows) {
    CAPTURE(row.ref);
    const auto resolution = f.Resolve("open/hello.git", row.ref);
    REQUIRE_MESSAGE(resolution, (resolution ? "" : resolution.error().message));
    CHECK(resolution->commit == row.commit);
    CHECK(resolution->ref_kind == row.kind);
  }
  const auto both = f.Resolve("open/hello.git", "both");
  REQUIRE_FALSE(both);
  CHECK(both.error().reason == "RefAmbiguous");
  CHECK(both.error().message.find("#tag:both") != std::string::npos);
  CHECK(both.error().message.find("#branch:both") != std::string::npos);
  for (const char* missing :
       {"tag:nope", "branch:light", "tag:next", "nope", "tag:l*", "sha:abc123"})
    CHECK(f.Resolve("open/hello.git", missing).error().reason == "RefNotFound");
  CHECK(f.Resolve("open/hello.git", "").error().reason == "RefNotPinned");
  f.settings.allow_unpinned = true;
  f.Make();
  CHECK(f.Resolve("open/hello.git", "")->commit == two);
  CHECK(f.WorkIsClean());
}

TEST_CASE("a fetched plugin is the canonical tar of its folder, the same every time") {
  Fixture f;
  f.server.MakeRepository(
      "mono",
      "mkdir -p plugins/a plugins/poems other; printf 'name: a\\nreload: none\\n' > "
      "plugins/a/plugin.yaml; printf "
      "'#!x' > plugins/a/run; chmod +x plugins/a/run; "
      "printf '# Poems\\n' > plugins/poems/SKILL.md; ln -s /etc/passwd other/link; : > "
      "plugins/a/empty; git add -A; git commit -qm one; git tag v1");
  const auto artifact = f.Get("open/mono.git", "tag:v1", "plugins/a");
  REQUIRE_MESSAGE(artifact, (artifact ? "" : artifact.error().message));
  CHECK(artifact->plugin_name == "a");
  CHECK(artifact->reload_none);
  CHECK(artifact->digest ==
        PackPlugin({{"plugin.yaml", "name: a\nreload: none\n"}, {"run", "#!x"}, {"empty", ""}},
                   f.temp / "same.tar")
            .digest);
  CHECK(ReadText(f.temp / "out.tar") == ReadText(f.temp / "same.tar"));
  CHECK(artifact->size_bytes == fs::file_size(f.temp / "out.tar"));
  CHECK(f.Get("open/mono.git", "tag:v1", "plugins/poems")->plugin_name == "poems");
  CHECK(f.Reason("open/mono.git", "tag:v1", "plugins/none") == "PathNotFound");
  CHECK(f.Reason("open/mono.git", "tag:v1", "plugins/a/run") == "PathNotFound");
  CHECK(f.Reason("open/mono.git", "tag:v1", "plugins") == "ManifestMissing");
  CHECK(f.Reason("open/mono.git", "tag:v1", "../etc") == "NameNotAllowed");
  CHECK(f.Reason("open/mono.git", "tag:v1", "other") == "SymlinkNotAllowed");
  CHECK(f.Reason("open/mono.git", "sha:" + std::string(40, '1')) == "RefNotFound");
  CHECK(f.WorkIsClean());
}

TEST_CASE("a tag that moves gives the new commit; the old commit can still be fetched by its sha") {
  Fixture f;
  const std::string one =
      f.server.MakeRepository("hello", std::string(kPlugin) + "git tag v1; git rev-parse HEAD");
  CHECK(f.Resolve("open/hello.git", "tag:v1")->commit == one);
  const std::string two = f.server.Change("hello",
                                          "echo 2 > two; git add two; git commit -qm two; git tag "
                                          "-f v1 >/dev/null; git rev-parse HEAD");
  CHECK(f.Resolve("open/hello.git", "tag:v1")->commit == two);
  CHECK(f.Reason("open/hello.git", "sha:" + one) == "");
}

TEST_CASE("a private repository opens with its token, and the token shows up nowhere") {
  Fixture f;
  f.settings.askpass_program = WO_PROGRAM;
  f.settings.git.memory_bytes = 0;  // The program is built with a sanitizer that wants terabytes.
  f.Make();
  f.server.MakeRepository("hello", std::string(kPlugin) + "git tag v1");
  CHECK(f.Reason("private/hello.git", "tag:v1", "", Credentials{"bot", "s3cret-token"}) == "");
  CHECK(f.Reason("private/hello.git", "tag:v1") == "SourceUnauthorized");
  CHECK(f.Reason("private/hello.git", "tag:v1", "", Credentials{"bot", "wr0ng-token"}) ==
        "SourceUnauthorized");
  CHECK(f.last_message.find("wr0ng-token") == std::string::npos);
  CHECK(f.server.Log().find("s3cret-token") == std::string::npos);
  CHECK(f.WorkIsClean());
  const Credentials who{"bot", "s3cret-token"};
  CHECK(source::SanitiseGitText("remote: \x1b[31mno s3cret-token\nfor bot\r\xff", &who) ==
        "remote: no *** for bot");
}

TEST_CASE("settings that are read again take nothing from the fetches under way") {
  Fixture f;
  const auto running = source::GitProgram::Make(f.settings);
  REQUIRE(running);
  const auto fetch = running->MakeScratch("fetch"), secret = running->MakeScratch("secret");
  REQUIRE((fetch && secret));
  fs::create_directory(f.settings.work_directory + "/git-fetch-of-a-process-that-was-killed");
  f.Make();
  CHECK(fs::exists(*fetch));
  CHECK(fs::exists(*secret));
  running->RemoveScratch(*fetch);
  running->RemoveScratch(*secret);
  CHECK(f.WorkIsClean());
}

TEST_CASE("git that cannot ask for the password blames neither the token nor the source") {
  Fixture f;
  f.server.MakeRepository("hello", std::string(kPlugin) + "git tag v1");
  for (const char* program : {"/none/askpass", "/bin/false"}) {
    CAPTURE(program);
    f.settings.askpass_program = program;
    f.Make();
    CHECK(f.Reason("private/hello.git", "tag:v1", "", Credentials{"bot", "s3cret-token"}) ==
          "GitHelperMissing");
    CAPTURE(f.last_message);
    CHECK(f.last_message.find("the token of sourceSecretRef") == std::string::npos);
    CHECK(f.last_message.find("the operator's installation") != std::string::npos);
  }
  CHECK(f.WorkIsClean());
}

TEST_CASE(
    "servers that hang, stall, redirect, fail, never end or are not there give a reason in bounded "
    "time") {
  Fixture f;
  f.server.MakeRepository("hello", std::string(kPlugin) + "git tag v1");
  f.settings.git.resolve_deadline = base::Millis(4'000);
  f.Make();
  CHECK(f.Reason("hang/hello.git", "tag:v1") == "SourceTimeout");
  CHECK(f.Reason("stall/hello.git", "tag:v1") == "SourceTimeout");
  CHECK(f.Reason("redirect/hello.git", "tag:v1") == "SourceRedirected");
  CHECK(f.server.Count("/open/") == 0);
  CHECK(f.Reason("fail/hello.git", "tag:v1") == "SourceUnavailable");
  CHECK(f.Reason("open/none.git", "tag:v1") == "SourceUnavailable");
  const std::string endless = f.Reason("endless/hello.git", "tag:v1");
  CHECK((endless == "TooLarge" || endless == "SourceTimeout" || endless == "SourceUnavailable"));
  const auto gone = f.git->Resolve(Uri("127.0.0.1:1", "x.git", "tag:v1"), {}, {});
  REQUIRE_FALSE(gone);
  CHECK(gone.error().reason == "SourceUnavailable");
  CHECK(gone.error().code == base::Code::kUnavailable);
  std::stop_source stop;
  stop.request_stop();
  CHECK(f.git->Resolve(Uri(f.server.Host(), "hang/hello.git", "tag:v1"), {}, stop.get_token())
            .error()
            .code == base::Code::kCancelled);
  CHECK(f.WorkIsClean());
}

TEST_CASE("repositories made to break out or to flood are refused with their reason") {
  Fixture f;
  const std::string blob = "B=$(printf 'name: x\\n' | git hash-object -w --stdin); ";
  const auto crafted = [&](const std::string& name, const std::string& tree) {
    f.server.MakeRepository(
        name, blob + tree + " C=$(git commit-tree -m x $T); git update-ref refs/heads/main $C");
  };
  const auto entry = [](const std::string& mode, const std::string& type, const std::string& id,
                        const std::string& path) {
    return "printf '" + mode + " " + type + " %s\\t" + path + "\\0' " + id + "; ";
  };
  const std::string manifest = entry("100644", "blob", "$B", "plugin.yaml");
  const struct {
    const char* name;
    std::string entries;
    std::string reason;
  } rows[] = {
      {"symlink", entry("120000", "blob", "$B", "link") + manifest, "SymlinkNotAllowed"},
      {"submodule", entry("160000", "commit", std::string(40, '1'), "module") + manifest,
       "SubmoduleNotAllowed"},
      {"case", entry("100644", "blob", "$B", "A") + entry("100644", "blob", "$B", "a") + manifest,
       "NameNotAllowed"},
      {"newline", entry("100644", "blob", "$B", "a\\nb") + manifest, "NameNotAllowed"},
      {"escape", entry("100644", "blob", "$B", "a\\033[2J") + manifest, "NameNotAllowed"},
      {"backslash", entry("100644", "blob", "$B", "a\\\\\\\\b") + manifest, "NameNotAllowed"},
      {"latin1", entry("100644", "blob", "$B", "a\\377") + manifest, "NameNotAllowed"},
      {"longname", entry("100644", "blob", "$B", std::string(4000, 'n')) + manifest,
       "NameNotAllowed"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.name);
    crafted(row.name, "T=$({ " + row.entries + "} | git mktree -z --missing);");
    CHECK(f.Reason(std::string("open/") + row.name + ".git", "branch:main") == row.reason);
  }
  // git mktree does not make these: the tree is written as bytes.
  const std::string raw = "ID=$(printf %s $B | sed 's/../\\\\x&/g'); ";
  for (const std::string name : {"..", ".git", ".", "a/b"}) {
    CAPTURE(name);
    const std::string repository =
        "raw" + std::to_string(name.size()) + std::to_string(static_cast<int>(name[0] == '.'));
    crafted(repository, raw + "T=$(bash -c \"printf '100644 " + name +
                            "\\0$ID'\" | git hash-object -w --literally -t tree --stdin);");
    CHECK(f.Reason("open/" + repository + ".git", "branch:main") == "NameNotAllowed");
  }
  crafted("deep",
          "T=$(printf '100644 blob %s\\tx\\n' $B | git mktree); for i in $(seq 40); do T=$(printf "
          "'040000 tree %s\\td\\n' $T | git mktree); done;");
  CHECK(f.Reason("open/deep.git", "branch:main") == "TooDeep");
  crafted(
      "many",
      "T=$(for i in $(seq 30000); do printf '100644 blob %s\\tf%s\\n' $B $i; done | git mktree);");
  CHECK(f.Reason("open/many.git", "branch:main") == "TooManyEntries");
  // 10 levels of 10 equal folders: 10^10 paths from eleven objects.
  crafted(
      "bomb",
      "T=$(printf '100644 blob %s\\tx\\n' $B | git mktree); for i in $(seq 10); do T=$(for j in 0 "
      "1 2 3 4 5 6 7 8 9; do printf '040000 tree %s\\td%s\\n' $T $j; done | git mktree); done;");
  CHECK(f.Reason("open/bomb.git", "branch:main") == "TooManyEntries");
  f.server.MakeRepository("blobtag", blob + kPlugin + "git tag justblob $B");
  CHECK(f.Reason("open/blobtag.git", "tag:justblob") == "RefNotFound");
  CHECK(f.WorkIsClean());
}

TEST_CASE("a huge blob is refused by its announced size, and a huge pack by the size of the file") {
  Fixture f;
  f.server.MakeRepository(
      "big",
      std::string(kPlugin) + "head -c 40000000 /dev/zero > zeros; git add -A; git commit -qm big");
  CHECK(f.Reason("open/big.git", "branch:main") == "TooLarge");
  f.server.MakeRepository(
      "pack", std::string(kPlugin) +
                  "head -c 3000000 /dev/urandom > noise; git add -A; git commit -qm big");
  CHECK(f.Reason("open/pack.git", "branch:main") == "");
  f.settings.git.pack_bytes = 1 << 20;
  f.Make();
  const std::string reason = f.Reason("open/pack.git", "branch:main");
  CHECK_MESSAGE(reason == "TooLarge", f.last_message);
  CHECK(f.WorkIsClean());
}

TEST_CASE(
    "a git server at an IPv6 address is named, reached and given its credentials as any other") {
  if (!support::HasIpv6()) return;
  Fixture f;
  GitServer server("s3cret-token", "::1");
  server.MakeRepository("hello", std::string(kPlugin) + "git tag v1");
  const auto get = [&](const std::string& repository, const std::optional<Credentials>& who) {
    const auto uri = *core::ParseSourceUri("git+http://" + server.Host() + repository + "#tag:v1");
    const auto resolution = f.git->Resolve(uri, who, {});
    if (!resolution) return resolution.error().reason;
    const auto artifact = f.git->Fetch(uri, *resolution, who, f.temp / "out.tar", {});
    return artifact ? "" : artifact.error().reason;
  };
  CHECK(get("/open/hello.git", {}) == "HostNotAllowed");
  f.settings.plain_http_hosts = {"[::1]"};
  f.settings.askpass_program = WO_PROGRAM;
  f.settings.git.memory_bytes = 0;  // As above.
  f.Make();
  CHECK(get("/open/hello.git", {}) == "");
  CHECK(get("/private/hello.git", {}) == "SourceUnauthorized");
  CHECK(get("/private/hello.git", Credentials{"bot", "s3cret-token"}) == "");
}

TEST_CASE("only hosts and schemes that the admin named are reached") {
  Fixture f;
  const auto reason = [&](core::SourceUri uri) {
    const auto resolution = f.git->Resolve(uri, {}, {});
    return resolution ? "" : resolution.error().reason;
  };
  auto uri = Uri("evil.example", "x.git", "tag:v1");
  CHECK(reason(uri) == "HostNotAllowed");
  uri.scheme = core::SourceScheme::kGitHttps;
  CHECK(reason(uri) == "HostNotAllowed");
  uri.scheme = core::SourceScheme::kGitea;
  CHECK(reason(uri) == "SourceSchemeUnavailable");
  uri.scheme = core::SourceScheme::kGitSsh;
  CHECK(reason(uri) == "SourceSchemeUnavailable");
  uri.scheme = core::SourceScheme::kOci;
  CHECK(reason(uri) == "SourceSchemeUnavailable");
  f.server.MakeRepository("hello", std::string(kPlugin) + "git tag v1");
  f.settings.gitea_base_url = "http://" + f.server.Host() + "/open/";
  f.Make();
  auto gitea = Uri("", "hello", "tag:v1");
  gitea.scheme = core::SourceScheme::kGitea;
  CHECK(reason(gitea) == "");
  f.settings.plain_http_hosts = {};
  f.Make();
  CHECK(reason(gitea) == "HostNotAllowed");
  CHECK(reason(Uri(f.server.Host(), "open/hello.git", "tag:v1")) == "HostNotAllowed");
}

TEST_CASE("a local source is identified by its content; links and missing folders are refused") {
  Fixture f;
  const Tree tree = SimplePlugin("hello", "1");
  for (const auto& [path, content] : tree) WriteText(f.temp / ("root/hello/" + path), content);
  fs::permissions(f.temp / "root/hello/bin/run.sh", fs::perms::owner_exec, fs::perm_options::add);
  f.settings.local_root = f.temp / "root";
  f.Make();
  core::SourceUri uri;
  uri.scheme = core::SourceScheme::kLocal;
  uri.repository = "hello";
  uri.text = "local://hello";
  const auto resolution = f.git->Resolve(uri, {}, {});
  REQUIRE(resolution);
  const auto artifact = f.git->Fetch(uri, *resolution, {}, f.temp / "out.tar", {});
  REQUIRE(artifact);
  CHECK(artifact->digest == PackPlugin(tree, f.temp / "same.tar").digest);
  CHECK(resolution->commit == artifact->digest);
  WriteText(f.temp / "root/hello/new", "x");
  CHECK(f.git->Resolve(uri, {}, {})->commit != resolution->commit);
  fs::create_symlink("/etc/passwd", f.temp / "root/hello/link");
  CHECK(f.git->Resolve(uri, {}, {}).error().reason == "SymlinkNotAllowed");
  uri.repository = "none";
  CHECK(f.git->Resolve(uri, {}, {}).error().reason == "PathNotFound");
  uri.repository = "../root/hello";
  CHECK(f.git->Resolve(uri, {}, {}).error().reason == "NameNotAllowed");
}
