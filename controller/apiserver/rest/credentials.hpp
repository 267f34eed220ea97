#pragma once

#include <cstdint>
#include <string>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "http/server/server.hpp"

namespace apiserver {

/// What the server and its clients trust each other by. All files are in the data directory,
/// secrets 0600.
struct Credentials {
  std::string ca_pem;
  http::TlsMaterial tls;
  std::string admin_token;
  std::string operator_token;
};

/// Reads what an earlier start made, makes what is missing. A CA that ends within 30 days is
/// replaced. The serving certificate is made anew for `address`, 127.0.0.1, ::1 and localhost.
base::Result<Credentials> LoadOrMakeCredentials(const std::string& data_dir,
                                                const std::string& address,
                                                const base::Clock& clock);

struct KubeconfigText {
  std::string url;
  std::string ca_pem;
  std::string user;
  std::string token;
};
/// A kubeconfig with one context "workspace-operator", CA and token embedded.
std::string EncodeKubeconfig(const KubeconfigText& content);

}  // namespace apiserver
