#include "http/client/client_call.hpp"

#include <fmt/format.h>

#include <cerrno>

#include "http/client/client_tls.hpp"

namespace http {
namespace {

constexpr base::Millis kAbortWait{10'000};

base::MonoTime In(base::Millis wait) { return std::chrono::steady_clock::now() + wait; }

/// The library reports TLS failures as raw OpenSSL numbers, which are far above any errno.
bool IsTlsError(int value) { return value >= (1 << 24) || value < 0; }

base::Error FromException(const std::exception_ptr& failure, const std::string& what) {
  using base::Code;
  try {
    std::rethrow_exception(failure);
  } catch (const web::http::http_exception& error) {
    const int value = error.error_code().value();
    const std::string text = error.what();
    if (value == ETIMEDOUT) return base::MakeError(Code::kTimeout, what + ": no answer in time");
    if (value == ECANCELED) return base::MakeError(Code::kCancelled, what + ": cancelled");
    if (IsTlsError(value) || text.find("SSL handshake") != std::string::npos)
      return base::MakeError(Code::kUnauthorized, what + ": " + kTlsFailureText, "TlsFailure");
    if (value == EHOSTUNREACH || value == ECONNREFUSED)
      return base::MakeError(Code::kUnavailable, what + ": cannot connect", "ConnectFailed");
    return base::MakeError(Code::kUnavailable,
                           what + ": the connection broke or the server is unknown",
                           "ConnectionLost");
  } catch (const pplx::task_canceled&) {
    return base::MakeError(Code::kCancelled, what + ": cancelled");
  } catch (const std::exception& error) {
    return base::MakeError(Code::kUnavailable, what + ": " + error.what(), "ConnectionLost");
  } catch (...) {
    return base::MakeError(Code::kInternal, what + ": unknown failure");
  }
}

web::http::http_request ToLibrary(const Request& request, const std::shared_ptr<BodyPipe>& pipe) {
  web::http::http_request out(request.method);
  out.set_request_uri(web::uri(request.target));
  for (const auto& [name, value] : request.headers) out.headers().add(name, value);
  if (!request.body.empty() || request.method == "POST" || request.method == "PUT" ||
      request.method == "PATCH")
    // Not as a string: the library then calls a buffer of char through one of uint8_t, which is
    // undefined.
    out.set_body(std::vector<unsigned char>(request.body.begin(), request.body.end()));
  out.set_response_stream(
      concurrency::streams::ostream(concurrency::streams::streambuf<uint8_t>(pipe)));
  return out;
}

}  // namespace

base::Status ClientCall::Begin(const Request& request) {
  const auto self = shared_from_this();
  try {
    const auto outgoing = ToLibrary(request, pipe_);
    client_->request(outgoing, cancel_.get_token())
        .then([self](pplx::task<web::http::http_response> head) {
          try {
            auto response = head.get();
            {
              const std::lock_guard lock(self->mutex_);
              self->response_ = response;
            }
            self->pipe_->OnHead();
            response.content_ready().then([self](pplx::task<web::http::http_response> body) {
              try {
                body.get();
              } catch (...) {
                const std::lock_guard lock(self->mutex_);
                self->failure_ = std::current_exception();
              }
              self->pipe_->OnDone();
            });
          } catch (...) {
            {
              const std::lock_guard lock(self->mutex_);
              self->failure_ = std::current_exception();
            }
            self->pipe_->OnDone();
          }
        });
  } catch (const web::uri_exception&) {
    return base::MakeError(base::Code::kInvalid, what_ + ": malformed request target");
  } catch (const std::exception& error) {
    return base::MakeError(base::Code::kUnavailable, what_ + ": " + error.what());
  }
  return {};
}

Response ClientCall::Head() const {
  Response head;
  head.status = response_->status_code();
  for (const auto& [name, value] : response_->headers()) head.headers.emplace_back(name, value);
  return head;
}

std::optional<base::Error> ClientCall::Failed() {
  const std::lock_guard lock(mutex_);
  if (!failure_) return std::nullopt;
  return FromException(failure_, what_);
}

base::Error ClientCall::Abort(base::Error error) {
  pipe_->Discard();
  try {
    cancel_.cancel();
  } catch (const std::exception&) {
    // The library's callback failed; the wait below still bounds us.
  }
  pipe_->AwaitDone(In(kAbortWait));
  return error;
}

base::Result<Response> ClientCall::Run(const Request& request, const CallOptions& call,
                                       size_t limit) {
  std::string server = client_->base_uri().authority().to_string();
  if (server.ends_with('/')) server.pop_back();  // The target begins with one.
  what_ = fmt::format("{} {}{}", request.method, server,
                      request.target.substr(0, request.target.find('?')));
  if (call.stop.stop_requested())
    return base::MakeError(base::Code::kCancelled, what_ + ": cancelled");
  if (auto begun = Begin(request); !begun) return begun.error();
  const std::stop_callback wake(call.stop, [pipe = pipe_] { pipe->Wake(); });
  return Consume(call, limit);
}

base::Result<Response> ClientCall::Consume(const CallOptions& call, size_t limit) {
  const base::MonoTime total = In(call.deadline);
  auto state = pipe_->Wait(total, true);
  const auto cancelled = [&] {
    return Abort(base::MakeError(base::Code::kCancelled, what_ + ": cancelled"));
  };
  const auto late = [&](const char* why) {
    return Abort(base::MakeError(base::Code::kTimeout, what_ + why));
  };
  if (state.stopped) return cancelled();
  if (!state.head && state.done)
    return Failed().value_or(base::MakeError(base::Code::kInternal, what_ + ": no answer"));
  if (!state.head) return late(": no answer in time");
  Response result;
  {
    const std::lock_guard lock(mutex_);
    result = Head();
  }
  while (true) {
    state = pipe_->Wait(total, false, std::move(state.bytes));
    if (call.stop.stop_requested()) return cancelled();
    if (state.bytes.empty() && state.done) break;
    if (state.bytes.empty()) return late(": the answer did not end in time");
    if (result.body.size() + state.bytes.size() > limit)
      return Abort(base::MakeError(base::Code::kInvalid,
                                   fmt::format("{}: the answer is over {} bytes", what_, limit),
                                   "TooLarge"));
    result.body += state.bytes;
    if (std::chrono::steady_clock::now() >= total && !state.done)
      return late(": the answer did not end in time");
  }
  if (auto failed = Failed()) return *std::move(failed);
  return result;
}

}  // namespace http
