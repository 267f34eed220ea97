#include "server/authority.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/base64.hpp"
#include "codec/json.hpp"

namespace server {
namespace {

using codec::Json;

constexpr char kCommonName[] = "workspace-operator";
constexpr size_t kMaxRetired = 4;

base::Error Malformed(const std::string& secret, const std::string& what) {
  return base::MakeError(
      base::Code::kInvalid,
      fmt::format("Secret {}: {}; delete it so that the operator makes a new one (agents outside "
                  "the cluster then need the new ca.crt)",
                  secret, what),
      "AuthoritySecretMalformed");
}

bool Ended(const std::string& pem, base::WallTime now) {
  const auto end = http::CertificateEnd(pem);
  return !end || *end <= now;
}

base::Result<base::WallTime> MadeAt(const std::string& pem) {
  const auto begin = http::CertificateBegin(pem);
  if (!begin) return begin.error();
  return *begin + http::kBackdate;
}

/// Whether `part` of the certificate's life has passed.
bool Passed(const std::string& pem, double part, base::WallTime now) {
  const auto begin = MadeAt(pem), end = http::CertificateEnd(pem);
  if (!begin || !end) return true;
  return static_cast<double>((now - *begin).count()) >=
         part * static_cast<double>((*end - *begin).count());
}

void Retire(Authority& authority, base::WallTime now) {
  std::erase_if(authority.retired_pem, [&](const std::string& pem) { return Ended(pem, now); });
  while (authority.retired_pem.size() > kMaxRetired)
    authority.retired_pem.erase(authority.retired_pem.begin());
}

std::vector<std::string> SplitPem(const std::string& text) {
  static constexpr std::string_view kEnd = "-----END CERTIFICATE-----";
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t at = text.find(kEnd); at != std::string::npos; at = text.find(kEnd, begin)) {
    parts.push_back(text.substr(begin, at + kEnd.size() - begin) + "\n");
    begin = text.find_first_not_of("\r\n", at + kEnd.size());
    if (begin == std::string::npos) break;
  }
  return parts;
}

}  // namespace

std::string Authority::Bundle() const {
  std::string bundle = current.certificate_pem;
  if (next) bundle += next->certificate_pem;
  for (const std::string& pem : retired_pem) bundle += pem;
  return bundle;
}

base::Result<std::optional<Authority>> PlanAuthority(const std::optional<Authority>& stored,
                                                     const AuthorityPolicy& policy,
                                                     base::WallTime now) {
  if (!stored) {
    auto made = http::MakeCertificateAuthority(kCommonName, policy.authority_life);
    if (!made) return std::move(made).error();
    return std::optional(Authority{*std::move(made), {}, {}, {}});
  }
  Authority wanted = *stored;
  Retire(wanted, now);
  const bool current_ended = Ended(wanted.current.certificate_pem, now);
  if (wanted.next) {
    const auto published = MadeAt(wanted.next->certificate_pem);
    if (!published) return published.error();
    if (current_ended || now - *published >= policy.overlap) {
      if (!current_ended) wanted.retired_pem.push_back(wanted.current.certificate_pem);
      wanted.current = *std::move(wanted.next);
      wanted.next.reset();
      return std::optional(std::move(wanted));
    }
  } else if (current_ended || Passed(wanted.current.certificate_pem, 0.8, now)) {
    auto made = http::MakeCertificateAuthority(kCommonName, policy.authority_life);
    if (!made) return std::move(made).error();
    (current_ended ? wanted.current : wanted.next.emplace()) = *std::move(made);
    return std::optional(std::move(wanted));
  }
  if (wanted.retired_pem != stored->retired_pem) return std::optional(std::move(wanted));
  return std::optional<Authority>();
}

std::string EncodeAuthority(const Authority& authority, const std::string& ns,
                            const std::string& name) {
  Json data{{"tls.crt", base::EncodeBase64(authority.current.certificate_pem)},
            {"tls.key", base::EncodeBase64(authority.current.private_key_pem)},
            {"ca.crt", base::EncodeBase64(authority.Bundle())}};
  if (authority.next) {
    data["next.crt"] = base::EncodeBase64(authority.next->certificate_pem);
    data["next.key"] = base::EncodeBase64(authority.next->private_key_pem);
  }
  Json metadata{{"name", name},
                {"namespace", ns},
                {"labels",
                 {{"app.kubernetes.io/name", "workspace-operator"},
                  {"app.kubernetes.io/managed-by", "workspace-operator"}}}};
  if (!authority.resource_version.empty()) metadata["resourceVersion"] = authority.resource_version;
  return codec::Dump(Json{{"apiVersion", "v1"},
                          {"kind", "Secret"},
                          {"metadata", std::move(metadata)},
                          {"type", "molecule.ai/certificate-authority"},
                          {"data", std::move(data)}});
}

base::Result<Authority> DecodeAuthority(std::string_view secret) {
  auto json = codec::ParseJson(secret);
  if (!json) return std::move(json).error();
  const Json& metadata = codec::GetMember(*json, "metadata");
  const std::string name =
      codec::GetString(metadata, "namespace") + "/" + codec::GetString(metadata, "name");
  const Json& data = codec::GetMember(*json, "data");
  const auto text = [&data](const char* key) {
    return base::DecodeBase64(codec::GetString(data, key)).value_or("");
  };
  Authority authority;
  authority.resource_version = codec::GetString(metadata, "resourceVersion");
  authority.current = {text("tls.crt"), text("tls.key")};
  if (auto fits = http::CheckPair(authority.current); !fits)
    return Malformed(name, "tls.crt and tls.key: " + fits.error().message);
  if (data.contains("next.crt")) {
    authority.next = {text("next.crt"), text("next.key")};
    if (auto fits = http::CheckPair(*authority.next); !fits)
      return Malformed(name, "next.crt and next.key: " + fits.error().message);
  }
  for (std::string& pem : SplitPem(text("ca.crt"))) {
    const bool ours = pem == authority.current.certificate_pem ||
                      (authority.next && pem == authority.next->certificate_pem);
    if (ours) continue;
    if (!http::CertificateEnd(pem)) return Malformed(name, "ca.crt is not readable PEM");
    if (authority.retired_pem.size() < kMaxRetired) authority.retired_pem.push_back(std::move(pem));
  }
  return authority;
}

bool WantsRenewal(const std::string& certificate_pem, base::WallTime now) {
  return NotYetValid(certificate_pem, now) || Passed(certificate_pem, 2.0 / 3, now);
}

bool NotYetValid(const std::string& certificate_pem, base::WallTime now) {
  const auto begin = http::CertificateBegin(certificate_pem);
  return begin && *begin > now;
}

}  // namespace server
