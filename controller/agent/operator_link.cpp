#include "agent/operator_link.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.hpp"
#include "protocol/answer.hpp"

namespace agent {
namespace {

base::Status WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return base::ErrnoError(errno, "write a downloaded plugin");
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return {};
}

base::Error Refused(const http::Response& response, const std::string& path) {
  const auto body = protocol::DecodeError(response.body);
  const base::Code code = response.status >= 500 || response.status == 429
                              ? base::Code::kUnavailable
                          : response.status == 404 ? base::Code::kNotFound
                                                   : base::Code::kForbidden;
  return base::MakeError(code,
                         fmt::format("GET {} was answered {} {}", path, response.status,
                                     body ? body->message : std::string()),
                         "DownloadRefused");
}

}  // namespace

base::Result<std::unique_ptr<OperatorLink>> OperatorLink::Open(const AgentOptions& options) {
  std::unique_ptr<OperatorLink> link(new OperatorLink(options));
  if (auto client = link->CurrentClient(); !client) return client.error();
  return link;
}

base::Result<std::shared_ptr<http::Client>> OperatorLink::CurrentClient() {
  http::ClientOptions client;
  client.base_url = options_.operator_url;
  client.response_limit = 256 << 20;
  const std::lock_guard lock(mutex_);
  if (!options_.ca_file.empty()) {
    auto pem = base::ReadFile(options_.ca_file, 1 << 20);
    if (client_ && (!pem || *pem == ca_pem_)) return client_;
    if (!pem) return pem.error();
    client.ca_pem = std::move(*pem);
  } else if (client_) {
    return client_;
  }
  auto made = http::Client::Create(client);
  if (!made && client_) return client_;
  if (!made) return made.error();
  client_ = std::move(*made);
  ca_pem_ = std::move(client.ca_pem);
  return client_;
}

base::Result<std::string> OperatorLink::ReadToken() const {
  auto text = base::ReadFile(options_.token_file, 4096);
  if (!text) return base::MakeError(base::Code::kNotFound, text.error().message, "TokenMissing");
  while (!text->empty() && (text->back() == '\n' || text->back() == '\r' || text->back() == ' ')) {
    text->pop_back();
  }
  if (text->empty()) {
    return base::MakeError(base::Code::kNotFound,
                           fmt::format("the token file {} is empty", options_.token_file),
                           "TokenMissing");
  }
  return text;
}

base::Result<http::Response> OperatorLink::Post(const std::string& path, const std::string& body,
                                                std::stop_token stop) {
  auto client = CurrentClient();
  if (!client) return client.error();
  auto token = ReadToken();
  for (int attempt = 0;; ++attempt) {
    if (!token) return token.error();
    http::Request request;
    request.method = "POST";
    request.target = path;
    request.headers = {{"Authorization", "Bearer " + *token}, {"Content-Type", "application/json"}};
    request.body = body;
    auto response = (*client)->Send(request, {.deadline = options_.request_deadline, .stop = stop});
    if (!response || response->status != 401 || attempt > 0) return response;
    auto again = ReadToken();  // rotated between our reading and the operator's?
    if (!again || *again == *token) return response;
    token = std::move(again);
  }
}

base::Result<http::Response> OperatorLink::Fetch(const http::Request& request, int fd,
                                                 std::stop_token stop) {
  auto client = CurrentClient();
  if (!client) return client.error();
  base::Status written;
  // The deadline of Stream ends with the head, so the whole is watched here.
  const auto end = std::chrono::steady_clock::now() + options_.download_deadline;
  auto response = (*client)->Stream(
      request, {.deadline = options_.request_deadline, .idle = base::Millis{30'000}, .stop = stop},
      [&](std::string_view bytes) {
        if (std::chrono::steady_clock::now() > end) {
          written = base::MakeError(base::Code::kTimeout, "the download took too long");
        } else {
          written = WriteAll(fd, bytes);
        }
        return written.has_value();
      });
  if (!written) return written.error();
  return response;
}

base::Status OperatorLink::Download(const std::string& path, const std::string& digest,
                                    const std::string& file, std::stop_token stop) {
  const auto token = ReadToken();
  if (!token) return token.error();
  const base::UniqueFd fd(
      ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.Valid()) return base::ErrnoError(errno, "open " + file);
  http::Request request;
  request.target = path;
  request.headers = {{"Authorization", "Bearer " + *token}};
  const auto response = Fetch(request, fd.Get(), stop);
  if (!response) return response.error();
  if (response->status != 200) return Refused(*response, path);
  const auto etag = http::FindHeader(response->headers, "ETag");
  if (etag != fmt::format("\"{}\"", digest)) {
    return base::MakeError(base::Code::kConflict,
                           fmt::format("GET {} gave other bytes than the answer named", path),
                           "DigestMismatch");
  }
  return {};
}

}  // namespace agent
