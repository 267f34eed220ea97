#pragma once

#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace http {

struct CertificateAndKey {
  std::string certificate_pem;
  std::string private_key_pem;
};

/// A self-signed P-256 certificate authority.
base::Result<CertificateAndKey> MakeCertificateAuthority(const std::string& common_name,
                                                         base::Seconds valid_for);
/// A serving certificate signed by `authority` for DNS names and IP addresses.
base::Result<CertificateAndKey> MakeServingCertificate(const CertificateAndKey& authority,
                                                       const std::string& common_name,
                                                       const std::vector<std::string>& dns_names,
                                                       const std::vector<std::string>& ip_addresses,
                                                       base::Seconds valid_for);
/// When a PEM certificate ends to be valid.
base::Result<base::WallTime> CertificateEnd(const std::string& certificate_pem);

}  // namespace http
