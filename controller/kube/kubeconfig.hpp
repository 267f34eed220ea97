#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace kube {

/// Where an API server is and who we are to it. Built by the loaders below or by hand (tests,
/// embedded mode). Texts are preferred over files; files named here are read again when they may
/// have changed.
struct ClientConfig {
  std::string server = {};  ///< https://host:port, optionally with a path prefix (a proxy's).
  std::string ca_pem = {};  ///< The only roots trusted; empty with empty `ca_file`: the system's.
  std::string ca_file = {};
  std::string proxy_url = {};  ///< http://[user[:password]@]host[:port]; empty: the direct way.
  std::string tls_server_name = {};         ///< Name to verify if it is not the URL's host.
  std::string client_certificate_pem = {};  ///< Always with the key.
  std::string client_key_pem = {};
  std::string client_certificate_file = {};
  std::string client_key_file = {};
  std::string token = {};       ///< Bearer token; `token_file` wins over it.
  std::string token_file = {};  ///< Read again at least every 60 s, and at once after a 401.
  std::string username = {};    ///< Basic authentication, with `password`.
  std::string password = {};
  std::string impersonate_user = {};  ///< Impersonate-User, with groups below.
  std::vector<std::string> impersonate_groups = {};
  std::string impersonate_uid = {};  ///< Impersonate-Uid.
  std::vector<std::pair<std::string, std::string>> impersonate_extra =
      {};  ///< Impersonate-Extra-<key>: a value.
  std::string default_namespace = "default";
  std::string context =
      {};  ///< Name of the context it came from (for messages); "in-cluster" inside a Pod.
};

struct LoadOptions {
  std::string kubeconfig = {};  ///< `--kubeconfig`: only this file. Empty: $KUBECONFIG (a list),
                                ///< in-cluster, then ~/.kube/config.
  std::string context = {};     ///< Empty: current-context.
};

/// Finds the configuration as kubectl does, except that inside a Pod the service account wins over
/// ~/.kube/config. Errors: kNotFound with reason NoConfiguration (says what was tried), kInvalid
/// with reason BadKubeconfig (names file and entry).
base::Result<ClientConfig> LoadConfig(const LoadOptions& options = {});

/// Merges kubeconfig files: for clusters, users, contexts and current-context the first file that
/// sets one wins; relative paths are relative to their own file; missing files are skipped, unless
/// it is the only one. Unknown keys are ignored. Not supported, and refused by name when the chosen
/// user needs it: exec plugins, auth providers, insecure-skip-tls-verify, proxies other than http.
base::Result<ClientConfig> LoadKubeconfig(const std::vector<std::string>& paths,
                                          const std::string& context = "");

/// The Pod's service account: KUBERNETES_SERVICE_HOST and _PORT, and token, ca.crt, namespace below
/// `account_folder`.
base::Result<ClientConfig> LoadInCluster(
    const std::string& account_folder = "/var/run/secrets/kubernetes.io/serviceaccount");

}  // namespace kube
