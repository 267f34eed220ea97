#pragma once

#include <memory>
#include <mutex>

#include "base/result.hpp"
#include "http/client.hpp"
#include "http/direct_request.hpp"

/// Inside this folder only.
namespace http {

class Line;

/// Client::Send() for a caller that asks seldom and one thing at a time, such as the renewal of a
/// Lease: one kept connection, worked by the calling thread. A call costs three system calls
/// instead of about thirty and wakes nobody, and it does not wait behind others' requests. Thread
/// safe: calls take turns, within their deadlines. Nothing is sent twice.
class OwnConnection {
 public:
  explicit OwnConnection(DirectServer server);
  ~OwnConnection();
  base::Result<Response> Send(const Request& request, const CallOptions& call);

 private:
  base::Result<Response> Ask(const Request& request, const std::string& what,
                             const CallOptions& call);

  const DirectServer server_;
  std::timed_mutex turn_;
  std::unique_ptr<Line> line_;  ///< By turn_. Null: to be dialled.
};

}  // namespace http
