#include "kube/kubeconfig.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cctype>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>

#include "base/base64.hpp"
#include "base/file.hpp"
#include "codec/json.hpp"
#include "http/message.hpp"

namespace kube {
namespace {

using codec::GetMember;
using codec::GetString;
using codec::Json;

constexpr size_t kFileLimit = 1 << 20;
constexpr size_t kFilesLimit = 32;

base::Error Bad(const std::string& what) {
  return base::MakeError(base::Code::kInvalid, "kubeconfig " + what, "BadKubeconfig");
}

/// An entry and the folder that its relative paths start from.
struct Entry {
  Json value;
  std::string folder;
  std::string file;
};

struct Merged {
  std::map<std::string, Entry> clusters;
  std::map<std::string, Entry> users;
  std::map<std::string, Entry> contexts;
  std::string current;
};

void MergeList(const Json& list, const char* inner, const Entry& origin,
               std::map<std::string, Entry>& into) {
  if (!list.is_array()) return;
  for (const Json& item : list) {
    const std::string name = GetString(item, "name");
    if (!name.empty())
      into.try_emplace(name, Entry{GetMember(item, inner), origin.folder, origin.file});
  }
}

base::Status MergeFile(const std::string& path, Merged& merged) {
  auto text = base::ReadFile(path, kFileLimit);
  if (!text) return text.error();
  auto documents = codec::ParseYaml(*text);
  if (!documents) return Bad(fmt::format("{}: {}", path, documents.error().message));
  if (documents->empty() || documents->front().is_null()) return {};
  const Json& root = documents->front();
  if (!root.is_object()) return Bad(path + " is not a mapping");
  const Entry origin{{}, std::filesystem::absolute(path).parent_path().string(), path};
  MergeList(GetMember(root, "clusters"), "cluster", origin, merged.clusters);
  MergeList(GetMember(root, "users"), "user", origin, merged.users);
  MergeList(GetMember(root, "contexts"), "context", origin, merged.contexts);
  if (merged.current.empty()) merged.current = GetString(root, "current-context");
  return {};
}

/// `name`-data wins over `name`; a relative path starts at the file's folder.
base::Status DataOrFile(const Entry& entry, const std::string& name, std::string& text,
                        std::string& file) {
  std::string data = GetString(entry.value, name + "-data");
  if (!data.empty()) {
    // Line ends within are as good as none, as for Go's decoder.
    std::erase_if(data, [](char c) { return c == '\n' || c == '\r' || c == ' '; });
    auto decoded = base::DecodeBase64(data);
    if (!decoded || decoded->empty())
      return Bad(fmt::format("{}: {}-data is not base64", entry.file, name));
    text = *std::move(decoded);
    return {};
  }
  const std::string path = GetString(entry.value, name);
  if (!path.empty()) file = (std::filesystem::path(entry.folder) / path).string();
  return {};
}

base::Status UseCluster(const Entry& cluster, const std::string& name, ClientConfig& config) {
  config.server = GetString(cluster.value, "server");
  if (config.server.empty())
    return Bad(fmt::format("{}: cluster `{}` has no server", cluster.file, name));
  if (codec::GetBool(cluster.value, "insecure-skip-tls-verify"))
    return Bad(fmt::format(
        "{}: cluster `{}` sets insecure-skip-tls-verify; give certificate-authority instead",
        cluster.file, name));
  config.proxy_url = GetString(cluster.value, "proxy-url");
  // Not repeated: it may hold a password.
  if (!config.proxy_url.empty() && !config.proxy_url.starts_with("http://"))
    return Bad(
        fmt::format("{}: cluster `{}` has a proxy-url that does not start with http://, "
                    "which is the only kind of proxy that is supported",
                    cluster.file, name));
  config.tls_server_name = GetString(cluster.value, "tls-server-name");
  return DataOrFile(cluster, "certificate-authority", config.ca_pem, config.ca_file);
}

/// As the name of a header may hold it (RFC 9110 section 5.6.2); the API server decodes it.
std::string PercentEncoded(const std::string& key) {
  std::string out;
  for (const unsigned char c : key) {
    const bool plain = std::isalnum(c) != 0 || (c != 0 && std::strchr("!#$&'*+-.^_`|~", c));
    out += plain ? std::string(1, static_cast<char>(c)) : fmt::format("%{:02X}", c);
  }
  return out;
}

base::Status UseUser(const Entry& user, const std::string& name, ClientConfig& config) {
  for (const char* key : {"exec", "auth-provider"})
    if (GetMember(user.value, key).is_object())
      return Bad(fmt::format(
          "{}: user `{}` uses {}, which is not supported; use a token or a client certificate",
          user.file, name, key));
  config.token = GetString(user.value, "token");
  if (const std::string path = GetString(user.value, "tokenFile"); !path.empty())
    config.token_file = (std::filesystem::path(user.folder) / path).string();
  config.username = GetString(user.value, "username");
  config.password = GetString(user.value, "password");
  config.impersonate_user = GetString(user.value, "as");
  if (const Json& groups = GetMember(user.value, "as-groups"); groups.is_array())
    for (const Json& group : groups)
      if (group.is_string()) config.impersonate_groups.push_back(group.get<std::string>());
  config.impersonate_uid = GetString(user.value, "as-uid");
  for (const auto& [key, values] : GetMember(user.value, "as-user-extra").items())
    for (const Json& value : values)
      if (value.is_string())
        config.impersonate_extra.emplace_back(PercentEncoded(key), value.get<std::string>());
  if (auto status = DataOrFile(user, "client-certificate", config.client_certificate_pem,
                               config.client_certificate_file);
      !status)
    return status;
  return DataOrFile(user, "client-key", config.client_key_pem, config.client_key_file);
}

base::Result<ClientConfig> Choose(const Merged& merged, const std::string& wanted) {
  ClientConfig config;
  config.context = wanted.empty() ? merged.current : wanted;
  const auto context = merged.contexts.find(config.context);
  if (context == merged.contexts.end())
    return Bad(config.context.empty()
                   ? std::string("has no current-context; choose one with --context")
                   : fmt::format("has no context `{}`", config.context));
  const std::string cluster_name = GetString(context->second.value, "cluster");
  const std::string user_name = GetString(context->second.value, "user");
  if (const std::string ns = GetString(context->second.value, "namespace"); !ns.empty())
    config.default_namespace = ns;
  const auto cluster = merged.clusters.find(cluster_name);
  if (cluster == merged.clusters.end())
    return Bad(fmt::format("{}: context `{}` names the cluster `{}`, which is not there",
                           context->second.file, config.context, cluster_name));
  if (auto status = UseCluster(cluster->second, cluster_name, config); !status)
    return status.error();
  const auto user = merged.users.find(user_name);
  if (user == merged.users.end()) {
    if (user_name.empty()) return config;
    return Bad(fmt::format("{}: context `{}` names the user `{}`, which is not there",
                           context->second.file, config.context, user_name));
  }
  if (auto status = UseUser(user->second, user_name, config); !status) return status.error();
  return config;
}

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::vector<std::string> SplitList(const std::string& list) {
  std::vector<std::string> paths;
  size_t start = 0;
  while (start <= list.size()) {
    const size_t end = std::min(list.find(':', start), list.size());
    if (end > start) paths.push_back(list.substr(start, end - start));
    start = end + 1;
  }
  return paths;
}

}  // namespace

base::Result<ClientConfig> LoadKubeconfig(const std::vector<std::string>& paths,
                                          const std::string& context) {
  if (paths.size() > kFilesLimit)
    return Bad(fmt::format("list is longer than {} files", kFilesLimit));
  Merged merged;
  size_t read = 0;
  for (const std::string& path : paths) {
    auto status = MergeFile(path, merged);
    if (status)
      ++read;
    else if (status.error().code != base::Code::kNotFound || paths.size() == 1)
      return status.error();
  }
  if (read == 0)
    return base::MakeError(base::Code::kNotFound, "none of the kubeconfig files is there",
                           "NoConfiguration");
  return Choose(merged, context);
}

base::Result<ClientConfig> LoadInCluster(const std::string& account_folder) {
  const std::string host = Environment("KUBERNETES_SERVICE_HOST");
  const std::string port = Environment("KUBERNETES_SERVICE_PORT");
  if (host.empty() || port.empty())
    return base::MakeError(
        base::Code::kNotFound,
        "not inside a Pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set",
        "NoConfiguration");
  ClientConfig config;
  config.server = fmt::format("https://{}:{}", http::UrlHost(host), port);
  config.token_file = account_folder + "/token";
  config.ca_file = account_folder + "/ca.crt";
  config.context = "in-cluster";
  for (const std::string& file : {config.token_file, config.ca_file})
    if (auto text = base::ReadFile(file, kFileLimit); !text) return text.error();
  if (auto ns = base::ReadFile(account_folder + "/namespace", 1024); ns && !ns->empty())
    config.default_namespace = ns->substr(0, ns->find_last_not_of(" \r\n") + 1);
  return config;
}

base::Result<ClientConfig> LoadConfig(const LoadOptions& options) {
  if (!options.kubeconfig.empty()) return LoadKubeconfig({options.kubeconfig}, options.context);
  if (const std::string list = Environment("KUBECONFIG"); !list.empty())
    return LoadKubeconfig(SplitList(list), options.context);
  if (!Environment("KUBERNETES_SERVICE_HOST").empty()) return LoadInCluster();
  const std::string home = Environment("HOME");
  const std::string path = home + "/.kube/config";
  if (!home.empty() && ::access(path.c_str(), F_OK) == 0)
    return LoadKubeconfig({path}, options.context);
  return base::MakeError(base::Code::kNotFound,
                         "no Kubernetes configuration: tried $KUBECONFIG, the service account of a "
                         "Pod and ~/.kube/config; "
                         "name one with --kubeconfig",
                         "NoConfiguration");
}

}  // namespace kube
