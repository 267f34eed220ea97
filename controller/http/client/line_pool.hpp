#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "base/result.hpp"
#include "http/client/client.hpp"
#include "http/client/direct_request.hpp"
#include "http/client/kept_lines.hpp"

/// Inside this folder only.
namespace http {

/// Client::Send() on kept connections, each worked by the thread that calls: three system calls a
/// request instead of about thirty, and nobody is woken. Thread safe: when all are taken, calls
/// wait within their deadlines. Nothing is sent twice.
class LinePool {
 public:
  static constexpr int kMost = 64;

  /// `most` connections at once, 1 to kMost. One: calls take turns.
  LinePool(DirectServer server, int most);
  ~LinePool();
  base::Result<Response> Send(const Request& request, const CallOptions& call);

 private:
  base::Result<Response> Ask(const Request& request, const std::string& what,
                             const CallOptions& call);
  base::Result<Response> AskOn(std::unique_ptr<Line> line, const std::string& composed,
                               const std::string& what, base::MonoTime until,
                               const CallOptions& call);
  std::mutex mutex_;
  std::condition_variable given_back_;
  int free_;  ///< By mutex_: how many more connections there may be.
  KeptLines lines_;
};

}  // namespace http
