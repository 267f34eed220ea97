#include "http/tls.hpp"

#include <arpa/inet.h>
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <ctime>

#include "base/sha256.hpp"
#include "http/pem.hpp"

namespace http {
namespace {

using BioPtr = std::unique_ptr<BIO, decltype(&BIO_free)>;

base::Error TlsError(const std::string& what) {
  return base::MakeError(base::Code::kInternal, what + ": " + LastTlsError(), "TlsFailure");
}

BioPtr MemoryOf(const std::string& text) {
  return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free};
}

std::string TextOf(BIO* memory) {
  char* data = nullptr;
  const long length = BIO_get_mem_data(memory, &data);
  return length > 0 ? std::string(data, static_cast<size_t>(length)) : std::string();
}

bool SetSerial(X509* certificate) {
  std::string bytes = base::RandomBytes(16);
  bytes[0] =
      static_cast<char>((bytes[0] & 0x7f) | 0x01);  // Positive and not zero, as RFC 5280 asks.
  const std::unique_ptr<BIGNUM, decltype(&BN_free)> number(
      BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()),
                static_cast<int>(bytes.size()), nullptr),
      BN_free);
  return number && BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr;
}

bool AddExtension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  if (extension == nullptr) return false;
  const bool added = X509_add_ext(certificate, extension, -1) == 1;
  X509_EXTENSION_free(extension);
  return added;
}

/// A certificate with everything but issuer, extensions and signature.
CertificatePtr NewCertificate(EVP_PKEY* key, const std::string& common_name,
                              base::Seconds valid_for) {
  CertificatePtr certificate(X509_new());
  if (!certificate || X509_set_version(certificate.get(), 2) != 1 || !SetSerial(certificate.get()))
    return nullptr;
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -static_cast<long>(kBackdate.count()));
  X509_time_adj_ex(X509_getm_notAfter(certificate.get()),
                   static_cast<int>(valid_for.count() / 86400),
                   static_cast<long>(valid_for.count() % 86400), nullptr);
  X509_set_pubkey(certificate.get(), key);
  X509_NAME* name = X509_get_subject_name(certificate.get());
  if (X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(common_name.data()),
                                 static_cast<int>(common_name.size()), -1, 0) != 1)
    return nullptr;
  return certificate;
}

base::Result<CertificateAndKey> Export(X509* certificate, EVP_PKEY* key) {
  const BioPtr first(BIO_new(BIO_s_mem()), BIO_free);
  const BioPtr second(BIO_new(BIO_s_mem()), BIO_free);
  if (PEM_write_bio_X509(first.get(), certificate) != 1 ||
      PEM_write_bio_PrivateKey(second.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1)
    return TlsError("writing a certificate");
  return CertificateAndKey{TextOf(first.get()), TextOf(second.get())};
}

/// "DNS:a,IP:b". Names come from settings: anything that could add another entry is refused.
base::Result<std::string> AlternativeNames(const std::vector<std::string>& dns_names,
                                           const std::vector<std::string>& ip_addresses) {
  std::string text;
  for (const std::string& name : dns_names) {
    if (name.empty() || name.find_first_not_of(
                            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._*") !=
                            std::string::npos)
      return base::MakeError(base::Code::kInvalid,
                             "not a DNS name for a certificate: `" + name + "`");
    text += (text.empty() ? "DNS:" : ",DNS:") + name;
  }
  for (const std::string& address : ip_addresses) {
    unsigned char bytes[16];
    if (::inet_pton(AF_INET, address.c_str(), bytes) != 1 &&
        ::inet_pton(AF_INET6, address.c_str(), bytes) != 1)
      return base::MakeError(base::Code::kInvalid,
                             "not an IP address for a certificate: `" + address + "`");
    text += (text.empty() ? "IP:" : ",IP:") + address;
  }
  if (text.empty())
    return base::MakeError(base::Code::kInvalid,
                           "a serving certificate needs at least one name or address");
  return text;
}

base::Result<base::WallTime> TimeOf(const std::string& pem, const ASN1_TIME* (*read)(const X509*)) {
  const auto certificates = ReadCertificates(pem);
  if (certificates.empty()) return base::MakeError(base::Code::kInvalid, "not a PEM certificate");
  tm parts{};
  if (ASN1_TIME_to_tm(read(certificates.front().get()), &parts) != 1)
    return base::MakeError(base::Code::kInvalid, "the certificate's dates are unreadable");
  return base::WallTime(std::chrono::duration_cast<base::Millis>(base::Seconds(::timegm(&parts))));
}

}  // namespace

std::vector<CertificatePtr> ReadCertificates(const std::string& pem) {
  ERR_clear_error();
  std::vector<CertificatePtr> found;
  const BioPtr bio = MemoryOf(pem);
  while (X509* certificate = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr))
    found.emplace_back(certificate);
  // The end of the text shows as "no start line"; everything else is a broken certificate.
  const unsigned long error = ERR_peek_last_error();
  if (!found.empty() && error != 0 && ERR_GET_REASON(error) != PEM_R_NO_START_LINE) return {};
  if (!found.empty()) ERR_clear_error();
  return found;
}

KeyPtr ReadPrivateKey(const std::string& pem) {
  const BioPtr bio = MemoryOf(pem);
  // No pass phrase is ever asked for on a terminal.
  const auto no_phrase = [](char*, int, int, void*) { return 0; };
  return KeyPtr(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_phrase, nullptr));
}

std::string LastTlsError() {
  const unsigned long error = ERR_get_error();
  ERR_clear_error();
  if (error == 0) return "unreadable";
  const char* reason = ERR_reason_error_string(error);
  return reason != nullptr ? reason : "unknown reason";
}

base::Result<CertificateAndKey> MakeCertificateAuthority(const std::string& common_name,
                                                         base::Seconds valid_for) {
  ERR_clear_error();
  const KeyPtr key(EVP_EC_gen("P-256"));
  if (!key) return TlsError("making a key");
  const CertificatePtr certificate = NewCertificate(key.get(), common_name, valid_for);
  if (!certificate) return TlsError("making the certificate authority `" + common_name + "`");
  X509* raw = certificate.get();
  X509_set_issuer_name(raw, X509_get_subject_name(raw));
  if (!AddExtension(raw, raw, NID_basic_constraints, "critical,CA:TRUE") ||
      !AddExtension(raw, raw, NID_key_usage, "critical,keyCertSign,cRLSign,digitalSignature") ||
      !AddExtension(raw, raw, NID_subject_key_identifier, "hash") ||
      X509_sign(raw, key.get(), EVP_sha256()) == 0)
    return TlsError("making the certificate authority `" + common_name + "`");
  return Export(raw, key.get());
}

base::Status CheckServingNames(const std::vector<std::string>& dns_names,
                               const std::vector<std::string>& ip_addresses) {
  if (auto text = AlternativeNames(dns_names, ip_addresses); !text) return std::move(text).error();
  return {};
}

base::Result<CertificateAndKey> MakeServingCertificate(const CertificateAndKey& authority,
                                                       const std::string& common_name,
                                                       const std::vector<std::string>& dns_names,
                                                       const std::vector<std::string>& ip_addresses,
                                                       base::Seconds valid_for) {
  ERR_clear_error();
  const auto issuers = ReadCertificates(authority.certificate_pem);
  const KeyPtr issuer_key = ReadPrivateKey(authority.private_key_pem);
  if (issuers.empty() || !issuer_key)
    return base::MakeError(base::Code::kInvalid, "the certificate authority is unreadable");
  const auto names = AlternativeNames(dns_names, ip_addresses);
  if (!names) return names.error();
  const KeyPtr key(EVP_EC_gen("P-256"));
  if (!key) return TlsError("making a key");
  const CertificatePtr certificate = NewCertificate(key.get(), common_name, valid_for);
  if (!certificate) return TlsError("making the certificate `" + common_name + "`");
  X509* raw = certificate.get();
  X509* issuer = issuers.front().get();
  X509_set_issuer_name(raw, X509_get_subject_name(issuer));
  if (!AddExtension(raw, issuer, NID_basic_constraints, "critical,CA:FALSE") ||
      !AddExtension(raw, issuer, NID_key_usage, "critical,digitalSignature") ||
      !AddExtension(raw, issuer, NID_ext_key_usage, "serverAuth,clientAuth") ||
      !AddExtension(raw, issuer, NID_subject_key_identifier, "hash") ||
      !AddExtension(raw, issuer, NID_authority_key_identifier, "keyid") ||
      !AddExtension(raw, issuer, NID_subject_alt_name, *names) ||
      X509_sign(raw, issuer_key.get(), EVP_sha256()) == 0)
    return TlsError("making the certificate `" + common_name + "`");
  return Export(raw, key.get());
}

base::Result<base::WallTime> CertificateBegin(const std::string& certificate_pem) {
  return TimeOf(certificate_pem, X509_get0_notBefore);
}

base::Result<base::WallTime> CertificateEnd(const std::string& certificate_pem) {
  return TimeOf(certificate_pem, X509_get0_notAfter);
}

base::Status CheckPair(const CertificateAndKey& pair) {
  ERR_clear_error();
  const auto certificates = ReadCertificates(pair.certificate_pem);
  const KeyPtr key = ReadPrivateKey(pair.private_key_pem);
  const bool match = !certificates.empty() && key &&
                     X509_check_private_key(certificates.front().get(), key.get()) == 1;
  ERR_clear_error();
  if (certificates.empty())
    return base::MakeError(base::Code::kInvalid, "the certificate is not readable PEM");
  if (!key) return base::MakeError(base::Code::kInvalid, "the private key is not readable PEM");
  if (!match)
    return base::MakeError(base::Code::kInvalid, "the private key is not the certificate's");
  return {};
}

}  // namespace http
