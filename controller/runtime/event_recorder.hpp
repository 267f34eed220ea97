#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace runtime {

class Metrics;

enum class EventType { kNormal, kWarning };

struct EventObject {
  std::string api_version;
  std::string kind;
  std::string ns;  ///< Empty: cluster-scoped; the event then goes to the namespace `default`.
  std::string name;
  std::string uid;
};

/// What happened, as the caller says it. Over-long texts are cut: reason and action 128 bytes, note
/// 1024.
struct EventNote {
  EventObject regarding;
  EventType type = EventType::kNormal;
  std::string reason;  ///< CamelCase, stable.
  std::string action;  ///< CamelCase: what the controller did or tried.
  std::string note;    ///< For people; never a secret.
  std::optional<EventObject> related = std::nullopt;
};

/// An events.k8s.io/v1 Event to be sent.
struct Event {
  std::string ns;
  std::string name;
  base::WallTime event_time{};  ///< MicroTime.
  EventNote note;
  std::string reporting_controller;
  std::string reporting_instance;
  int32_t series_count = 0;               ///< 0: no series. Else `series.count`,
  base::WallTime series_last_observed{};  ///< and `series.lastObservedTime`.
};

/// Port: how events reach the API. Calls block; each error code decides the retry: kInvalid,
/// kForbidden, kUnauthorized, kNotFound, kAlreadyExists and kConflict are final (a patch that is
/// kNotFound becomes a create), others are tried again.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual base::Status Create(const Event& event, std::stop_token stop) = 0;
  /// Merge patch of `series` of an event that was created.
  virtual base::Status PatchSeries(const Event& event, std::stop_token stop) = 0;
};

struct EventRecorderOptions {
  std::string reporting_controller;  ///< A qualified name, at most 128 bytes, e.g.
                                     ///< molecule.ai/workspace-operator.
  std::string reporting_instance;    ///< At most 128 bytes, e.g. the host's name.
  size_t queue_limit = 1000;         ///< Notes waiting to be sent; more are dropped and counted.
  int tries = 12;
  base::Millis retry_delay{10'000};        ///< +-25 %.
  base::Millis series_idle{360'000};       ///< An identical note within this time joins the series;
                                           ///< after it the series is closed.
  base::Millis series_refresh{1'800'000};  ///< A running series is written this often.
  int burst = 25;                          ///< Per regarded object ...
  base::Millis refill{300'000};            ///< ... and one more each.
  /// Notes that differ in their text only: from this many on within the window they are counted as
  /// one event, `(combined from similar events): ` with the text of the first of them.
  int similar_limit = 10;
  base::Millis similar_window{600'000};
  size_t memory_limit = 4096;       ///< Series, buckets and similar ones remembered, each.
  base::Millis flush_limit{1'000};  ///< For what is still queued at stop.
  const base::Clock* clock = &base::SystemClock::Get();
  Metrics* metrics = nullptr;
};

/// Turns notes into events, on one thread of its own, within bounds.
class EventRecorder {
 public:
  EventRecorder(EventRecorderOptions options, EventSink& sink);
  ~EventRecorder();
  EventRecorder(const EventRecorder&) = delete;
  EventRecorder& operator=(const EventRecorder&) = delete;

  /// Never blocks on the network, never throws. Any thread.
  void Record(EventNote note) noexcept;
  /// Sends until `stop`, then what is left within flush_limit. For Manager::Add.
  base::Status Run(std::stop_token stop);

  struct Stats {
    uint64_t recorded = 0, sent = 0, dropped = 0, suppressed = 0, failed = 0;
    size_t queued = 0;
    size_t remembered = 0;  ///< Series, buckets and similar ones.
  };
  Stats GetStats() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace runtime
