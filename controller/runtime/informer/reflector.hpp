#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "runtime/backoff.hpp"
#include "runtime/informer/informer_core.hpp"
#include "runtime/informer/list_watch.hpp"
#include "runtime/timed_wait.hpp"

namespace runtime {

/// Where a reflector puts what it reads.
class ReflectorTarget {
 public:
  virtual ~ReflectorTarget() = default;
  /// Drops what was staged and starts anew.
  virtual void BeginStaging() = 0;
  /// Takes one object of the coming set (or, for kDeleted, out of it). An Error breaks the attempt.
  virtual base::Status Stage(WatchEventType type, std::string_view object) = 0;
  /// The staged set is complete as of `version`: it becomes the content.
  virtual void Publish(const std::string& version) = 0;
  /// One change; returns the version of the object. An Error breaks the attempt.
  virtual base::Result<std::string> Apply(WatchEventType type, std::string_view object) = 0;
  virtual void Bookmark(const std::string& version) = 0;
};

/// Numbers of a reflector.
struct ReflectorStats {
  uint64_t lists = 0, watches = 0, events = 0, bookmarks = 0, relists = 0;
  bool listing = false;
  std::string last_error;
  base::MonoTime last_contact{};
};

/// Keeps a target equal to what a ListWatch serves, for ever. One thread runs it; another one calls
/// CancelIfSilent().
class Reflector {
 public:
  Reflector(const InformerOptions& options, ListWatch& source, ReflectorTarget& target);

  /// Until `stop`. `changed` is called when Deadline() may have become earlier.
  void Run(const std::stop_token& stop, const std::function<void()>& changed);
  /// When CancelIfSilent() is worth a call.
  base::MonoTime Deadline() const;
  /// Ends the current attempt if it has been silent for too long, or its initial stream has taken
  /// too long.
  void CancelIfSilent();
  ReflectorStats Stats() const;

 private:
  enum class Next { kResume, kRelist };
  struct Outcome {
    Next next = Next::kResume;
    bool failed = false;  ///< Back off first.
    std::optional<base::Millis> retry_after = std::nullopt;
  };
  struct WatchRun;
  class Attempt;

  Outcome Initial(const std::stop_token& stop);
  Outcome InitialStream(const std::stop_token& stop, bool* refused);
  Outcome InitialList(const std::stop_token& stop);
  base::Result<std::string> ListOnce(const std::string& version, int page_size,
                                     const std::stop_token& stop);
  Outcome Resume(const std::stop_token& stop);
  base::Status Watch(WatchRun* run, const std::stop_token& stop);
  base::Status OnEvent(WatchRun* run, WatchEventType type, std::string_view object);
  base::Status OnBookmark(WatchRun* run, std::string_view object);
  Outcome Judge(const WatchRun& run, const base::Status& ended);
  Outcome JudgeError(const base::Error& error);
  Outcome Failure(Next next, const base::Error& error);
  void Demote(const std::string& why);
  bool MarkerLate() const;
  void Contact();
  void Healthy();
  int WatchSeconds();
  base::MonoTime MonoNow() const { return options_.clock->Read().mono; }

  const InformerOptions& options_;
  ListWatch& source_;
  ReflectorTarget& target_;
  Jitter jitter_;
  std::function<void()> changed_;
  bool streaming_;
  bool published_ = false;
  std::string version_;
  int failures_ = 0;         ///< In a row, for the back-off.
  int marker_failures_ = 0;  ///< Initial streams that did not reach their end.
  int broken_ = 0;           ///< Watches broken in a row without an event.
  int gone_ = 0;             ///< 410s in a row without an event.

  mutable std::mutex mutex_;
  std::stop_source* attempt_ = nullptr;  ///< Guarded by mutex_, as is all below.
  base::MonoTime silent_after_ = kNever;
  base::MonoTime marker_by_ = kNever;
  base::MonoTime marker_end_ = kNever;  ///< marker_by_ moves on with each object, up to here.
  std::string cancelled_because_;
  bool marker_late_ = false;  ///< The last attempt was cancelled for its marker.
  base::MonoTime warned_{};
  ReflectorStats stats_;
};

}  // namespace runtime
