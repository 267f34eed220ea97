#pragma once

#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace kube {

enum class EventType { kAdded, kModified, kDeleted, kBookmark, kError };

/// One line of a watch. The views die when the sink returns.
struct WatchEvent {
  EventType type = EventType::kError;
  std::string_view line;    ///< The whole line without its end: {"type":"ADDED","object":{...}}.
  std::string_view object;  ///< The bytes of the object member (a metav1.Status for kError).
};

/// What to do after an event: an Error ends the watch with that error. May block: the socket is
/// then not read (back-pressure), and the idle limit does not run.
using EventSink = std::function<base::Status(const WatchEvent&)>;

struct WatchOptions {
  std::string resource_version =
      {};  ///< Empty: current state first (synthetic ADDED events), then changes.
  bool send_initial_events =
      false;  ///< Streaming list; asks with resourceVersionMatch=NotOlderThan. Ends with a marked
              ///< bookmark.
  bool bookmarks = true;
  int timeout_seconds = 0;  ///< timeoutSeconds asked of the server; 0: the server's choice.
  std::string label_selector = {};
  std::string field_selector = {};
  base::Millis head_deadline{30'000};     ///< Until the answer's head.
  std::optional<base::Millis> idle = {};  ///< Default: ClientOptions::watch_idle.
  std::stop_token stop = {};
  std::function<void()> on_bytes = nullptr;  ///< Something has come, if only a part of an event.
};

/// Splits a byte stream into lines, with a bounded line size. Bytes may arrive cut anywhere.
class LineSplitter {
 public:
  explicit LineSplitter(size_t limit) : limit_(limit) {}
  /// Calls `sink` for each complete, non-empty line. kInvalid with reason BadFrame if a line is
  /// over the limit, or the sink's error.
  base::Status Push(std::string_view bytes,
                    const std::function<base::Status(std::string_view line)>& sink);
  /// Bytes of a line whose end has not come: at the end of a stream this means that it was cut.
  size_t Pending() const { return partial_.size(); }

 private:
  size_t limit_;
  std::string partial_;
};

/// Finds type and object of a watch line without building a document: a line as servers write it is
/// only cut at both ends; of any other the outermost members are scanned, in any order. The inside
/// of the object is its decoder's business. kInvalid with reason BadFrame.
base::Result<WatchEvent> ReadWatchLine(std::string_view line);

/// The Error that a kError event's object (a metav1.Status) stands for: kGone when the version is
/// compacted, and so on as in kube/client.hpp.
base::Error WatchError(const WatchEvent& event);

/// True if a BOOKMARK's object carries the annotation k8s.io/initial-events-end: "true".
bool EndsInitialEvents(const WatchEvent& event);

/// metadata.resourceVersion of an object's bytes, or empty.
std::string_view FindResourceVersion(std::string_view object);

}  // namespace kube
