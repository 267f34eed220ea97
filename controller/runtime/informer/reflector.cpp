#include "runtime/informer/reflector.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.hpp"
#include "runtime/informer/wire_head.hpp"
#include "runtime/metrics.hpp"

namespace runtime {
namespace {

/// A server that tells of new objects for ever and never comes to the marker is given up, too:
/// after so many limits (ten minutes by default).
constexpr int kMarkerLimits = 5;
constexpr base::Seconds kWarnAgain{60};  ///< What goes on failing in one way is said this often.

}  // namespace

/// One call of the source: its own stop source, which the outer stop and the watch for silence can
/// both request.
class Reflector::Attempt {
 public:
  Attempt(Reflector& reflector, const std::stop_token& stop, bool initial_stream)
      : reflector_(reflector), forward_(stop, [this] { source_.request_stop(); }) {
    {
      std::lock_guard lock(reflector_.mutex_);
      const base::MonoTime now = reflector_.MonoNow();
      reflector_.attempt_ = &source_;
      reflector_.cancelled_because_.clear();
      reflector_.marker_late_ = false;
      reflector_.silent_after_ = now + reflector_.options_.liveness;
      reflector_.marker_by_ = initial_stream ? now + reflector_.options_.marker_limit : kNever;
      reflector_.marker_end_ = now + kMarkerLimits * reflector_.options_.marker_limit;
    }
    if (reflector_.changed_) reflector_.changed_();
  }
  ~Attempt() {
    std::lock_guard lock(reflector_.mutex_);
    reflector_.attempt_ = nullptr;
    reflector_.silent_after_ = kNever;
    reflector_.marker_by_ = kNever;
  }
  std::stop_token Token() const { return source_.get_token(); }
  /// The status of the call, or what we cancelled it for.
  base::Error ErrorOf(const base::Error& error) const {
    std::lock_guard lock(reflector_.mutex_);
    if (reflector_.cancelled_because_.empty()) return error;
    return base::MakeError(base::Code::kTimeout, reflector_.cancelled_because_, "Silent");
  }

 private:
  Reflector& reflector_;
  std::stop_source source_;
  std::stop_callback<std::function<void()>> forward_;
};

/// The state of one watch connection.
struct Reflector::WatchRun {
  WatchOptions options;
  bool live = true;  ///< False until the end marker of an initial stream.
  bool ever_live = false;
  uint64_t events = 0;                              ///< Of any kind.
  std::optional<base::Error> error = std::nullopt;  ///< Found in the stream.
  base::MonoTime started{};
};

Reflector::Reflector(const InformerOptions& options, ListWatch& source, ReflectorTarget& target)
    : options_(options),
      source_(source),
      target_(target),
      jitter_(options.jitter_seed),
      streaming_(options.streaming) {
  stats_.listing = !streaming_;
  stats_.last_contact = MonoNow();
}

void Reflector::Run(const std::stop_token& stop, const std::function<void()>& changed) {
  changed_ = changed;
  Next next = Next::kRelist;
  while (!stop.stop_requested()) {
    const base::MonoTime started = MonoNow();
    const Outcome outcome = next == Next::kRelist ? Initial(stop) : Resume(stop);
    next = outcome.next;
    if (MonoNow() - started >= options_.healthy) failures_ = 0;
    if (!outcome.failed || stop.stop_requested()) continue;
    base::Millis delay =
        BackoffDelay(options_.backoff, static_cast<uint32_t>(failures_++), jitter_);
    if (outcome.retry_after) delay = std::max(delay, ClampDelay(*outcome.retry_after));
    SleepFor(*options_.clock, delay, stop);
  }
  changed_ = nullptr;
}

Reflector::Outcome Reflector::Initial(const std::stop_token& stop) {
  if (published_) {
    std::lock_guard lock(mutex_);
    ++stats_.relists;
  }
  if (streaming_) {
    bool refused = false;
    const Outcome outcome = InitialStream(stop, &refused);
    if (!refused) return outcome;
  }
  return InitialList(stop);
}

/// One connection: the initial set, its end marker, and then the live watch.
Reflector::Outcome Reflector::InitialStream(const std::stop_token& stop, bool* refused) {
  target_.BeginStaging();
  WatchRun run;
  run.options.send_initial_events = true;
  run.live = false;
  const base::Status ended = Watch(&run, stop);
  if (run.ever_live) {
    marker_failures_ = 0;
    return Judge(run, ended);
  }
  if (stop.stop_requested()) return {Next::kRelist};
  const base::Error error = ended ? base::MakeError(base::Code::kUnavailable,
                                                    "the initial stream ended before its marker")
                                  : ended.error();
  const bool no = error.code == base::Code::kInvalid || error.code == base::Code::kNotFound ||
                  error.code == base::Code::kForbidden;
  if (no && run.events == 0 && error.reason != "BadFrame") {
    *refused = true;
    // A server that does not know the parameters will not learn them; a missing permission or kind
    // may come.
    if (error.code == base::Code::kInvalid) Demote(error.message);
    return {Next::kRelist};
  }
  // A server that says when to come again is busy or just starting (its cache is not filled yet):
  // it has not shown that it cannot stream, and a list would load it more.
  const bool busy = run.events == 0 && error.retry_after.has_value();
  if (busy || ++marker_failures_ < options_.marker_attempts) return Failure(Next::kRelist, error);
  // A live server that never comes to the marker will not learn it. Lost connections and a server
  // that is down say nothing about it: a list is tried now, and the stream again next time.
  if (ended || MarkerLate())
    Demote(error.message);
  else
    base::LogInfo("the initial stream is lost time and again, trying a list",
                  {{"informer", options_.name}, {"error", error.message}});
  *refused = true;
  return {Next::kRelist};
}

bool Reflector::MarkerLate() const {
  std::lock_guard lock(mutex_);
  return marker_late_;
}

Reflector::Outcome Reflector::InitialList(const std::stop_token& stop) {
  // A relist asks for a state not older than what we have, which the server can answer from its
  // cache in one go.
  base::Result<std::string> listed = published_ && !version_.empty()
                                         ? ListOnce(version_, 0, stop)
                                         : ListOnce("", options_.page_size, stop);
  const auto is = [&](base::Code code) { return !listed && listed.error().code == code; };
  if (published_ && (is(base::Code::kGone) || is(base::Code::kInvalid) ||
                     (is(base::Code::kTimeout) && listed.error().reason != "Silent"))) {
    listed = ListOnce("", options_.page_size, stop);
  }
  if (is(base::Code::kGone) && options_.page_size != 0) listed = ListOnce("", 0, stop);
  if (!listed) return Failure(Next::kRelist, listed.error());
  Healthy();  // First: whoever sees "synced" sees no old error beside it.
  target_.Publish(*listed);
  version_ = *listed;
  published_ = true;
  return {Next::kResume};
}

base::Result<std::string> Reflector::ListOnce(const std::string& version, int page_size,
                                              const std::stop_token& stop) {
  target_.BeginStaging();
  {
    std::lock_guard lock(mutex_);
    ++stats_.lists;
  }
  Attempt attempt(*this, stop, false);
  auto listed = source_.List(
      {.resource_version = version, .page_size = page_size},
      [this](std::string_view object) {
        Contact();
        return target_.Stage(WatchEventType::kAdded, object);
      },
      attempt.Token());
  if (listed) {
    if (listed->empty()) return base::MakeError(base::Code::kInternal, "a list without a version");
    return listed;
  }
  return attempt.ErrorOf(listed.error());
}

Reflector::Outcome Reflector::Resume(const std::stop_token& stop) {
  WatchRun run;
  run.options.resource_version = version_;
  const base::Status ended = Watch(&run, stop);
  return Judge(run, ended);
}

base::Status Reflector::Watch(WatchRun* run, const std::stop_token& stop) {
  {
    std::lock_guard lock(mutex_);
    ++stats_.watches;
  }
  run->options.timeout_seconds = WatchSeconds();
  run->options.on_bytes = [this] { Contact(); };
  run->started = MonoNow();
  Attempt attempt(*this, stop, !run->live);
  const base::Status ended = source_.Watch(
      run->options,
      [&](WatchEventType type, std::string_view object) {
        base::Status status = OnEvent(run, type, object);
        if (!status) run->error = status.error();
        return status;
      },
      attempt.Token());
  if (run->error) return *run->error;
  if (ended) return ended;
  return attempt.ErrorOf(ended.error());
}

base::Status Reflector::OnEvent(WatchRun* run, WatchEventType type, std::string_view object) {
  Contact();
  ++run->events;
  if (type == WatchEventType::kError) {
    const auto head = ScanHead(object);
    return head ? StatusError(*head) : head.error();
  }
  if (type == WatchEventType::kBookmark) return OnBookmark(run, object);
  {
    std::lock_guard lock(mutex_);
    ++stats_.events;
    if (run->live) stats_.last_error.clear();
    // A large set from a slow server takes as long as it takes; only one that stops growing is
    // late.
    if (type == WatchEventType::kAdded && marker_by_ != kNever)
      marker_by_ = std::min(stats_.last_contact + options_.marker_limit, marker_end_);
  }
  if (!run->live) return target_.Stage(type, object);
  auto version = target_.Apply(type, object);
  if (!version) return std::move(version).error();
  if (!version->empty()) version_ = *std::move(version);
  broken_ = gone_ = 0;
  return {};
}

base::Status Reflector::OnBookmark(WatchRun* run, std::string_view object) {
  const auto head = ScanHead(object);
  if (!head) return head.error();
  {
    std::lock_guard lock(mutex_);
    ++stats_.bookmarks;
    if (run->live) stats_.last_error.clear();
  }
  if (run->live) {
    if (head->resource_version.empty()) return {};
    version_ = head->resource_version;
    target_.Bookmark(version_);
    broken_ = gone_ = 0;
    return {};
  }
  if (!head->initial_events_end) return {};
  if (head->resource_version.empty()) {
    return base::MakeError(base::Code::kInternal, "the end marker has no resourceVersion");
  }
  {
    std::lock_guard lock(mutex_);
    marker_by_ = kNever;
  }
  Healthy();
  target_.Publish(head->resource_version);
  version_ = head->resource_version;
  run->live = run->ever_live = published_ = true;
  return {};
}

/// What to do after a watch that was live.
Reflector::Outcome Reflector::Judge(const WatchRun& run, const base::Status& ended) {
  if (!ended) return JudgeError(ended.error());
  // Some servers answer a version that they do not have with an empty, successful watch.
  if (run.events == 0 && MonoNow() - run.started < base::Millis{1'000}) {
    return Failure(Next::kRelist,
                   base::MakeError(base::Code::kUnavailable, "the watch closed at once, empty"));
  }
  Healthy();
  return {Next::kResume};
}

Reflector::Outcome Reflector::JudgeError(const base::Error& error) {
  if (error.reason == "Silent") {
    // No trouble as such: an API server sends no bookmarks of a kind of which it has not seen an
    // event since its start. A connection that is really dead shows in the next call.
    base::LogDebug("a silent watch is renewed", {{"informer", options_.name}});
    return {Next::kResume};
  }
  switch (error.code) {
    case base::Code::kGone: {
      base::LogInfo("watch expired, listing again", {{"informer", options_.name}});
      const bool again = gone_++ > 0;
      return again ? Failure(Next::kRelist, error) : Outcome{Next::kRelist};
    }
    case base::Code::kUnavailable:
    case base::Code::kTimeout:
    case base::Code::kCancelled:
      return Failure(Next::kResume, error);
    case base::Code::kInternal:
      break;
    default:
      if (error.reason != "BadFrame") return Failure(Next::kRelist, error);
  }
  // A broken stream: a few tries from the same version, then the version itself is suspected.
  const bool relist = ++broken_ >= options_.server_errors;
  if (relist) broken_ = 0;
  return Failure(relist ? Next::kRelist : Next::kResume, error);
}

Reflector::Outcome Reflector::Failure(Next next, const base::Error& error) {
  {
    std::lock_guard lock(mutex_);
    const base::MonoTime now = MonoNow();
    if (error.code != base::Code::kCancelled &&
        (stats_.last_error != error.message || now - warned_ >= kWarnAgain)) {
      warned_ = now;
      base::LogWarning("list/watch failed, retrying", {{"informer", options_.name},
                                                       {"code", base::CodeName(error.code)},
                                                       {"error", error.message}});
    }
    stats_.last_error = error.message;
  }
  return {next, true, error.retry_after};
}

void Reflector::Demote(const std::string& why) {
  streaming_ = false;
  base::LogWarning("streaming the initial state does not work here, listing instead",
                   {{"informer", options_.name}, {"error", why}});
  if (options_.metrics != nullptr) {
    options_.metrics
        ->CounterOf({"informer_demotions_total",
                     "Informers that list because streaming the initial state did not work.",
                     {"informer"}},
                    {options_.name})
        .Add();
  }
  std::lock_guard lock(mutex_);
  stats_.listing = true;
}

void Reflector::Contact() {
  std::lock_guard lock(mutex_);
  stats_.last_contact = MonoNow();
  if (attempt_ != nullptr) silent_after_ = stats_.last_contact + options_.liveness;
}

void Reflector::Healthy() {
  std::lock_guard lock(mutex_);
  stats_.last_error.clear();
  stats_.last_contact = MonoNow();
}

int Reflector::WatchSeconds() {
  const int span = std::max(0, options_.watch_timeout_max - options_.watch_timeout_min);
  return options_.watch_timeout_min + static_cast<int>(jitter_.Next() * (span + 1));
}

base::MonoTime Reflector::Deadline() const {
  std::lock_guard lock(mutex_);
  return std::min(silent_after_, marker_by_);
}

void Reflector::CancelIfSilent() {
  std::stop_source attempt(std::nostopstate);
  {
    std::lock_guard lock(mutex_);
    if (attempt_ == nullptr || attempt_->stop_requested()) return;
    const base::MonoTime now = MonoNow();
    if (now >= silent_after_) {
      cancelled_because_ = fmt::format("no byte for {} s", options_.liveness.count() / 1000);
    } else if (now >= marker_by_) {
      marker_late_ = true;
      cancelled_because_ =
          fmt::format("no end of the initial stream within {} s of its last object",
                      options_.marker_limit.count() / 1000);
    } else {
      return;
    }
    silent_after_ = marker_by_ = kNever;
    attempt = *attempt_;
  }
  attempt.request_stop();  // Not under the lock: callbacks of the source run in here.
}

ReflectorStats Reflector::Stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

}  // namespace runtime
