#include "kube/credentials.hpp"

#include "base/base64.hpp"
#include "base/file.hpp"
#include "base/log.hpp"

namespace kube {
namespace {

constexpr int kWriteConnections = 16;  ///< As many as workers write at once, with the events.
constexpr size_t kFileLimit = 1 << 20;

std::string Trim(std::string text) {
  const size_t end = text.find_last_not_of(" \t\r\n");
  text.erase(end == std::string::npos ? 0 : end + 1);
  return text.substr(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
}

base::Result<std::string> TextOrFile(const std::string& text, const std::string& file) {
  if (!text.empty() || file.empty()) return text;
  return base::ReadFile(file, kFileLimit);
}

}  // namespace

base::Result<std::unique_ptr<Credentials>> Credentials::Create(ClientConfig config,
                                                               const Limits& limits) {
  std::unique_ptr<Credentials> made(new Credentials(std::move(config), limits));
  if (auto split = made->SplitServer(); !split) return split.error();
  auto tls = made->ReadTls();
  if (!tls) return tls.error();
  auto clients = made->MakeClients(*tls);
  if (!clients) return clients.error();
  auto token = made->ReadToken();
  if (!token) return token.error();
  made->tls_ = *std::move(tls);
  made->clients_ = *std::move(clients);
  made->token_ = *std::move(token);
  made->read_at_ = std::chrono::steady_clock::now();
  return made;
}

base::Status Credentials::SplitServer() {
  const std::string& url = config_.server;
  const size_t scheme = url.find("://");
  if (scheme == std::string::npos || url.find('@') != std::string::npos)
    return base::MakeError(base::Code::kInvalid, "the API server's URL must be https://host:port",
                           "BadKubeconfig");
  const size_t path = url.find('/', scheme + 3);
  base_url_ = url.substr(0, path);
  host_ = base_url_.substr(scheme + 3);
  if (path != std::string::npos) prefix_ = url.substr(path);
  while (!prefix_.empty() && prefix_.back() == '/') prefix_.pop_back();
  return {};
}

base::Result<Credentials::TlsTexts> Credentials::ReadTls() const {
  auto ca = TextOrFile(config_.ca_pem, config_.ca_file);
  if (!ca) return ca.error();
  auto certificate = TextOrFile(config_.client_certificate_pem, config_.client_certificate_file);
  if (!certificate) return certificate.error();
  auto key = TextOrFile(config_.client_key_pem, config_.client_key_file);
  if (!key) return key.error();
  if (ca->empty() && !config_.ca_file.empty())
    return base::MakeError(base::Code::kInvalid, "the CA file " + config_.ca_file + " is empty",
                           "BadKubeconfig");
  return TlsTexts{*std::move(ca), *std::move(certificate), *std::move(key)};
}

http::ClientOptions Credentials::OptionsOf(const TlsTexts& tls) const {
  http::ClientOptions options;
  options.base_url = base_url_;
  options.ca_pem = tls.ca;
  options.client_certificate_pem = tls.certificate;
  options.client_key_pem = tls.key;
  options.server_name = config_.tls_server_name;
  options.proxy_url = config_.proxy_url;
  options.response_limit = limits_.response;
  return options;
}

http::ClientOptions Credentials::Transport() const {
  const std::lock_guard lock(mutex_);
  return OptionsOf(tls_);
}

base::Result<Credentials::Clients> Credentials::MakeClients(const TlsTexts& tls) const {
  http::ClientOptions options = OptionsOf(tls);
  options.own_connections = limits_.own_connections;
  auto calls = http::Client::Create(options);
  if (!calls) return calls.error();
  auto watches = http::Client::Create(options);
  if (!watches) return watches.error();
  if (options.own_connections == 0) options.own_connections = kWriteConnections;
  auto writes = http::Client::Create(options);
  if (!writes) return writes.error();
  return Clients{*std::move(calls), *std::move(writes), *std::move(watches)};
}

base::Result<std::string> Credentials::ReadToken() const {
  if (config_.token_file.empty()) return config_.token;
  auto text = base::ReadFile(config_.token_file, kFileLimit);
  if (!text) return text.error();
  std::string token = Trim(*std::move(text));
  if (token.empty() || token.find_first_of("\r\n") != std::string::npos)
    return base::MakeError(base::Code::kInvalid,
                           "the token file " + config_.token_file + " holds no token",
                           "BadKubeconfig");
  return token;
}

void Credentials::Refresh(bool force) {
  const base::MonoTime now = std::chrono::steady_clock::now();
  const std::lock_guard lock(mutex_);
  if (!force && now - read_at_ < limits_.refresh) return;
  read_at_ = now;
  if (auto token = ReadToken())
    token_ = *std::move(token);
  else
    base::LogWarning("the token is kept", {{"error", token.error().message}});
  auto tls = ReadTls();
  if (tls && *tls == tls_) return;
  if (tls) {
    // Certificate and key that are being replaced may not fit for a moment: then the next look
    // mends it.
    if (auto clients = MakeClients(*tls)) {
      tls_ = *std::move(tls);
      clients_ = *std::move(clients);
      return;
    }
  }
  base::LogWarning("the TLS files of the API client are unreadable; the old ones stay",
                   {{"context", config_.context}});
}

Credentials::Clients Credentials::Get() const {
  const std::lock_guard lock(mutex_);
  return clients_;
}

bool Credentials::Current(const Clients& clients) const {
  const std::lock_guard lock(mutex_);
  return clients.watches == clients_.watches;
}

void Credentials::AppendTo(http::Headers& headers) const {
  {
    const std::lock_guard lock(mutex_);
    if (!token_.empty())
      headers.emplace_back("Authorization", "Bearer " + token_);
    else if (!config_.username.empty())
      headers.emplace_back("Authorization", "Basic " + base::EncodeBase64(config_.username + ":" +
                                                                          config_.password));
  }
  if (config_.impersonate_user.empty()) return;
  headers.emplace_back("Impersonate-User", config_.impersonate_user);
  for (const std::string& group : config_.impersonate_groups)
    headers.emplace_back("Impersonate-Group", group);
  if (!config_.impersonate_uid.empty())
    headers.emplace_back("Impersonate-Uid", config_.impersonate_uid);
  for (const auto& [key, value] : config_.impersonate_extra)
    headers.emplace_back("Impersonate-Extra-" + key, value);
}

}  // namespace kube
