#include "server/certificate_keeper.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "runtime/timed_wait.hpp"

namespace server {
namespace {

bool IsAddress(const std::string& name) {
  return name.find(':') != std::string::npos ||
         name.find_first_not_of("0123456789.") == std::string::npos;
}

struct ServingNames {
  std::vector<std::string> names{"localhost"}, addresses{"127.0.0.1", "::1"};

  explicit ServingNames(const CertificateOptions& options) {
    for (const std::string& name : options.names)
      (IsAddress(name) ? addresses : names).push_back(name);
  }
};

}  // namespace

base::Status CheckNames(const CertificateOptions& options) {
  const ServingNames serving(options);
  auto checked = http::CheckServingNames(serving.names, serving.addresses);
  if (!checked)
    return base::MakeError(checked.error().code, "--tls-name: " + checked.error().message,
                           "BadServingName");
  return {};
}

CertificateKeeper::CertificateKeeper(kube::Client& client, CertificateOptions options)
    : client_(client), options_(std::move(options)) {}

base::Result<Authority> CertificateKeeper::Store(const Authority& wanted, std::stop_token stop) {
  const std::string body = EncodeAuthority(wanted, options_.ns, options_.secret);
  kube::WriteOptions write;
  write.call = {.deadline = base::Seconds{10}, .stop = stop};
  auto stored = wanted.resource_version.empty()
                    ? client_.Create({kube::kSecrets, options_.ns}, body, write)
                    : client_.Update({kube::kSecrets, options_.ns, options_.secret}, body, write);
  if (!stored) return std::move(stored).error();
  base::LogInfo("certificate authority written", {{"secret", options_.ns + "/" + options_.secret}});
  return DecodeAuthority(*stored);
}

/// The authority as it is in the cluster after this pass's change, if one was due.
base::Result<Authority> CertificateKeeper::Stored(std::stop_token stop) {
  const kube::ObjectRef where{kube::kSecrets, options_.ns, options_.secret};
  for (int attempt = 0; attempt < 3; ++attempt) {
    std::optional<Authority> stored;
    auto bytes = client_.Get(where, {.deadline = base::Seconds{10}, .stop = stop});
    if (bytes) {
      auto decoded = DecodeAuthority(*bytes);
      if (!decoded) return std::move(decoded).error();
      stored = *std::move(decoded);
    } else if (bytes.error().code != base::Code::kNotFound) {
      return std::move(bytes).error();
    } else {
      // Deleted beneath us: what agents trust already is put back.
      const std::lock_guard lock(mutex_);
      stored = authority_;
      if (stored) stored->resource_version.clear();
    }
    auto wanted = PlanAuthority(stored, options_.policy, options_.clock->Read().wall);
    if (!wanted) return std::move(wanted).error();
    if (!*wanted && stored && !stored->resource_version.empty()) return *std::move(stored);
    auto written = Store(*wanted ? **wanted : *stored, stop);
    if (written) return written;
    // Another replica was faster: read what it wrote.
    const base::Code code = written.error().code;
    if (code != base::Code::kAlreadyExists && code != base::Code::kConflict)
      return std::move(written).error();
  }
  return base::MakeError(base::Code::kConflict,
                         "write " + where.Text() + ": others keep changing it");
}

base::Result<http::TlsMaterial> CertificateKeeper::Sign(const Authority& authority) const {
  const ServingNames serving(options_);
  auto made = http::MakeServingCertificate(authority.current, "workspace-operator", serving.names,
                                           serving.addresses, options_.policy.certificate_life);
  if (!made) return std::move(made).error();
  return http::TlsMaterial{std::move(made->certificate_pem), std::move(made->private_key_pem), ""};
}

/// It is not replaced: if it is our clock that is wrong, all others trust it, and a new one would
/// have to reach every box.
void CertificateKeeper::TellIfNotYetValid(const Authority& authority) {
  const std::string& pem = authority.current.certificate_pem;
  if (!NotYetValid(pem, options_.clock->Read().wall) || told_pem_ == pem) return;
  told_pem_ = pem;
  base::LogError(
      "the certificate authority is not valid yet: this machine's clock is behind, which is to be "
      "corrected, or another's was ahead when it was made, and agents do not trust it; see runbook "
      "WorkspaceOperatorCertificateEndsSoon",
      {{"secret", options_.ns + "/" + options_.secret},
       {"begins", base::FormatTime(http::CertificateBegin(pem).value_or(base::WallTime{}))}});
}

base::Result<std::optional<http::TlsMaterial>> CertificateKeeper::Refresh(std::stop_token stop) {
  auto authority = Stored(stop);
  if (!authority) return std::move(authority).error();
  TellIfNotYetValid(*authority);
  std::optional<http::TlsMaterial> fresh;
  if (signer_pem_ != authority->current.certificate_pem ||
      WantsRenewal(material_.certificate_chain_pem, options_.clock->Read().wall)) {
    auto made = Sign(*authority);
    if (!made) return std::move(made).error();
    fresh = *std::move(made);
    material_ = *fresh;
    signer_pem_ = authority->current.certificate_pem;
  }
  const std::lock_guard lock(mutex_);
  bundle_ = authority->Bundle();
  certificate_ends_ =
      http::CertificateEnd(material_.certificate_chain_pem).value_or(base::WallTime{});
  authority_ends_ =
      http::CertificateEnd(authority->current.certificate_pem).value_or(base::WallTime{});
  authority_ = *std::move(authority);
  return fresh;
}

base::Result<http::TlsMaterial> CertificateKeeper::First(std::stop_token stop) {
  base::Millis wait{500};
  std::string said;
  while (!stop.stop_requested()) {
    auto first = Refresh(stop);
    if (first && *first) return **std::move(first);
    if (!first && first.error().message != said) {
      said = first.error().message;
      base::LogError("no serving certificate yet; trying again", {{"error", said}});
    }
    runtime::SleepFor(*options_.clock, wait, stop);
    wait = std::min(wait * 2, base::Millis{30'000});
  }
  return base::MakeError(base::Code::kCancelled, "stopped before there was a serving certificate");
}

/// Short lives (tests) are looked at more often than long ones.
base::Seconds CertificateKeeper::Period() const {
  const base::Seconds least =
      std::min({options_.check_period, options_.policy.certificate_life / 12,
                options_.policy.authority_life / 60});
  return std::max(least, base::Seconds{1});
}

base::Status CertificateKeeper::Run(const std::function<void(const http::TlsMaterial*)>& refreshed,
                                    std::stop_token stop) {
  std::string said;
  base::Millis wait = Period();
  while (runtime::SleepFor(*options_.clock, wait, stop)) {
    auto fresh = Refresh(stop);
    wait = fresh ? base::Millis(Period()) : std::min(base::Millis(Period()), base::Millis{30'000});
    const std::string problem = fresh ? "" : fresh.error().message;
    if (problem != said && !problem.empty() && !stop.stop_requested())
      base::LogError("the serving certificate is not looked after; the one in use stays",
                     {{"error", problem}});
    said = problem;
    if (!fresh) continue;
    if (*fresh)
      base::LogInfo("serving certificate renewed",
                    {{"until", base::FormatTime(CertificateEnds())}});
    refreshed(*fresh ? &**fresh : nullptr);
  }
  return {};
}

std::string CertificateKeeper::Bundle() const {
  const std::lock_guard lock(mutex_);
  return bundle_;
}

base::WallTime CertificateKeeper::CertificateEnds() const {
  const std::lock_guard lock(mutex_);
  return certificate_ends_;
}

base::WallTime CertificateKeeper::AuthorityEnds() const {
  const std::lock_guard lock(mutex_);
  return authority_ends_;
}

}  // namespace server
