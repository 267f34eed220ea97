#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <memory>
#include <string>
#include <vector>

namespace http {

/// Inside this folder only: OpenSSL objects from PEM texts.
struct FreeX509 {
  void operator()(X509* certificate) const { X509_free(certificate); }
};
struct FreeKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using CertificatePtr = std::unique_ptr<X509, FreeX509>;
using KeyPtr = std::unique_ptr<EVP_PKEY, FreeKey>;

/// All certificates of a PEM text; empty if there is none or one is broken.
std::vector<CertificatePtr> ReadCertificates(const std::string& pem);
/// Null if there is none.
KeyPtr ReadPrivateKey(const std::string& pem);
/// The oldest error of OpenSSL's queue as text; empties the queue.
std::string LastTlsError();

}  // namespace http
