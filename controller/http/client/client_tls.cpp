#include "http/client/client_tls.hpp"

#include <openssl/err.h>

#include <cstdlib>
#include <mutex>

namespace http {
namespace {

struct SystemRoots {
  std::string file;
  std::string folder;
};

SystemRoots& Roots() {
  static SystemRoots roots;
  return roots;
}

base::Error BadTls(const std::string& what) {
  return base::MakeError(base::Code::kInvalid, "TLS settings of an HTTP client: " + what,
                         "BadTlsMaterial");
}

}  // namespace

void RememberSystemRoots() {
  static std::once_flag once;
  std::call_once(once, [] {
    const char* file = std::getenv(X509_get_default_cert_file_env());
    const char* folder = std::getenv(X509_get_default_cert_dir_env());
    Roots() = {file != nullptr ? file : X509_get_default_cert_file(),
               folder != nullptr ? folder : X509_get_default_cert_dir()};
  });
}

base::Result<std::shared_ptr<ClientTls>> MakeClientTls(const ClientOptions& options) {
  RememberSystemRoots();
  auto settings = std::make_shared<ClientTls>();
  settings->roots = std::shared_ptr<X509_STORE>(X509_STORE_new(), X509_STORE_free);
  if (options.ca_pem.empty()) {
    X509_STORE_load_file(settings->roots.get(), Roots().file.c_str());
    X509_STORE_load_path(settings->roots.get(), Roots().folder.c_str());
    ERR_clear_error();
  } else {
    const auto certificates = ReadCertificates(options.ca_pem);
    if (certificates.empty()) return BadTls("the CA text holds no certificate");
    for (const auto& certificate : certificates)
      X509_STORE_add_cert(settings->roots.get(), certificate.get());
  }
  if (options.client_certificate_pem.empty()) return settings;
  settings->chain = ReadCertificates(options.client_certificate_pem);
  settings->key = ReadPrivateKey(options.client_key_pem);
  if (settings->chain.empty() || !settings->key)
    return BadTls("the client certificate or its key is unreadable");
  if (X509_check_private_key(settings->chain.front().get(), settings->key.get()) != 1)
    return BadTls("the client key does not belong to the certificate");
  return settings;
}

std::shared_ptr<SSL_CTX> MakeClientContext(const ClientTls& settings) {
  // Bytes that one call to the kernel may bring: a watch sends each event as a record of its own,
  // and an initial set has many of them at hand.
  constexpr size_t kReadBuffer = 64 << 10;
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
  if (!context) return context;
  ApplyClientTls(settings, context.get());
  SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(context.get(), 1);
  SSL_CTX_set_default_read_buffer_len(context.get(), kReadBuffer);
  return context;
}

void ApplyClientTls(const ClientTls& settings, SSL_CTX* context) {
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set1_cert_store(context, settings.roots.get());
  if (settings.chain.empty()) return;
  SSL_CTX_use_certificate(context, settings.chain.front().get());
  for (size_t i = 1; i < settings.chain.size(); ++i)
    SSL_CTX_add1_chain_cert(context, settings.chain[i].get());
  SSL_CTX_use_PrivateKey(context, settings.key.get());
}

}  // namespace http
