#include "app/cluster/election.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>

#include "app/cluster/kube_ports.hpp"
#include "base/sha256.hpp"
#include "http/message.hpp"

namespace app {
namespace {

std::string HostName() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

}  // namespace

base::Result<std::unique_ptr<Election>> Election::Open(const ElectionOptions& options,
                                                       Needs needs) {
  auto election = std::make_unique<Election>();
  election->identity_ = HostName() + "_" + base::RandomUuid();
  election->ns_ = options.ns.empty() ? needs.api.default_namespace : options.ns;
  election->name_ = options.name;
  election->advertise_ = options.advertise_url;
  runtime::LeaderElectionOptions elector;
  elector.name = options.name;
  elector.identity = election->identity_;
  elector.lease_duration = options.lease_duration;
  elector.renew_deadline = options.renew_deadline;
  elector.retry_period = options.retry_period;
  elector.metrics = needs.metrics;
  elector.may_release = [self = election.get(), ended = std::move(needs.may_release),
                         lease = options.lease_duration] {
    const auto lost = base::MonoTime{std::chrono::nanoseconds{self->lost_effect_}};
    const bool settled =
        lost == base::MonoTime{} || base::SystemClock::Get().Read().mono - lost >= lease;
    return settled && (!ended || ended());
  };
  if (auto valid = runtime::ValidateLeaderElection(elector); !valid)
    return std::move(valid).error();
  if (auto armed = election->timer_.Open(); !armed) return std::move(armed).error();
  elector.die_at = [timer = &election->timer_](std::optional<base::MonoTime> at) {
    if (at)
      timer->PutOff(*at);
    else
      timer->Disarm();
  };
  needs.client.user_agent += " leader-election";
  needs.client.max_attempts = 1;  // The elector has its own pace.
  needs.client.own_connections = 1;
  needs.client.may_write = nullptr;
  auto client = kube::Client::Create(std::move(needs.api), std::move(needs.client));
  if (!client) return std::move(client).error();
  election->client_ = *std::move(client);
  election->lock_ = MakeLeaseLock(*election->client_, election->ns_, options.name);
  election->elector_ =
      std::make_unique<runtime::LeaderElector>(std::move(elector), *election->lock_);
  return election;
}

base::Status Election::Lead(const std::string& own, runtime::EventRecorder& events,
                            std::stop_token stop) {
  elector_->Contend(AdvertisedUrl(advertise_, own));
  if (auto leading = elector_->WaitUntilLeading(stop); !leading) return leading;
  events.Record({.regarding = {"coordination.k8s.io/v1", "Lease", ns_, name_, ""},
                 .reason = "LeaderElection",
                 .action = "Lead",
                 .note = identity_ + " leads"});
  return {};
}

void Election::NoteLostEffect() {
  lost_effect_ = base::SystemClock::Get().Read().mono.time_since_epoch().count();
}

server::Leadership Election::Who() const {
  const runtime::LeaderView leader = elector_->Leader();
  if (leader.ours) return {leader.valid, ""};
  return {false, leader.valid ? leader.address : std::string()};
}

std::string AdvertisedUrl(const std::string& advertise, const std::string& own) {
  if (!advertise.empty()) return advertise;
  const char* pod = std::getenv("POD_IP");
  const std::string host =
      http::UrlHost(pod != nullptr && *pod != '\0' ? std::string(pod) : HostName());
  for (const char* all : {"://0.0.0.0:", "://[::]:"})
    if (const size_t at = own.find(all); at != std::string::npos)
      return own.substr(0, at) + "://" + host + own.substr(own.rfind(':'));
  return own;
}

}  // namespace app
