#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "http/client/client.hpp"
#include "http/server/server.hpp"

namespace server {

/// Who answers what only the leader can.
struct Leadership {
  bool ours = true;
  std::string address = {};  ///< The leader's URL, if it is another process and known.
};

struct LeaderLinkOptions {
  std::function<Leadership()> leadership = nullptr;  ///< Empty: always ours. Any thread.
  /// How to reach the leader at this URL (its CA). Empty: as the URL says.
  std::function<http::ClientOptions(const std::string& url)> client = nullptr;
  base::Millis deadline{5'000};       ///< For one answer; downloads until their head.
  base::Millis pause{1'000};          ///< An unreachable leader is not asked again for this long.
  size_t download_limit = 256 << 20;  ///< Bytes.
  std::string spool_folder = "/tmp";  ///< Where downloads that pass through lie meanwhile.
  const base::Clock* clock = &base::SystemClock::Get();
};

/// Passes requests on to the leader, so that any replica may be asked (docs/decisions/0011).
/// Blocks: for worker threads. Thread safe.
class LeaderLink {
 public:
  explicit LeaderLink(LeaderLinkOptions options) : options_(std::move(options)) {}
  bool Ours() const { return !options_.leadership || options_.leadership().ours; }
  /// Answers with the leader's answer, or 503 with Retry-After when there is none. A request that
  /// was passed on once already is not passed on again, nor is one whose handler must not block.
  void Pass(const http::ServerRequest& in, http::Responder& out);

 private:
  struct Target {
    std::shared_ptr<http::Client> client;
    std::string address;
  };
  base::Result<Target> Find();
  void Failed(const std::string& address);
  void PassDownload(const Target& target, const http::Request& request, http::Responder& out);

  const LeaderLinkOptions options_;
  std::mutex mutex_;
  Target last_;                         ///< By mutex_.
  std::string unreachable_;             ///< By mutex_: an address,
  base::MonoTime unreachable_until_{};  ///< By mutex_: and until when.
};

}  // namespace server
