#include "server/leader_link.hpp"

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/file.hpp"
#include "server/answers.hpp"

namespace server {
namespace {

constexpr char kPassedOn[] = "X-Workspace-Operator-Passed-On";

bool SameName(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return (x | 0x20) == (y | 0x20); });
}

/// Headers that belong to one connection, or that the library writes itself.
bool EndToEnd(std::string_view name) {
  static constexpr std::array<std::string_view, 10> kHops = {
      "Connection",     "Keep-Alive", "Transfer-Encoding", "TE",  "Trailer", "Upgrade",
      "Content-Length", "Expect",     "Proxy-Connection",  "Host"};
  return std::none_of(kHops.begin(), kHops.end(),
                      [&](std::string_view hop) { return SameName(hop, name); });
}

http::Headers Copied(const http::Headers& headers) {
  http::Headers copied;
  for (const auto& header : headers)
    if (EndToEnd(header.first)) copied.push_back(header);
  return copied;
}

/// Whoever asked keeps what it wanted to say and comes back.
http::Response NoLeader(std::string_view why) {
  auto response = ErrorResponse(503, "no_leader", why, "repeat the request after Retry-After");
  response.headers.emplace_back("Retry-After", "1");
  return response;
}

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

bool IsDownload(const http::Request& request) {
  const std::string_view target = request.target;
  return request.method == "GET" && target.substr(0, target.find('?')).ends_with("/download");
}

}  // namespace

base::Result<LeaderLink::Target> LeaderLink::Find() {
  const Leadership leadership = options_.leadership();
  const auto none = [](const char* why) { return base::MakeError(base::Code::kUnavailable, why); };
  if (leadership.ours) return none("this replica has just become the leader");
  if (leadership.address.empty()) return none("no replica leads at the moment");
  const std::lock_guard lock(mutex_);
  if (leadership.address == unreachable_ && options_.clock->Read().mono < unreachable_until_)
    return none("the leader cannot be reached at the moment");
  if (!last_.client || last_.address != leadership.address) {
    http::ClientOptions how;
    how.base_url = leadership.address;
    if (options_.client) how = options_.client(leadership.address);
    auto client = http::Client::Create(std::move(how));
    if (!client) return std::move(client).error();
    last_ = {std::shared_ptr<http::Client>(*std::move(client)), leadership.address};
  }
  return last_;
}

void LeaderLink::Failed(const std::string& address) {
  const std::lock_guard lock(mutex_);
  unreachable_ = address;
  unreachable_until_ = options_.clock->Read().mono + options_.pause;
  last_ = {};
}

void LeaderLink::Pass(const http::ServerRequest& in, http::Responder& out) {
  if (!http::FindHeader(in.request.headers, kPassedOn).empty())
    return out.Send(NoLeader("this replica does not lead any more, or not yet"));
  // The lead was lost between the head and the end of the body: this is an I/O thread, and
  // everybody whose connection it serves would wait for the leader's answer.
  if (in.mode == http::Mode::kInline)
    return out.Send(NoLeader("this replica has just stopped leading"));
  const auto target = Find();
  if (!target) return out.Send(NoLeader(target.error().message));
  http::Request request = in.request;
  request.headers = Copied(in.request.headers);
  request.headers.emplace_back(kPassedOn, "1");
  if (IsDownload(request)) return PassDownload(*target, request, out);
  auto answer = target->client->Send(request, {.deadline = options_.deadline});
  if (!answer) {
    Failed(target->address);
    return out.Send(NoLeader("the leader does not answer"));
  }
  answer->headers = Copied(answer->headers);
  out.Send(*std::move(answer));
}

/// By way of a file without a name: the asker may be slower than the leader.
void LeaderLink::PassDownload(const Target& target, const http::Request& request,
                              http::Responder& out) {
  base::UniqueFd file(::open(options_.spool_folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!file.Valid()) return out.Send(NoLeader("there is no room for the download here"));
  uint64_t size = 0;
  bool room = true;
  const auto sink = [&](std::string_view bytes) {
    size += bytes.size();
    room = size <= options_.download_limit && WriteAll(file.Get(), bytes);
    return room;
  };
  auto answer = target.client->Stream(
      request, {.deadline = options_.deadline, .idle = options_.deadline}, sink);
  if (!room) return out.Send(NoLeader("there is no room for the download here"));
  if (!answer) {
    Failed(target.address);
    return out.Send(NoLeader("the leader does not answer"));
  }
  answer->headers = Copied(answer->headers);
  if (answer->status < 200 || answer->status >= 300) return out.Send(*std::move(answer));
  out.SendFile(*std::move(answer), file.Release(), 0, size);
}

}  // namespace server
