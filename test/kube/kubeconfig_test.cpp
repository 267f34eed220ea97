#include "kube/kubeconfig.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace {

struct Folder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("wo_kube_" + std::to_string(::getpid()));
  Folder() { std::filesystem::create_directories(path / "sub"); }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(path / name) << text;
    return (path / name).string();
  }
};

constexpr const char* kFirst = R"(apiVersion: v1
kind: Config
current-context: dev
clusters:
- name: one
  cluster:
    server: https://127.0.0.1:6443/prefix
    certificate-authority-data: aGVsbG8=
    tls-server-name: api.test
    proxy-url: http://me:hush@proxy:3128
    unknown-key: ignored
users:
- name: admin
  user:
    token: secret
    as: someone
    as-groups: [a, b]
    as-uid: "7"
    as-user-extra: {scopes: [x, y], "a/b": [z]}
contexts:
- name: dev
  context: {cluster: one, user: admin, namespace: team-a}
- name: other
  context: {cluster: two, user: robot}
)";
constexpr const char* kSecond = R"(current-context: other
clusters:
- name: one
  cluster: {server: https://loses}
- name: two
  cluster: {server: https://two:1, certificate-authority: ca.crt}
users:
- name: robot
  user: {client-certificate: ../c.crt, client-key: /abs/c.key, tokenFile: token}
)";

}  // namespace

TEST_CASE(
    "kubeconfig files are merged, the first that sets an entry wins, and paths start at their own "
    "file") {
  const Folder folder;
  const std::string first = folder.Write("first", kFirst);
  const std::string second = folder.Write("sub/second", kSecond);
  const auto dev = kube::LoadKubeconfig({first, folder.path / "missing", second});
  REQUIRE(dev);
  CHECK(dev->context == "dev");
  CHECK(dev->server == "https://127.0.0.1:6443/prefix");
  CHECK(dev->ca_pem == "hello");
  CHECK(dev->tls_server_name == "api.test");
  CHECK(dev->token == "secret");
  CHECK(dev->impersonate_user == "someone");
  CHECK(dev->impersonate_groups == std::vector<std::string>{"a", "b"});
  CHECK(dev->impersonate_uid == "7");
  CHECK(dev->impersonate_extra == std::vector<std::pair<std::string, std::string>>{
                                      {"a%2Fb", "z"}, {"scopes", "x"}, {"scopes", "y"}});
  CHECK(dev->proxy_url == "http://me:hush@proxy:3128");
  CHECK(dev->default_namespace == "team-a");
  const auto other = kube::LoadKubeconfig({first, second}, "other");
  REQUIRE(other);
  CHECK(other->server == "https://two:1");
  CHECK(other->ca_file == (folder.path / "sub/ca.crt").string());
  CHECK(other->client_certificate_file == (folder.path / "sub/../c.crt").string());
  CHECK(other->client_key_file == "/abs/c.key");
  CHECK(other->token_file == (folder.path / "sub/token").string());
  CHECK(other->default_namespace == "default");
}

TEST_CASE("what is wrong in a kubeconfig is named, and secrets are not") {
  const Folder folder;
  struct Row {
    const char* text;
    const char* named;
  };
  const std::vector<Row> rows = {
      {"a: [", "broken"},
      {"{}", "current-context"},
      {"{current-context: x}", "context `x`"},
      {"{current-context: x, contexts: [{name: x, context: {cluster: c}}]}", "cluster `c`"},
      {"{current-context: x, contexts: [{name: x, context: {cluster: c}}], clusters: [{name: c, "
       "cluster: {}}]}",
       "no server"},
      {"{current-context: x, contexts: [{name: x, context: {cluster: c, user: u}}], clusters: "
       "[{name: c, cluster: {server: s}}]}",
       "user `u`"},
      {"{current-context: x, contexts: [{name: x, context: {cluster: c, user: u}}], clusters: "
       "[{name: c, cluster: {server: s}}], users: [{name: u, user: {token: hush, exec: {command: "
       "a}}}]}",
       "exec"},
      {"{current-context: x, contexts: [{name: x, context: {cluster: c}}], clusters: [{name: c, "
       "cluster: {server: s, insecure-skip-tls-verify: true}}]}",
       "insecure-skip-tls-verify"},
      {"{current-context: x, contexts: [{name: x, context: {cluster: c}}], clusters: [{name: c, "
       "cluster: {server: s, proxy-url: 'socks5://me:hush@p:1'}}]}",
       "proxy-url that does not start with http://"},
      {"{current-context: x, contexts: [{name: x, context: {cluster: c}}], clusters: [{name: c, "
       "cluster: {server: s, certificate-authority-data: '*'}}]}",
       "base64"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const auto config = kube::LoadKubeconfig({folder.Write("broken", row.text)});
    REQUIRE_FALSE(config);
    CHECK(config.error().code == base::Code::kInvalid);
    CHECK(config.error().reason == "BadKubeconfig");
    CHECK(config.error().message.find(row.named) != std::string::npos);
    CHECK(config.error().message.find("hush") == std::string::npos);
  }
  CHECK(kube::LoadKubeconfig({(folder.path / "missing").string()}).error().code ==
        base::Code::kNotFound);
}

TEST_CASE("inside a Pod the service account is used, of either address family") {
  const Folder folder;
  folder.Write("token", "t");
  folder.Write("ca.crt", "c");
  folder.Write("namespace", "team-b\n");
  ::setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1", 1);
  ::setenv("KUBERNETES_SERVICE_PORT", "443", 1);
  auto config = kube::LoadInCluster(folder.path.string());
  REQUIRE(config);
  CHECK(config->server == "https://10.0.0.1:443");
  CHECK(config->token_file == (folder.path / "token").string());
  CHECK(config->default_namespace == "team-b");
  ::setenv("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
  CHECK(kube::LoadInCluster(folder.path.string())->server == "https://[fd00::1]:443");
  CHECK_FALSE(kube::LoadInCluster((folder.path / "missing").string()));
  ::unsetenv("KUBERNETES_SERVICE_HOST");
  ::unsetenv("KUBERNETES_SERVICE_PORT");
  CHECK(kube::LoadInCluster(folder.path.string()).error().code == base::Code::kNotFound);
}
