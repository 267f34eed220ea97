#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "http/client/client.hpp"
#include "kube/kubeconfig.hpp"

namespace kube {

/// The HTTP clients of one configuration and the headers that say who we are; keeps up with files
/// that are rotated. Thread safe.
class Credentials {
 public:
  struct Limits {
    size_t response = 64 << 20;
    base::Millis refresh{60'000};
    int own_connections = 0;  ///< See http::ClientOptions.
  };
  struct Clients {
    std::shared_ptr<http::Client> calls;   ///< What may be asked twice.
    std::shared_ptr<http::Client> writes;  ///< Nothing is sent twice.
    std::shared_ptr<http::Client>
        watches;  ///< Their own connections, so that they cannot starve calls.
  };

  static base::Result<std::unique_ptr<Credentials>> Create(ClientConfig config,
                                                           const Limits& limits);
  /// Reads files again if they were last read longer ago than `refresh`, or if `force`. A bad file
  /// keeps what we had.
  void Refresh(bool force);
  Clients Get() const;
  /// Whether `clients` still use the TLS files' content.
  bool Current(const Clients& clients) const;
  /// The same trust and identity, for connections that are not made by an http::Client.
  http::ClientOptions Transport() const;
  /// Authorization and Impersonate-*.
  void AppendTo(http::Headers& headers) const;
  const std::string& PathPrefix() const { return prefix_; }
  const std::string& Host() const { return host_; }

 private:
  struct TlsTexts {
    std::string ca;
    std::string certificate;
    std::string key;
    bool operator==(const TlsTexts&) const = default;
  };
  Credentials(ClientConfig config, const Limits& limits)
      : config_(std::move(config)), limits_(limits) {}
  base::Status SplitServer();
  base::Result<TlsTexts> ReadTls() const;
  http::ClientOptions OptionsOf(const TlsTexts& tls) const;
  base::Result<Clients> MakeClients(const TlsTexts& tls) const;
  base::Result<std::string> ReadToken() const;

  const ClientConfig config_;
  const Limits limits_;
  std::string base_url_;
  std::string prefix_;
  std::string host_;
  mutable std::mutex mutex_;
  std::string token_;         ///< By mutex_.
  TlsTexts tls_;              ///< By mutex_.
  Clients clients_;           ///< By mutex_.
  base::MonoTime read_at_{};  ///< By mutex_.
};

}  // namespace kube
