#include "app/embedded.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>

#include "apiserver/rest/api_server.hpp"
#include "app/built_in_crds.hpp"
#include "app/operator.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "kube/kubeconfig.hpp"

namespace app {
namespace {

base::Result<std::vector<std::string>> ReadCrds(const std::string& folder) {
  if (folder.empty()) return BuiltInCrds();
  std::vector<std::string> paths, texts;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (entry.path().extension() == ".yaml") paths.push_back(entry.path());
  if (paths.empty())
    return base::MakeError(base::Code::kNotFound, "no .yaml file in the CRD folder " + folder);
  std::sort(paths.begin(), paths.end());
  for (const std::string& path : paths) {
    auto text = base::ReadFile(path, 4 << 20);
    if (!text) return std::move(text).error();
    texts.push_back(*std::move(text));
  }
  return texts;
}

/// Ports stay the same over restarts, so that kubeconfigs and agents stay right.
uint16_t RememberedPort(const std::string& file) {
  const std::string text = base::ReadFile(file, 16).value_or("");
  unsigned port = 0;
  std::from_chars(text.data(), text.data() + text.size(), port);
  return port > 0 && port < 65536 ? static_cast<uint16_t>(port) : 0;
}

base::Result<std::unique_ptr<apiserver::ApiServer>> StartApi(const EmbeddedOptions& options) {
  auto crds = ReadCrds(options.crds_folder);
  if (!crds) return std::move(crds).error();
  apiserver::ApiServerOptions api;
  api.data_dir = options.data_dir;
  api.crds = *std::move(crds);
  const std::string port_file = options.data_dir + "/api.port";
  api.port = options.api_port != 0 ? options.api_port : RememberedPort(port_file);
  auto server = apiserver::ApiServer::Start(api);
  if (!server && server.error().reason == "PortInUse" && options.api_port == 0 && api.port != 0) {
    base::LogWarning("the API port of the last start is taken; another one is used",
                     {{"port", std::to_string(api.port)}});
    api.port = 0;
    server = apiserver::ApiServer::Start(api);
  }
  if (!server) return std::move(server).error();
  if (auto written = base::WriteFileAtomic(port_file, std::to_string((*server)->Port()), 0600);
      !written)
    return std::move(written).error();
  return server;
}

}  // namespace

base::Status RunEmbedded(const EmbeddedOptions& options, std::stop_token stop) {
  const auto begin = std::chrono::steady_clock::now();
  auto api = StartApi(options);
  if (!api) return std::move(api).error();
  for (const std::string& broken : (*api)->BrokenRules())
    base::LogWarning("a validation rule cannot be evaluated: the writes it guards are refused",
                     {{"rule", broken}});
  auto config = kube::LoadKubeconfig({(*api)->OperatorKubeconfigPath()});
  if (!config) return std::move(config).error();
  OperatorOptions run;
  run.api = *std::move(config);
  run.data_dir = options.data_dir;
  run.settings_path = options.settings_path;
  run.defaults.directory_roots = {"/"};
  run.workers = options.workers;
  const std::string port_file = options.data_dir + "/http.port";
  run.port = options.http_port;
  run.preferred_port = RememberedPort(port_file);
  run.not_ready = [&] { return (*api)->NotReady(); };
  run.on_ready = [&](const std::string& url) {
    const auto port = url.substr(url.rfind(':') + 1);
    if (auto written = base::WriteFileAtomic(port_file, port, 0600); !written)
      base::LogWarning("the port is not remembered", {{"error", written.error().message}});
    const auto took =
        std::chrono::duration_cast<base::Millis>(std::chrono::steady_clock::now() - begin);
    fmt::print("api: {}\noperator: {}\nexport KUBECONFIG={}\nready in {} ms\n", (*api)->Url(), url,
               (*api)->KubeconfigPath(), took.count());
    std::fflush(stdout);
  };
  auto done = RunOperator(run, stop);
  (*api)->Stop();
  return done;
}

}  // namespace app
