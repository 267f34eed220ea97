#include "kube/client.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <random>
#include <set>

#include "base/failpoint.hpp"
#include "base/log.hpp"
#include "codec/json.hpp"
#include "http/client/client.hpp"
#include "http/retry_after.hpp"
#include "kube/credentials.hpp"
#include "kube/json_span.hpp"
#include "kube/status_error.hpp"

namespace kube {
namespace {

constexpr base::Millis kFirstBackOff{100};
constexpr base::Millis kLongestBackOff{5'000};
/// A GET whose server gives no Retry-After is tried this often: its caller has a back-off of its
/// own.
constexpr int kPlainAttempts = 3;
constexpr size_t kWarningsKept = 256;

/// For messages: with its namespace, if it is of one.
std::string TextOf(const Collection& collection) {
  return collection.ns.empty()
             ? collection.resource.plural
             : fmt::format("{} in namespace {}", collection.resource.plural, collection.ns);
}

/// The server tells of its flow schema and priority level by UID only: with how to find the names.
std::string TextOf429(const http::Headers& headers) {
  const auto schema = http::FindHeader(headers, "X-Kubernetes-PF-FlowSchema-UID");
  const auto level = http::FindHeader(headers, "X-Kubernetes-PF-PriorityLevel-UID");
  if (schema.empty()) return "429: refused for now, what was asked is asked again";
  return fmt::format(
      "429: refused for now by API priority and fairness, what was asked is asked again; `kubectl "
      "get flowschemas,prioritylevelconfigurations -o "
      "custom-columns=NAME:.metadata.name,UID:.metadata.uid` names flow schema {} and priority "
      "level {}",
      schema, level);
}

base::MonoTime MonoNow() { return std::chrono::steady_clock::now(); }

/// Sleeps, unless stopped: then false.
bool Sleep(base::Millis wait, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::unique_lock lock(mutex);
  changed.wait_for(lock, stop, wait, [] { return false; });
  return !stop.stop_requested();
}

base::Millis FullJitter(int attempt) {
  static thread_local std::minstd_rand random(std::random_device{}());
  const auto top = std::min(kLongestBackOff, kFirstBackOff * (1 << std::min(attempt, 10)));
  return base::Millis(std::uniform_int_distribution<int64_t>(1, top.count())(random));
}

/// Joins "?a=b&c=d", leaving out what is empty.
class Query {
 public:
  Query& Add(std::string_view name, std::string_view value) {
    if (value.empty()) return *this;
    text_ += text_.empty() ? '?' : '&';
    text_ += name;
    text_ += '=';
    text_ += EncodeQuery(value);
    return *this;
  }
  const std::string& Text() const { return text_; }

 private:
  std::string text_;
};

/// One call, whatever its attempts.
struct Call {
  http::Request request;
  std::string what;  ///< "patch workspaces.molecule.ai a/b", for messages.
  CallOptions options;
  bool fenced = false;  ///< A write: only while ClientOptions::may_write allows it.
};

class HttpKubeClient final : public Client {
 public:
  HttpKubeClient(std::unique_ptr<Credentials> credentials, ClientOptions options)
      : credentials_(std::move(credentials)), options_(std::move(options)) {}

  base::Status MayWrite() const override {
    if (!options_.may_write) return {};
    const auto left = options_.may_write();
    return left ? base::Status() : base::Status(left.error());
  }

  base::Result<std::string> Get(const ObjectRef& object, const CallOptions& call) override {
    return Perform(MakeCall("GET", ObjectPath(object), "get " + object.Text(), call));
  }

  base::Result<std::string> Create(const Collection& where, std::string body,
                                   const WriteOptions& options) override {
    Call call = MakeCall("POST", CollectionPath(where) + WriteQuery(options, false),
                         "create " + TextOf(where), options.call);
    call.request.body = std::move(body);
    return Write("create", where.resource.plural, "application/json", std::move(call));
  }

  base::Result<std::string> Update(const ObjectRef& object, std::string body,
                                   const WriteOptions& options) override {
    Call call = MakeCall("PUT", ObjectPath(object) + WriteQuery(options, false),
                         "update " + object.Text(), options.call);
    call.request.body = std::move(body);
    return Write("update", PointName(object), "application/json", std::move(call));
  }

  base::Result<std::string> Patch(const ObjectRef& object, const kube::Patch& patch,
                                  const WriteOptions& options) override {
    const bool apply = patch.type == PatchType::kApply;
    Call call = MakeCall("PATCH", ObjectPath(object) + WriteQuery(options, apply),
                         "patch " + object.Text(), options.call);
    call.request.body = patch.body;
    const char* type = apply                            ? "application/apply-patch+yaml"
                       : patch.type == PatchType::kJson ? "application/json-patch+json"
                                                        : "application/merge-patch+json";
    return Write("patch", PointName(object), type, std::move(call));
  }

  base::Result<std::string> Delete(const ObjectRef& object, const DeleteOptions& options) override {
    codec::Json body = {{"kind", "DeleteOptions"},
                        {"apiVersion", "v1"},
                        {"propagationPolicy", options.propagation}};
    if (!options.uid.empty()) body["preconditions"]["uid"] = options.uid;
    if (!options.resource_version.empty())
      body["preconditions"]["resourceVersion"] = options.resource_version;
    if (options.dry_run) body["dryRun"] = codec::Json::array({"All"});
    Call call = MakeCall("DELETE", ObjectPath(object), "delete " + object.Text(), options.call);
    call.request.body = codec::Dump(body);
    return Write("delete", PointName(object), "application/json", std::move(call));
  }

  base::Result<std::string> GetRaw(const std::string& path_and_query,
                                   const CallOptions& call) override {
    return Perform(MakeCall("GET", path_and_query, "get " + PathOnly(path_and_query), call));
  }

  base::Result<std::string> PostRaw(const std::string& path_and_query, std::string body,
                                    const CallOptions& options) override {
    const std::string path = PathOnly(path_and_query);
    Call call = MakeCall("POST", path_and_query, "post " + path, options);
    call.request.body = std::move(body);
    return Write("post", path.substr(path.rfind('/') + 1), "application/json", std::move(call));
  }

  base::Result<ListResult> ListEach(const Collection& from, const ListOptions& options,
                                    const ItemSink& sink) override;
  base::Status Watch(const Collection& from, const WatchOptions& options,
                     const EventSink& sink) override;

 private:
  static std::string PathOnly(const std::string& target) {
    return target.substr(0, target.find('?'));
  }
  /// A question in the form of a POST.
  static bool IsReview(std::string_view target) {
    return target.find("/apis/authentication.k8s.io/") != std::string_view::npos ||
           target.find("/apis/authorization.k8s.io/") != std::string_view::npos;
  }
  static std::string PointName(const ObjectRef& object) {
    return object.subresource.empty() ? object.resource.plural
                                      : object.resource.plural + "." + object.subresource;
  }

  Call MakeCall(const char* method, const std::string& target, std::string what,
                const CallOptions& options) const {
    Call call{{}, std::move(what), options};
    call.request.method = method;
    call.request.target = credentials_->PathPrefix() + target;
    return call;
  }

  std::string WriteQuery(const WriteOptions& options, bool apply) const {
    Query query;
    query.Add("fieldManager",
              options.field_manager.empty() ? options_.field_manager : options.field_manager);
    if (apply && options.force) query.Add("force", "true");
    if (options.dry_run) query.Add("dryRun", "All");
    if (options.strict) query.Add("fieldValidation", "Strict");
    return query.Text();
  }

  base::Result<std::string> Write(const char* verb, const std::string& where,
                                  const char* content_type, Call call) {
    const base::FailpointScope point(fmt::format("kube.{}.{}", verb, where));
    call.request.headers.emplace_back("Content-Type", content_type);
    call.fenced = !IsReview(call.request.target);
    return Perform(std::move(call));
  }

  http::Headers HeadersFor(const Call& call) const {
    http::Headers headers = call.request.headers;
    headers.emplace_back("Accept", "application/json");
    headers.emplace_back("User-Agent", options_.user_agent);
    credentials_->AppendTo(headers);
    return headers;
  }

  base::Result<std::string> Perform(Call call);
  base::Result<http::Response> Attempt(const Call& call, base::MonoTime deadline, bool retry);
  std::optional<base::Millis> RetryIn(const Call& call, const base::Result<http::Response>& answer,
                                      int attempt) const;
  base::Error Named(base::Error error, const std::string& what) const {
    error.message = what + ": " + error.message;
    return error;
  }
  /// By what our files say: they may have been rotated since we read them. Nothing was done then.
  static bool Refused(const base::Result<http::Response>& answer) {
    return answer ? answer->status == 401 : answer.error().reason == "TlsFailure";
  }
  /// It was sent, and it is not known whether it happened, or whether it still will.
  static bool MayHappenYet(const base::Result<http::Response>& answer) {
    if (answer) return answer->status == 504;
    const std::string& reason = answer.error().reason;
    return reason != http::kNotSent && reason != "ConnectFailed" && reason != "TlsFailure";
  }
  void Sample(std::string_view method, size_t bytes, const base::Result<http::Response>& answer,
              base::MonoTime start, bool retry) const {
    if (!options_.observe) return;
    const std::string code = answer ? std::to_string(answer->status) : "<error>";
    options_.observe({method, credentials_->Host(), code,
                      std::chrono::duration_cast<base::Millis>(MonoNow() - start), retry, bytes,
                      answer ? answer->body.size() : 0});
  }
  void ShowWarnings(const http::Response& response);
  base::Result<std::string> ReadPage(const std::string& page, ListResult& result,
                                     const ItemSink& sink) const;
  std::string WatchTarget(const Collection& from, const WatchOptions& options) const;

  const std::unique_ptr<Credentials> credentials_;
  const ClientOptions options_;
  std::mutex warnings_mutex_;
  std::set<std::string, std::less<>> warnings_;  ///< By warnings_mutex_.
};

base::Result<http::Response> HttpKubeClient::Attempt(const Call& call, base::MonoTime deadline,
                                                     bool retry) {
  const base::MonoTime start = MonoNow();
  http::Request request = call.request;
  request.headers = HeadersFor(call);
  auto left = std::max(base::Millis{1}, std::chrono::duration_cast<base::Millis>(deadline - start));
  if (call.fenced && options_.may_write) {
    const auto allowed = options_.may_write();  // As late as can be: right before the bytes go out.
    if (!allowed) return allowed.error();
    left = std::clamp(*allowed, base::Millis{1}, left);
  }
  const auto clients = credentials_->Get();
  http::Client& client = request.method == "GET" ? *clients.calls : *clients.writes;
  http::CallOptions how{.deadline = left, .stop = call.options.stop};
  if (call.fenced) how.stop_grace = options_.stop_grace;
  auto answer = client.Send(request, how);
  if (call.fenced && options_.write_lost && MayHappenYet(answer)) options_.write_lost();
  Sample(request.method, request.body.size(), answer, start, retry);
  if (answer) ShowWarnings(*answer);
  return answer;
}

/// When to try again, if at all. A write that was lost in flight may have happened: its caller must
/// look first.
std::optional<base::Millis> HttpKubeClient::RetryIn(const Call& call,
                                                    const base::Result<http::Response>& answer,
                                                    int attempt) const {
  if (attempt >= options_.max_attempts) return std::nullopt;
  const bool get = call.request.method == "GET";
  if (!answer) {
    const bool lost = answer.error().code == base::Code::kUnavailable;
    return get && lost && attempt < kPlainAttempts ? std::optional(FullJitter(attempt))
                                                   : std::nullopt;
  }
  if (answer->status != 429 && answer->status < 500) return std::nullopt;
  // The server is behind the version that was asked for: the caller knows what to do without it.
  const bool of_version = call.request.target.find("resourceVersionMatch=") != std::string::npos;
  if (answer->status == 504 && of_version) return std::nullopt;
  if (const auto wait = http::RetryAfter(answer->headers)) return *wait + FullJitter(0);
  return get && attempt < kPlainAttempts ? std::optional(FullJitter(attempt)) : std::nullopt;
}

base::Result<std::string> HttpKubeClient::Perform(Call call) {
  const base::MonoTime deadline = MonoNow() + call.options.deadline;
  bool asked_again = false;
  for (int attempt = 1;; ++attempt) {
    credentials_->Refresh(false);
    auto answer = Attempt(call, deadline, attempt > 1);
    if (answer && answer->status >= 200 && answer->status < 300) return std::move(answer->body);
    if (Refused(answer) && !asked_again) {
      asked_again = true;
      credentials_->Refresh(true);
      continue;
    }
    const base::Error error =
        answer ? ErrorOf(*answer, call.what) : Named(answer.error(), call.what);
    const auto wait = RetryIn(call, answer, attempt);
    if (!wait || MonoNow() + *wait >= deadline) return error;
    if (!Sleep(*wait, call.options.stop))
      return base::MakeError(base::Code::kCancelled, call.what + ": cancelled");
  }
}

void HttpKubeClient::ShowWarnings(const http::Response& response) {
  std::string text(http::FindHeader(response.headers, "Warning"));
  // The queue of the server that may be full (priority and fairness).
  if (response.status == 429 && text.empty()) text = TextOf429(response.headers);
  if (text.empty()) return;
  if (options_.warning) return options_.warning(text);
  const std::lock_guard lock(warnings_mutex_);
  if (warnings_.size() >= kWarningsKept || !warnings_.insert(text).second) return;
  base::LogWarning("the API server warns", {{"warning", std::move(text)}});
}

/// Hands out the items of one page; the value is the continue token.
base::Result<std::string> HttpKubeClient::ReadPage(const std::string& page, ListResult& result,
                                                   const ItemSink& sink) const {
  std::string_view metadata;
  std::string_view items;
  const auto scanned = EachMember(page, [&](std::string_view key, std::string_view value) {
    if (key == "metadata") metadata = value;
    if (key == "items") items = value;
    return true;
  });
  if (!scanned) return scanned.error();
  const auto parsed = codec::ParseJson(metadata, {.bytes = 64 << 10});
  if (!parsed) return base::MakeError(base::Code::kInvalid, "a list without metadata", "BadFrame");
  if (!items.empty()) {
    const auto each = EachElement(items, [&](std::string_view item) {
      ++result.items;
      return sink(item);
    });
    if (!each) return each.error();
  }
  result.resource_version = codec::GetString(*parsed, "resourceVersion");
  return codec::GetString(*parsed, "continue");
}

base::Result<ListResult> HttpKubeClient::ListEach(const Collection& from,
                                                  const ListOptions& options,
                                                  const ItemSink& sink) {
  const base::MonoTime deadline = MonoNow() + options.call.deadline;
  const std::string what = "list " + TextOf(from);
  ListResult result;
  std::string token;
  do {
    Query query;
    query.Add("labelSelector", options.label_selector).Add("fieldSelector", options.field_selector);
    if (options.page_size > 0) query.Add("limit", std::to_string(options.page_size));
    // A continuation stands for its own version: sending one is refused.
    if (token.empty())
      query.Add("resourceVersion", options.resource_version)
          .Add("resourceVersionMatch", options.resource_version_match);
    query.Add("continue", token);
    const auto left =
        std::max(base::Millis{1}, std::chrono::duration_cast<base::Millis>(deadline - MonoNow()));
    auto page = Perform(
        MakeCall("GET", CollectionPath(from) + query.Text(), what, {left, options.call.stop}));
    if (!page) return page.error();
    auto next = ReadPage(*page, result, sink);
    if (!next) return Named(next.error(), what);
    if (*next == token && !token.empty())
      return base::MakeError(base::Code::kInternal,
                             what + ": the server's continuation does not move");
    token = *std::move(next);
  } while (!token.empty());
  return result;
}

std::string HttpKubeClient::WatchTarget(const Collection& from, const WatchOptions& options) const {
  Query query;
  query.Add("watch", "true").Add("resourceVersion", options.resource_version);
  if (options.bookmarks) query.Add("allowWatchBookmarks", "true");
  if (options.send_initial_events)
    query.Add("sendInitialEvents", "true").Add("resourceVersionMatch", "NotOlderThan");
  if (options.timeout_seconds > 0)
    query.Add("timeoutSeconds", std::to_string(options.timeout_seconds));
  query.Add("labelSelector", options.label_selector).Add("fieldSelector", options.field_selector);
  return CollectionPath(from) + query.Text();
}

base::Status HttpKubeClient::Watch(const Collection& from, const WatchOptions& options,
                                   const EventSink& sink) {
  const Call call = MakeCall("GET", WatchTarget(from, options), "watch " + TextOf(from), {});
  for (bool asked_again = false;; asked_again = true) {
    credentials_->Refresh(asked_again);
    http::Request request = call.request;
    request.headers = HeadersFor(call);
    LineSplitter splitter(options_.line_limit);
    base::Status failed;
    bool retired = false;
    const auto clients = credentials_->Get();
    const auto on_line = [&](std::string_view line) -> base::Status {
      auto event = ReadWatchLine(line);
      return event ? sink(*event) : base::Status(event.error());
    };
    const auto on_bytes = [&](std::string_view bytes) {
      if (options.on_bytes) options.on_bytes();
      failed = splitter.Push(bytes, on_line);
      // A connection with yesterday's certificate is not kept: bookmarks come about every minute.
      credentials_->Refresh(false);
      retired = splitter.Pending() == 0 && !credentials_->Current(clients);
      return failed.has_value() && !retired;
    };
    const base::MonoTime start = MonoNow();
    const http::CallOptions how{options.head_deadline, options.idle.value_or(options_.watch_idle),
                                options.stop};
    auto answer = clients.watches->Stream(request, how, on_bytes);
    Sample("WATCH", 0, answer, start, asked_again);
    if (!failed) return failed.error();
    if (retired) return {};  // As if the server had ended it: it goes on with a new one.
    if (Refused(answer) && !asked_again) continue;
    if (!answer) return Named(answer.error(), call.what);
    ShowWarnings(*answer);
    if (answer->status < 200 || answer->status >= 300) return ErrorOf(*answer, call.what);
    if (splitter.Pending() > 0)
      return base::MakeError(base::Code::kUnavailable,
                             call.what + ": the stream ended inside an event", "ConnectionLost");
    return {};
  }
}

}  // namespace

base::Result<std::unique_ptr<Client>> Client::Create(ClientConfig config, ClientOptions options) {
  auto credentials = Credentials::Create(
      std::move(config), {options.response_limit, options.token_refresh, options.own_connections});
  if (!credentials) return credentials.error();
  return std::unique_ptr<Client>(
      std::make_unique<HttpKubeClient>(*std::move(credentials), std::move(options)));
}

}  // namespace kube
