#include "apiserver/authz/authz.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "base/sha256.hpp"

namespace apiserver {
namespace {

const std::string kAdmin(32, 'a');
const std::string kReader(32, 'r');

TokenTable Table() {
  TokenTable table;
  REQUIRE(table.Add(kAdmin, {"admin", "", {"system:masters"}}, {}));
  PolicyRule read{{"get", "list", "watch"},
                  {"molecule.ai"},
                  {"workspaces", "workspaces/status"},
                  {"team"},
                  {},
                  {}};
  PolicyRule one{{"get"}, {""}, {"secrets"}, {"team"}, {"only"}, {}};
  REQUIRE(table.Add(kReader, {"reader", "", {"readers"}}, {read, one}));
  return table;
}

std::string WriteFile(const std::string& text, mode_t mode) {
  const std::string path =
      (std::filesystem::temp_directory_path() / ("tokens-" + base::RandomUuid())).string();
  std::ofstream(path) << text;
  chmod(path.c_str(), mode);
  return path;
}

}  // namespace

TEST_CASE("a token names its user; any other text names nobody") {
  const TokenTable table = Table();
  CHECK(table.Authenticate(kAdmin)->user == "admin");
  CHECK(table.Authenticate(kReader)->user == "reader");
  for (const std::string& token :
       {std::string(), kAdmin + "a", kAdmin.substr(1), std::string("Bearer ") + kAdmin}) {
    CAPTURE(token);
    CHECK_FALSE(table.Authenticate(token));
  }
}

TEST_CASE("rules decide what a user may do") {
  const TokenTable table = Table();
  struct Row {
    const char* sentence;
    std::string token;
    Attributes asked;
    bool allowed;
  };
  const Row rows[] = {
      {"a master deletes anything", kAdmin, {"delete", "", "namespaces", "", "", "x", ""}, true},
      {"a master reads any path", kAdmin, {"get", "", "", "", "", "", "/whatever"}, true},
      {"a reader lists in its namespace",
       kReader,
       {"list", "molecule.ai", "workspaces", "", "team", "", ""},
       true},
      {"a reader does not list elsewhere",
       kReader,
       {"list", "molecule.ai", "workspaces", "", "other", "", ""},
       false},
      {"a reader does not list everywhere",
       kReader,
       {"list", "molecule.ai", "workspaces", "", "", "", ""},
       false},
      {"a reader does not write",
       kReader,
       {"update", "molecule.ai", "workspaces", "", "team", "a", ""},
       false},
      {"a subresource needs its own word",
       kReader,
       {"get", "molecule.ai", "workspaces", "scale", "team", "a", ""},
       false},
      {"a named subresource is allowed",
       kReader,
       {"get", "molecule.ai", "workspaces", "status", "team", "a", ""},
       true},
      {"another group is another resource",
       kReader,
       {"get", "", "workspaces", "", "team", "a", ""},
       false},
      {"a name in the rule binds", kReader, {"get", "", "secrets", "", "team", "other", ""}, false},
      {"the named object is allowed",
       kReader,
       {"get", "", "secrets", "", "team", "only", ""},
       true},
      {"everybody known sees discovery",
       kReader,
       {"get", "", "", "", "", "", "/apis/molecule.ai"},
       true},
      {"nobody known sees other paths", kReader, {"get", "", "", "", "", "", "/metrics"}, false},
      {"everybody known asks what they may",
       kReader,
       {"create", "authorization.k8s.io", "selfsubjectaccessreviews", "", "", "", ""},
       true},
      {"not everybody asks for others",
       kReader,
       {"create", "authorization.k8s.io", "subjectaccessreviews", "", "", "", ""},
       false},
  };
  for (const Row& row : rows) {
    CAPTURE(row.sentence);
    CHECK(table.Allowed(*table.Authenticate(row.token), row.asked) == row.allowed);
  }
}

TEST_CASE("a tokens file is read with tokens and with hashes") {
  const std::string hash = base::Hex(base::Sha256Of(kReader));
  const std::string path =
      WriteFile("tokens:\n- user: one\n  token: " + kAdmin +
                    "\n  groups: [g]\n- user: two\n  tokenSHA256: " + hash +
                    "\n  rules:\n  - verbs: [get]\n    apiGroups: ['']\n    resources: [secrets]\n",
                0600);
  TokenTable table;
  REQUIRE(table.Load(path));
  CHECK(table.Authenticate(kAdmin)->groups.front() == "g");
  CHECK(table.Allowed(*table.Authenticate(kReader), {"get", "", "secrets", "", "x", "y", ""}));
  std::filesystem::remove(path);
}

TEST_CASE("a bad tokens file is refused, and its message holds no token") {
  struct Row {
    const char* text;
    mode_t mode;
    const char* says;
  };
  const Row rows[] = {
      {"tokens: []\n", 0644, "chmod 600"},
      {"tokens: 1\n", 0600, "list `tokens`"},
      {"- a\n- b\n", 0600, "list `tokens`"},
      {"tokens:\n- user: u\n  token: topsecret\n", 0600, "shorter"},
      {"tokens:\n- token: topsecrettopsecrettopsecret\n", 0600, "no user"},
      {"tokens:\n- user: u\n  tokenSHA256: topsecret\n", 0600, "64"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const std::string path = WriteFile(row.text, row.mode);
    TokenTable table;
    auto loaded = table.Load(path);
    REQUIRE_FALSE(loaded);
    CHECK(loaded.error().message.find(row.says) != std::string::npos);
    CHECK(loaded.error().message.find("topsecret") == std::string::npos);
    std::filesystem::remove(path);
  }
}

}  // namespace apiserver
