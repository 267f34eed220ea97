#pragma once

#include <cpprest/http_client.h>

#include <exception>
#include <memory>
#include <mutex>
#include <optional>

#include "base/result.hpp"
#include "http/client/body_pipe.hpp"
#include "http/client/client.hpp"

namespace http {

/// One request on its way through cpprestsdk. Shared with the library's continuations, which end by
/// themselves: no exception of a task stays unobserved (that would end the process), and a call is
/// cancelled and waited for before it is dropped.
class ClientCall : public std::enable_shared_from_this<ClientCall> {
 public:
  explicit ClientCall(std::shared_ptr<web::http::client::http_client> client)
      : client_(std::move(client)), pipe_(std::make_shared<BodyPipe>()) {}

  /// Runs to the end on the calling thread.
  base::Result<Response> Run(const Request& request, const CallOptions& call, size_t limit);

 private:
  base::Status Begin(const Request& request);
  base::Result<Response> Consume(const CallOptions& call, size_t limit);
  /// Cancels, waits until the library has let go, and returns `error`.
  base::Error Abort(base::Error error);
  Response Head() const;
  std::optional<base::Error> Failed();

  const std::shared_ptr<web::http::client::http_client> client_;
  const std::shared_ptr<BodyPipe> pipe_;
  pplx::cancellation_token_source cancel_;
  std::string what_;  ///< "GET host/path", for messages; without the query, which may hold what is
                      ///< nobody's business.
  std::mutex mutex_;
  std::optional<web::http::http_response> response_;  ///< By mutex_.
  std::exception_ptr failure_;                        ///< By mutex_.
};

}  // namespace http
