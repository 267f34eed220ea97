#include "http/server/server_tls.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "http/pem.hpp"

namespace http {
namespace {

base::Error BadMaterial(std::string_view what) {
  return base::MakeError(
      base::Code::kInvalid,
      "TLS material of the HTTP server: " + std::string(what) + ": " + LastTlsError(),
      "BadTlsMaterial");
}

int SelectHttp11(SSL*, const unsigned char** out, unsigned char* out_length,
                 const unsigned char* in, unsigned int in_length, void*) {
  static constexpr unsigned char kOurs[] = "\x08http/1.1";
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_length, kOurs, sizeof kOurs - 1, in, in_length) !=
      OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_NOACK;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

/// A missing client certificate is the handler's business (it may carry a token); a bad one is
/// refused here.
base::Status TrustClients(SSL_CTX* context, const std::string& ca_pem) {
  const auto certificates = ReadCertificates(ca_pem);
  if (certificates.empty()) return BadMaterial("the client CA holds no certificate");
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  for (const auto& certificate : certificates) {
    X509_STORE_add_cert(store, certificate.get());
    SSL_CTX_add_client_CA(context, certificate.get());
  }
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE, nullptr);
  return {};
}

}  // namespace

base::Result<std::shared_ptr<SSL_CTX>> MakeServerContext(const TlsMaterial& material) {
  ERR_clear_error();
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  if (!context) return BadMaterial("no context");
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                         SSL_OP_CIPHER_SERVER_PREFERENCE |
                                         SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_RELEASE_BUFFERS);
  // The order that browsers and Go prefer where the processor knows AES: OpenSSL's own begins with
  // AES-256, which costs each record a third more rounds and protects a heartbeat no better.
  SSL_CTX_set_ciphersuites(
      context.get(), "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256");
  // A record's head and body in one call to the kernel; a heartbeat is one record.
  SSL_CTX_set_read_ahead(context.get(), 1);
  static constexpr unsigned char kSession[] = "workspace-operator";
  SSL_CTX_set_session_id_context(context.get(), kSession, sizeof kSession - 1);
  SSL_CTX_set_alpn_select_cb(context.get(), SelectHttp11, nullptr);
  const auto chain = ReadCertificates(material.certificate_chain_pem);
  if (chain.empty()) return BadMaterial("no certificate");
  if (SSL_CTX_use_certificate(context.get(), chain.front().get()) != 1)
    return BadMaterial("certificate");
  for (size_t i = 1; i < chain.size(); ++i)
    if (SSL_CTX_add1_chain_cert(context.get(), chain[i].get()) != 1) return BadMaterial("chain");
  const auto key = ReadPrivateKey(material.private_key_pem);
  if (!key) return BadMaterial("no private key");
  if (SSL_CTX_use_PrivateKey(context.get(), key.get()) != 1 ||
      SSL_CTX_check_private_key(context.get()) != 1)
    return BadMaterial("the private key does not belong to the certificate");
  if (!material.client_ca_pem.empty())
    if (auto status = TrustClients(context.get(), material.client_ca_pem); !status)
      return status.error();
  return context;
}

}  // namespace http
