#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/informer/informer.hpp"
#include "runtime/informer/list_watch.hpp"
#include "runtime/informer/wire_head.hpp"
#include "support/eventually.hpp"

namespace runtime_test {

using support::Eventually;

/// A kind for tests: on the wire `spec` is the member "reason" and `status` is "message".
struct Thing {
  meta::ObjectMeta meta;
  std::string spec;
  std::string status;
};

inline std::string Json(const std::string& name, const std::string& uid, const std::string& version,
                        const std::string& spec = "s", const std::string& status = "") {
  return R"({"kind":"Thing","metadata":{"name":")" + name + R"(","namespace":"ns","uid":")" + uid +
         R"(","resourceVersion":")" + version + R"("},"reason":")" + spec + R"(","message":")" +
         status + "\"}";
}
inline std::string Bookmark(const std::string& version, bool end = false) {
  return R"({"metadata":{"resourceVersion":")" + version + "\"" +
         (end ? R"(,"annotations":{"k8s.io/initial-events-end":"true"})" : "") + "}}";
}
inline std::string StatusJson(int code, const std::string& reason) {
  return R"({"kind":"Status","status":"Failure","metadata":{},"reason":")" + reason +
         R"(","message":"as scripted","code":)" + std::to_string(code) + "}";
}
inline meta::ObjectKey Key(const std::string& name) { return {"ns", name}; }

inline Thing MakeThing(const std::string& name, const std::string& uid, const std::string& version,
                       const std::string& spec = "s", const std::string& status = "") {
  Thing thing;
  thing.meta.ns = "ns";
  thing.meta.name = name;
  thing.meta.uid = uid;
  thing.meta.resource_version = version;
  thing.spec = spec;
  thing.status = status;
  return thing;
}

inline runtime::InformerFormat<Thing> ThingFormat() {
  runtime::InformerFormat<Thing> format;
  format.decode = [](std::string_view bytes) -> base::Result<Thing> {
    auto head = runtime::ScanHead(bytes);
    if (!head) return std::move(head).error();
    if (head->reason == "BAD") return base::MakeError(base::Code::kInvalid, "spec: wrong type");
    if (head->reason == "THROW") throw std::runtime_error("decoder bug");
    return MakeThing(head->key.name, head->uid, head->resource_version, head->reason,
                     head->message);
  };
  format.cache.pack = [](const Thing& thing) { return thing.spec + "\n" + thing.status; };
  format.cache.unpack = [](std::string_view packed) -> base::Result<Thing> {
    Thing thing;
    thing.spec = packed.substr(0, packed.find('\n'));
    thing.status = packed.substr(packed.find('\n') + 1);
    return thing;
  };
  format.cache.index = [](const Thing& thing) { return std::vector<std::string>{thing.spec}; };
  return format;
}

using runtime::WatchEventType;

/// A ListWatch that answers call by call as scripted; past the end of the script every call is
/// silent until it is stopped.
class ScriptedListWatch : public runtime::ListWatch {
 public:
  using ListStep = std::function<base::Result<std::string>(const runtime::ListOptions&,
                                                           const runtime::ListSink&)>;
  using WatchStep = std::function<base::Status(const runtime::WatchOptions&,
                                               const runtime::WatchSink&, std::stop_token)>;

  void OnList(ListStep step) {
    std::lock_guard lock(mutex_);
    lists_.push_back(std::move(step));
  }
  void OnWatch(WatchStep step) {
    std::lock_guard lock(mutex_);
    watches_.push_back(std::move(step));
  }
  /// A list of these objects.
  void ListOf(std::string version, std::vector<std::string> objects) {
    OnList([=](const runtime::ListOptions&,
               const runtime::ListSink& sink) -> base::Result<std::string> {
      for (const auto& object : objects) {
        if (auto status = sink(object); !status) return status.error();
      }
      return version;
    });
  }
  void ListFails(base::Code code, std::vector<std::string> objects_before = {}) {
    OnList([=](const runtime::ListOptions&,
               const runtime::ListSink& sink) -> base::Result<std::string> {
      for (const auto& object : objects_before) {
        if (auto status = sink(object); !status) return status.error();
      }
      return base::MakeError(code, "list as scripted");
    });
  }
  using Events = std::vector<std::pair<WatchEventType, std::string>>;
  /// A watch that sends these and ends with `end`.
  void WatchOf(Events events, base::Status end = {}) {
    OnWatch([=](const runtime::WatchOptions&, const runtime::WatchSink& sink, std::stop_token) {
      for (const auto& [type, object] : events) {
        if (auto status = sink(type, object); !status) return status;
      }
      return end;
    });
  }
  /// A watch that sends these and then what Push() gives, until stopped.
  void WatchStays(Events events) {
    OnWatch([=, this](const runtime::WatchOptions&, const runtime::WatchSink& sink,
                      std::stop_token stop) -> base::Status {
      for (const auto& [type, object] : events) {
        if (auto status = sink(type, object); !status) return status;
      }
      return Pump(sink, stop);
    });
  }
  void WatchFails(base::Code code, std::string reason = "") {
    WatchOf({}, base::MakeError(code, "watch as scripted", std::move(reason)));
  }
  /// Sends an event on the open watch.
  void Push(WatchEventType type, std::string object) {
    std::lock_guard lock(mutex_);
    pushed_.emplace_back(type, std::move(object));
    changed_.notify_all();
  }

  base::Result<std::string> List(const runtime::ListOptions& options, const runtime::ListSink& sink,
                                 std::stop_token stop) override {
    const ListStep step = Next(&lists_, "list rv=" + options.resource_version +
                                            " page=" + std::to_string(options.page_size));
    if (step) return step(options, sink);
    return Silence(stop).error();
  }
  base::Status Watch(const runtime::WatchOptions& options, const runtime::WatchSink& sink,
                     std::stop_token stop) override {
    const WatchStep step = Next(&watches_, "watch rv=" + options.resource_version +
                                               (options.send_initial_events ? " initial" : ""));
    if (step) return step(options, sink, stop);
    return Silence(stop);
  }

  std::vector<std::string> Calls() const {
    std::lock_guard lock(mutex_);
    return calls_;
  }
  /// Waits until `count` calls have been made.
  bool AwaitCalls(size_t count) const {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds{10},
                             [&] { return calls_.size() >= count; });
  }

 private:
  template <typename Step>
  Step Next(std::deque<Step>* steps, std::string call) {
    std::lock_guard lock(mutex_);
    calls_.push_back(std::move(call));
    changed_.notify_all();
    if (steps->empty()) return nullptr;
    Step step = std::move(steps->front());
    steps->pop_front();
    return step;
  }
  base::Status Silence(std::stop_token stop) {
    return Pump([](auto, auto) { return base::Status{}; }, stop);
  }
  base::Status Pump(const runtime::WatchSink& sink, std::stop_token stop) {
    std::stop_callback wake(stop, [this] {
      std::lock_guard lock(mutex_);
      changed_.notify_all();
    });
    while (true) {
      std::pair<WatchEventType, std::string> event;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stop.stop_requested() || !pushed_.empty(); });
        if (stop.stop_requested()) return base::MakeError(base::Code::kCancelled, "stopped");
        event = std::move(pushed_.front());
        pushed_.pop_front();
      }
      if (auto status = sink(event.first, event.second); !status) return status;
    }
  }

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::deque<ListStep> lists_;
  std::deque<WatchStep> watches_;
  std::deque<std::pair<WatchEventType, std::string>> pushed_;
  std::vector<std::string> calls_;
};

/// An informer that runs on a thread of its own and writes down what its handler is told: "+a@1"
/// "~a@2" "-a@2" "=a" (resync);
/// "*" behind: initial, "?" behind: final state unknown.
class RunningInformer {
 public:
  RunningInformer(runtime::InformerOptions options, ScriptedListWatch& source)
      : informer(std::move(options), ThingFormat(), source) {
    informer.AddHandler([this](const runtime::ObjectEvent<Thing>& event) { Note(event); });
  }
  ~RunningInformer() { Stop(); }
  void Start() {
    thread_ = std::jthread([this](std::stop_token stop) { (void)informer.Run(stop); });
  }
  void Stop() {
    if (!thread_.joinable()) return;
    thread_.request_stop();
    thread_.join();
  }
  std::vector<std::string> Seen() const {
    std::lock_guard lock(mutex_);
    return seen_;
  }
  void ClearSeen() {
    std::lock_guard lock(mutex_);
    seen_.clear();
  }
  bool AwaitSeen(std::vector<std::string> wanted) const {
    return Eventually([&] { return Seen() == wanted; });
  }
  bool AwaitVersion(const std::string& version) const {
    return Eventually([&] { return informer.Stats().resource_version == version; });
  }
  std::string Content() const {
    std::vector<std::string> all;
    informer.Cache().ForEach([&](const Thing& thing) {
      all.push_back(thing.meta.name + "@" + thing.meta.resource_version);
    });
    std::sort(all.begin(), all.end());
    std::string text;
    for (const auto& one : all) text += (text.empty() ? "" : " ") + one;
    return text;
  }

  runtime::Informer<Thing> informer;

 private:
  void Note(const runtime::ObjectEvent<Thing>& event) {
    static constexpr const char* kSigns[] = {"+", "~", "-", "="};
    std::string text = kSigns[static_cast<int>(event.kind)] + event.key.name;
    const auto& shown = event.object ? event.object : event.old_object;
    if (shown) text += "@" + shown->meta.resource_version;
    if (event.initial) text += "*";
    if (event.final_state_unknown) text += "?";
    std::lock_guard lock(mutex_);
    seen_.push_back(std::move(text));
  }

  mutable std::mutex mutex_;
  std::vector<std::string> seen_;
  std::jthread thread_;
};

/// Options without waiting: back-offs of a millisecond, no resync.
inline runtime::InformerOptions Quick(bool streaming) {
  runtime::InformerOptions options;
  options.name = "things";
  options.streaming = streaming;
  options.resync = base::Millis{0};
  options.backoff = {base::Millis{1}, base::Millis{1}, 1.0};
  options.jitter_seed = 7;
  return options;
}

inline constexpr auto kAdded = WatchEventType::kAdded;
inline constexpr auto kModified = WatchEventType::kModified;
inline constexpr auto kDeleted = WatchEventType::kDeleted;
inline constexpr auto kBookmark = WatchEventType::kBookmark;
inline constexpr auto kError = WatchEventType::kError;

using Strings = std::vector<std::string>;

}  // namespace runtime_test
