#include "apiserver/rest/credentials.hpp"

#include <fmt/format.h>

#include <utility>

#include "apiserver/wire/object_text.hpp"
#include "base/base64.hpp"
#include "base/file.hpp"
#include "base/sha256.hpp"
#include "http/tls.hpp"

namespace apiserver {
namespace {

constexpr base::Seconds kCaYears{10LL * 365 * 24 * 3600};
constexpr base::Seconds kServingYears{5LL * 365 * 24 * 3600};
constexpr base::Seconds kRenewBefore{30LL * 24 * 3600};
constexpr size_t kFileLimit = 64 << 10;
constexpr size_t kTokenBytes = 32;

/// The file's text; empty if it is not there.
base::Result<std::string> ReadIfThere(const std::string& path) {
  auto text = base::ReadFile(path, kFileLimit);
  if (!text && text.error().code == base::Code::kNotFound) return std::string();
  return text;
}

base::Result<std::string> LoadOrMakeToken(const std::string& path) {
  auto text = ReadIfThere(path);
  if (!text) return text.error();
  while (!text->empty() && (text->back() == '\n' || text->back() == ' ')) text->pop_back();
  if (text->size() >= kTokenBytes) return text;
  const std::string bytes = base::RandomBytes(kTokenBytes);
  const std::string token =
      base::Hex({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  if (auto written = base::WriteFileAtomic(path, token + "\n", 0600); !written)
    return written.error();
  return token;
}

bool StillGood(const std::string& certificate_pem, const base::Clock& clock) {
  auto end = http::CertificateEnd(certificate_pem);
  return end && *end > clock.Read().wall + kRenewBefore;
}

base::Result<http::CertificateAndKey> LoadOrMakeAuthority(const std::string& data_dir,
                                                          const base::Clock& clock) {
  auto certificate = ReadIfThere(data_dir + "/ca.crt");
  auto key = ReadIfThere(data_dir + "/ca.key");
  if (!certificate) return certificate.error();
  if (!key) return key.error();
  if (!certificate->empty() && !key->empty() && StillGood(*certificate, clock))
    return http::CertificateAndKey{*certificate, *key};
  auto made = http::MakeCertificateAuthority("workspace-operator embedded API", kCaYears);
  if (!made) return made;
  if (auto written = base::WriteFileAtomic(data_dir + "/ca.key", made->private_key_pem, 0600);
      !written)
    return written.error();
  if (auto written = base::WriteFileAtomic(data_dir + "/ca.crt", made->certificate_pem, 0644);
      !written)
    return written.error();
  return made;
}

}  // namespace

base::Result<Credentials> LoadOrMakeCredentials(const std::string& data_dir,
                                                const std::string& address,
                                                const base::Clock& clock) {
  Credentials credentials;
  auto authority = LoadOrMakeAuthority(data_dir, clock);
  if (!authority) return authority.error();
  std::vector<std::string> addresses = {"127.0.0.1", "::1"};
  if (address != "127.0.0.1" && address != "::1" && address != "0.0.0.0" && address != "::")
    addresses.push_back(address);
  auto serving = http::MakeServingCertificate(*authority, "workspace-operator", {"localhost"},
                                              addresses, kServingYears);
  if (!serving) return serving.error();
  auto admin = LoadOrMakeToken(data_dir + "/admin.token");
  if (!admin) return admin.error();
  auto operator_token = LoadOrMakeToken(data_dir + "/operator.token");
  if (!operator_token) return operator_token.error();
  credentials.ca_pem = authority->certificate_pem;
  credentials.tls.certificate_chain_pem = serving->certificate_pem;
  credentials.tls.private_key_pem = serving->private_key_pem;
  credentials.admin_token = std::move(*admin);
  credentials.operator_token = std::move(*operator_token);
  return credentials;
}

std::string EncodeKubeconfig(const KubeconfigText& content) {
  return fmt::format(
      R"(apiVersion: v1
kind: Config
current-context: workspace-operator
clusters:
- name: workspace-operator
  cluster:
    server: {}
    certificate-authority-data: {}
contexts:
- name: workspace-operator
  context:
    cluster: workspace-operator
    user: {}
    namespace: default
users:
- name: {}
  user:
    token: {}
)",
      content.url, base::EncodeBase64(content.ca_pem), content.user, content.user, content.token);
}

}  // namespace apiserver
