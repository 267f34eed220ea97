#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "kube/kubeconfig.hpp"
#include "kube/resource.hpp"
#include "kube/watch_stream.hpp"

namespace kube {

/// How a call ends early. The deadline covers all its attempts.
struct CallOptions {
  base::Millis deadline{30'000};
  std::stop_token stop = {};
};

/// Query parameters of writes. Every write must be safe to repeat (fixed names, resourceVersion,
/// field manager): the HTTP library may send a request twice on a stale connection.
struct WriteOptions {
  std::string field_manager = {};  ///< Empty: ClientOptions::field_manager.
  bool force = false;              ///< Apply only: take fields over from other managers.
  bool dry_run = false;            ///< dryRun=All.
  bool strict = false;             ///< fieldValidation=Strict.
  CallOptions call = {};
};

struct DeleteOptions {
  std::string uid = {};                    ///< Precondition; empty: none.
  std::string resource_version = {};       ///< Precondition; empty: none.
  std::string propagation = "Background";  ///< Background, Foreground or Orphan.
  bool dry_run = false;
  CallOptions call = {};
};

enum class PatchType {
  kMerge,  ///< application/merge-patch+json
  kJson,   ///< application/json-patch+json
  kApply,  ///< application/apply-patch+yaml (the body may be JSON): server-side apply.
};

struct Patch {
  PatchType type = PatchType::kMerge;
  std::string body = {};
};

/// What a list asks for.
struct ListOptions {
  std::string label_selector = {};
  std::string field_selector = {};
  std::string resource_version = {};  ///< Empty: the most recent (consistent read).
  std::string resource_version_match =
      {};               ///< Exact, NotOlderThan or empty. Sent for the first page only.
  int page_size = 500;  ///< limit=; 0: unpaged.
  CallOptions call = {.deadline = base::Millis{120'000}};
};

struct ListResult {
  std::string resource_version = {};
  size_t items = 0;
};

/// Gets the exact bytes of one item; they die with the call. Returning an Error ends the list with
/// it.
using ItemSink = std::function<base::Status(std::string_view item)>;

/// One attempt at a request, for the rest_client_* metrics. No per-object labels.
struct RequestSample {
  std::string_view method;
  std::string_view host;
  std::string_view code;  ///< The HTTP status, or "<error>".
  base::Millis duration;
  bool retry;
  size_t request_bytes = 0;   ///< Of the body.
  size_t response_bytes = 0;  ///< Of the body.
};

struct ClientOptions {
  std::string user_agent = "workspace-operator";
  std::string field_manager = "workspace-operator";
  std::function<void(const RequestSample&)> observe =
      nullptr;  ///< Called from the calling thread; must not block.
  std::function<void(std::string_view)> warning =
      nullptr;  ///< Text of a `Warning` header, or which flow schema a 429 names; default: logged
                ///< once each.
  /// Asked before each attempt at a write: how long it may take from now, or why it must not be
  /// sent. The one place that fences a process which may have lost its lease. Null: no fence.
  /// Any thread; must not block.
  std::function<base::Result<base::Millis>()> may_write = nullptr;
  /// Told of each fenced write that was sent and whose answer was not had: it may still come into
  /// effect. Any thread; must not block.
  std::function<void()> write_lost = nullptr;
  /// After its `stop` a write that has been sent gets so much longer for its answer.
  base::Millis stop_grace{2'000};
  int max_attempts = 10;  ///< For one call, retries included.
  base::Millis watch_idle{
      90'000};  ///< A watch silent for longer is broken (bookmarks come about every 60 s).
  size_t response_limit = 64 << 20;    ///< Bytes of one answer.
  size_t line_limit = 4 << 20;         ///< Bytes of one watch event.
  base::Millis token_refresh{60'000};  ///< token_file is read again when the last read is older.
  /// Calls use so many kept connections of this client, worked by the calling threads. 0: writes
  /// have connections of their own, on which nothing is sent twice, and reads share cpprestsdk's.
  int own_connections = 0;
};

/// A Kubernetes API client. Thread safe; all calls block and end within their deadline, or
/// milliseconds after `stop` is requested; a write that has been sent already, within `stop_grace`.
///
/// Values are the answer's body, the exact bytes of a JSON object: decode them with codec.
/// Errors (from metav1.Status where there is one; message names verb and object; reason is the
/// Status reason, e.g. AlreadyExists): 400, 405, 413, 415, 422 kInvalid (details.causes in the
/// message); 401 kUnauthorized (after one retry with fresh credentials); 403 kForbidden (reason
/// NamespaceTerminating where that is why); 404 kNotFound; 409 kAlreadyExists (that reason, too) or
/// kConflict; 410 kGone; 408 and 504 kTimeout; 429 and other 5xx kUnavailable with retry_after; no
/// answer kUnavailable, kTimeout or kCancelled. Retried inside a call: 429 and 5xx that carry
/// Retry-After (any verb), and a lost connection or 5xx for GET. Writes that were lost in flight
/// are not retried. A write that ClientOptions::may_write refuses fails with that error and is not
/// sent.
class Client {
 public:
  static base::Result<std::unique_ptr<Client>> Create(ClientConfig config,
                                                      ClientOptions options = {});
  virtual ~Client() = default;

  /// The fence, for effects that do not go through this client (boxes): Ok when a write may start.
  virtual base::Status MayWrite() const = 0;

  virtual base::Result<std::string> Get(const ObjectRef& object, const CallOptions& call = {}) = 0;
  virtual base::Result<std::string> Create(const Collection& where, std::string body,
                                           const WriteOptions& options = {}) = 0;
  /// PUT. The body's metadata.resourceVersion is the optimistic lock.
  virtual base::Result<std::string> Update(const ObjectRef& object, std::string body,
                                           const WriteOptions& options = {}) = 0;
  virtual base::Result<std::string> Patch(const ObjectRef& object, const kube::Patch& patch,
                                          const WriteOptions& options = {}) = 0;
  /// Patch of the status subresource.
  base::Result<std::string> PatchStatus(ObjectRef object, const kube::Patch& patch,
                                        const WriteOptions& options = {}) {
    object.subresource = "status";
    return Patch(object, patch, options);
  }
  virtual base::Result<std::string> Delete(const ObjectRef& object,
                                           const DeleteOptions& options = {}) = 0;
  /// GET of any path ("/version", "/readyz"), with the same errors.
  virtual base::Result<std::string> GetRaw(const std::string& path_and_query,
                                           const CallOptions& call = {}) = 0;
  /// Any other POST, e.g. a TokenReview or SubjectAccessReview, or an eviction. Reviews store
  /// nothing and are not fenced.
  virtual base::Result<std::string> PostRaw(const std::string& path_and_query, std::string body,
                                            const CallOptions& call = {}) = 0;

  /// Pages through a list and hands out each item's bytes. A page that fails fails the list (kGone
  /// when a continuation expired: list again unpaged, as INF-08). The sink may already have had
  /// items of earlier pages: stage them.
  virtual base::Result<ListResult> ListEach(const Collection& from, const ListOptions& options,
                                            const ItemSink& sink) = 0;

  /// Runs one watch until it ends; see WatchOptions. Uses connections of its own, so watches cannot
  /// starve calls. Ok when the server ended the stream orderly (resume from the last version seen).
  /// Errors as above when the watch is refused; kUnavailable when it broke, kTimeout when it fell
  /// silent, kInvalid (reason BadFrame) for a broken or oversized line, kCancelled, or the sink's
  /// own error.
  virtual base::Status Watch(const Collection& from, const WatchOptions& options,
                             const EventSink& sink) = 0;
};

}  // namespace kube
