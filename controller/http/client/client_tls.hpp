#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <vector>

#include "base/result.hpp"
#include "http/client/client.hpp"
#include "http/pem.hpp"

namespace http {

/// Inside this folder only: whom a client trusts and who it is, parsed once and given to each new
/// connection.
struct ClientTls {
  std::shared_ptr<X509_STORE> roots;
  std::vector<CertificatePtr> chain;
  KeyPtr key;
};

/// Of an error with reason TlsFailure: the handshake was refused by one of both sides.
inline constexpr char kTlsFailureText[] =
    "the TLS handshake failed; check the CA, the server's name, its dates and this machine's clock";

/// Looks up where the system's roots are, before somebody hides them from OpenSSL. Once.
void RememberSystemRoots();
/// Errors: kInvalid with reason BadTlsMaterial.
base::Result<std::shared_ptr<ClientTls>> MakeClientTls(const ClientOptions& options);
/// For connections that are made without a library.
std::shared_ptr<SSL_CTX> MakeClientContext(const ClientTls& settings);
void ApplyClientTls(const ClientTls& settings, SSL_CTX* context);

}  // namespace http
