#include "kube/pod_exec.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/utf8.hpp"
#include "codec/json.hpp"
#include "http/client/web_socket.hpp"
#include "kube/credentials.hpp"
#include "kube/resource.hpp"
#include "kube/status_error.hpp"

namespace kube {
namespace {

constexpr char kV5[] = "v5.channel.k8s.io";
constexpr char kV4[] = "v4.channel.k8s.io";
constexpr char kStdin = '\0';
constexpr char kStdout = '\1';
constexpr char kStderr = '\2';
constexpr char kError = '\3';
constexpr char kClose = '\xff';  ///< v5 only: [255, channel].
constexpr size_t kStatusBytes = 64 << 10;
constexpr size_t kArguments = 256;

std::string TargetOf(const std::string& prefix, const ExecRequest& request) {
  std::string target =
      prefix + ObjectPath({kPods, request.ns, request.pod, "exec"}) + "?stdout=true&stderr=true";
  if (request.input) target += "&stdin=true";
  if (!request.container.empty()) target += "&container=" + EncodeQuery(request.container);
  for (const std::string& argument : request.argv) target += "&command=" + EncodeQuery(argument);
  return target;
}

/// The texts by which container runtimes say that there is no such program: there is no code for
/// it. Not every file that is missing is the program: it may be the container's working directory.
bool SaysNotFound(const std::string& message, const std::string& program) {
  const auto says = [&](std::string_view text) { return message.find(text) != std::string::npos; };
  if (says("executable file") && says("not found")) return true;
  const bool no_file = says("no such file or directory") || says("No such file or directory");
  return no_file && (program.find('/') == std::string::npos ? says("exec: \"" + program + "\"")
                                                            : says(program));
}

/// What the error channel said: how the program ended.
base::Result<int> ExitCodeOf(const std::string& text, const std::string& what,
                             const std::string& program) {
  const auto status =
      codec::ParseJson(text, {.bytes = kStatusBytes, .reject_duplicate_keys = false});
  if (!status || !status->is_object())
    return base::MakeError(base::Code::kUnavailable,
                           what + ": it ended, but its exit status is unreadable",
                           "ExitStatusLost");
  if (codec::GetString(*status, "status") == "Success") return 0;
  const codec::Json& causes = codec::GetMember(codec::GetMember(*status, "details"), "causes");
  for (size_t i = 0; causes.is_array() && i < causes.size(); ++i) {
    if (codec::GetString(causes[i], "reason") != "ExitCode") continue;
    const std::string code = codec::GetString(causes[i], "message");
    if (!code.empty() && code.size() < 4 && code.find_first_not_of("0123456789") == code.npos)
      return std::stoi(code);
  }
  const std::string message = base::CutUtf8(codec::GetString(*status, "message"), 500);
  if (SaysNotFound(message, program))
    return base::MakeError(base::Code::kNotFound, what + ": " + message, "ProgramNotFound");
  return base::MakeError(base::Code::kUnavailable, what + ": " + message, "ExecFailed");
}

/// One call's two directions.
class Talk {
 public:
  Talk(const ExecRequest& request, std::string what) : request_(request), what_(std::move(what)) {}

  base::Status Opened(const std::string& subprotocol) {
    v5_ = subprotocol == kV5;
    if (v5_ || subprotocol == kV4) return {};
    return base::MakeError(base::Code::kUnavailable,
                           fmt::format("{}: the server speaks neither {} nor {}", what_, kV5, kV4),
                           "ExecFailed");
  }

  base::Result<std::string> Next() {
    if (!request_.input || input_ended_) return std::string();
    auto piece = request_.input();
    if (!piece) return piece.error();
    if (!piece->empty()) return std::string(1, kStdin) + *piece;
    input_ended_ = true;
    return v5_ ? std::string{kClose, kStdin} : std::string();
  }

  base::Result<http::Heard> Take(std::string_view message) {
    if (message.empty()) return http::Heard::kMore;
    const std::string_view payload = message.substr(1);
    switch (message.front()) {
      case kStdout:
        if (result_.output.size() + payload.size() > request_.output_limit)
          return base::MakeError(
              base::Code::kInvalid,
              fmt::format("{}: more than {} bytes of output", what_, request_.output_limit),
              "OutputTooLarge");
        result_.output += payload;
        break;
      case kStderr:
        result_.error += payload.substr(
            0, request_.error_limit - std::min(request_.error_limit, result_.error.size()));
        break;
      case kError:
        status_.append(payload.substr(0, kStatusBytes - std::min(kStatusBytes, status_.size())));
        return http::Heard::kLast;
      default:
        break;  // 255: a channel was closed; the error channel says how it ended.
    }
    return http::Heard::kMore;
  }

  bool HasStatus() const { return !status_.empty(); }

  base::Result<ExecResult> Result() && {
    if (!HasStatus())
      return base::MakeError(base::Code::kUnavailable,
                             what_ + ": the connection ended without an exit status",
                             "ExitStatusLost");
    auto code = ExitCodeOf(status_, what_, request_.argv.front());
    if (!code) return code.error();
    result_.exit_code = *code;
    return std::move(result_);
  }

 private:
  const ExecRequest& request_;
  const std::string what_;
  bool v5_ = false;
  bool input_ended_ = false;
  std::string status_;
  ExecResult result_;
};

class WebSocketPodExec final : public PodExec {
 public:
  WebSocketPodExec(std::unique_ptr<Credentials> credentials, std::function<base::Status()> may_run,
                   std::function<void()> run_lost)
      : credentials_(std::move(credentials)),
        may_run_(std::move(may_run)),
        run_lost_(std::move(run_lost)) {}

  base::Result<ExecResult> Run(const ExecRequest& request) override {
    const std::string what =
        fmt::format("exec {} in pods {}/{}", request.argv.empty() ? "" : request.argv.front(),
                    request.ns, request.pod);
    if (request.argv.empty() || request.argv.size() > kArguments)
      return base::MakeError(base::Code::kInvalid, what + ": 1 to 256 arguments are needed");
    credentials_->Refresh(false);
    auto refused = base::MakeError(base::Code::kInternal, what);
    // A 401 and a failed handshake come before anything runs: once more with fresh credentials.
    for (int attempt = 0; attempt < 2; ++attempt) {
      if (may_run_)
        if (auto may = may_run_(); !may) return std::move(may).error();
      Talk talk(request, what);
      auto end = Once(request, talk);
      if (!end && end.error().reason == "ConnectionLost" && talk.HasStatus())
        return std::move(talk).Result();
      const bool begun =
          end ? !end->refused.has_value()
              : end.error().reason != "ConnectFailed" && end.error().reason != "TlsFailure";
      const bool changes = request.effect == base::Effect::kChanges;
      if (begun && changes && !talk.HasStatus() && run_lost_) run_lost_();
      if (!end && end.error().reason == "TlsFailure" && attempt == 0) {
        credentials_->Refresh(true);
        continue;
      }
      if (!end && end.error().reason == "ConnectionLost")
        return base::MakeError(base::Code::kUnavailable, end.error().message, "ExitStatusLost");
      if (!end) return std::move(end).error();
      if (!end->refused) return std::move(talk).Result();
      refused = ErrorOf(*end->refused, what);
      if (refused.code != base::Code::kUnauthorized) break;
      credentials_->Refresh(true);
    }
    return refused;
  }

 private:
  base::Result<http::WebSocketEnd> Once(const ExecRequest& request, Talk& talk) {
    http::WebSocketRequest upgrade{.target = TargetOf(credentials_->PathPrefix(), request),
                                   .subprotocols = {kV5, kV4}};
    credentials_->AppendTo(upgrade.headers);
    return http::RunWebSocket(
        credentials_->Transport(), upgrade,
        {.next = [&] { return talk.Next(); },
         .heard = [&](std::string_view message) { return talk.Take(message); },
         .opened = [&](const std::string& chosen) { return talk.Opened(chosen); }},
        {.deadline = request.deadline, .stop = request.stop});
  }

  std::unique_ptr<Credentials> credentials_;
  std::function<base::Status()> may_run_;
  std::function<void()> run_lost_;
};

}  // namespace

base::Result<std::unique_ptr<PodExec>> PodExec::Create(ClientConfig config,
                                                       std::function<base::Status()> may_run,
                                                       std::function<void()> run_lost) {
  auto credentials = Credentials::Create(std::move(config), {});
  if (!credentials) return credentials.error();
  return std::unique_ptr<PodExec>(std::make_unique<WebSocketPodExec>(
      *std::move(credentials), std::move(may_run), std::move(run_lost)));
}

}  // namespace kube
