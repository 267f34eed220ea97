#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace runtime {

enum class WatchEventType { kAdded, kModified, kDeleted, kBookmark, kError };

struct ListOptions {
  std::string
      resource_version;  ///< Empty: consistent read. Else resourceVersionMatch=NotOlderThan.
  int page_size = 500;   ///< 0: unpaged.
};

struct WatchOptions {
  std::string resource_version;      ///< Where to start; empty only with send_initial_events.
  bool send_initial_events = false;  ///< With resourceVersionMatch=NotOlderThan.
  int timeout_seconds =
      0;  ///< timeoutSeconds to ask of the server. Bookmarks are always asked for.
  /// To be called (if set) whenever bytes arrive, even if they are no whole event: proof of life.
  /// Any thread.
  std::function<void()> on_bytes = nullptr;
};

/// Gets the exact bytes of one object, which die with the call (for kError a metav1.Status, for
/// kBookmark the bookmark's object). An Error ends the call with that Error.
using ListSink = std::function<base::Status(std::string_view object)>;
using WatchSink = std::function<base::Status(WatchEventType type, std::string_view object)>;

/// Port: how an informer reaches the objects of one kind. Implemented over the Kubernetes client by
/// app/, by a script in tests.
///
/// Both calls block and must end soon (well under a second) after `stop` is requested, with
/// kCancelled. Errors keep their meaning: kGone = HTTP 410 (a continuation too); kInvalid = the
/// request is refused (400, 405, 422); kForbidden, kUnauthorized, kNotFound; kUnavailable = refused
/// connection, 429, 5xx, broken stream; kTimeout; kInternal. retry_after is honoured. Called by one
/// thread at a time.
class ListWatch {
 public:
  virtual ~ListWatch() = default;
  /// Hands out every object, all pages, one by one as they are read; returns the list's
  /// resourceVersion. Items may have been handed out before an error: the informer stages them.
  virtual base::Result<std::string> List(const ListOptions& options, const ListSink& sink,
                                         std::stop_token stop) = 0;
  /// One watch until it ends. Ok: ended orderly by the server.
  virtual base::Status Watch(const WatchOptions& options, const WatchSink& sink,
                             std::stop_token stop) = 0;
};

}  // namespace runtime
