#include "app/endpoint_tls.hpp"

#include "base/file.hpp"
#include "base/log.hpp"

namespace app {
namespace {

double Seconds(base::WallTime time) {
  return static_cast<double>(time.time_since_epoch().count()) / 1000;
}

}  // namespace

base::Result<std::unique_ptr<EndpointTls>> EndpointTls::Open(const kube::ClientConfig& api,
                                                             server::CertificateOptions options,
                                                             const std::string& data_dir,
                                                             runtime::Metrics& metrics,
                                                             std::stop_token stop) {
  std::unique_ptr<EndpointTls> tls(new EndpointTls);
  auto client = kube::Client::Create(api);
  if (!client) return std::move(client).error();
  tls->client_ = *std::move(client);
  tls->keeper_ = std::make_unique<server::CertificateKeeper>(*tls->client_, std::move(options));
  tls->bundle_path_ = data_dir + "/ca.crt";
  auto first = tls->keeper_->First(stop);
  if (!first) return std::move(first).error();
  tls->first_ = *std::move(first);
  tls->WriteBundle();
  auto& certificate = metrics.GaugeOf({"workspace_operator_certificate_end_seconds",
                                       "Unix time at which the serving certificate ends."});
  auto& authority = metrics.GaugeOf({"workspace_operator_authority_end_seconds",
                                     "Unix time at which the certificate authority ends."});
  tls->gauges_ = metrics.OnScrape([keeper = tls->keeper_.get(), &certificate, &authority] {
    certificate.Set(Seconds(keeper->CertificateEnds()));
    authority.Set(Seconds(keeper->AuthorityEnds()));
  });
  return tls;
}

void EndpointTls::WriteBundle() {
  const std::string bundle = keeper_->Bundle();
  if (bundle == written_) return;
  if (auto done = base::WriteFileAtomic(bundle_path_, bundle, 0644); !done)
    base::LogError("the CA file is not written",
                   {{"file", bundle_path_}, {"error", done.error().message}});
  else
    written_ = bundle;
}

base::Status EndpointTls::Run(http::Server& server, std::stop_token stop) {
  return keeper_->Run(
      [&](const http::TlsMaterial* fresh) {
        WriteBundle();
        if (fresh != nullptr) server.ReplaceTls(*fresh);
      },
      stop);
}

}  // namespace app
