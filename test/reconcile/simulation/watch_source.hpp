#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

#include "reconcile/simulation/api_store.hpp"
#include "runtime/timed_wait.hpp"

namespace simulation {

/// What an informer lists and watches. The informer has its own thread, but it runs only while the
/// scheduler waits for it in one of the calls below: of all threads one is runnable at any time.
///
///   Begin --> watching --- DeliverNext ---> watching
///                      --- End -----------> watching again, or asleep (back-off) -- Wake --> ...
class WatchSource final : public runtime::ListWatch {
 public:
  WatchSource(ApiStore& store, std::string plural) : store_(store), plural_(std::move(plural)) {}

  // For the scheduler.

  /// Until the started informer waits for its next event.
  void Begin() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return idle_; });
  }
  /// The event that comes next; null: none, or nobody watches.
  const ApiStore::Change* Next() const {
    const auto& log = store_.Log(plural_);
    return !asleep_ && next_ < log.size() ? &log[next_] : nullptr;
  }
  void DeliverNext() { Command({.deliver = true, .end = {}}); }
  /// Ends the running watch: in an orderly way (Ok) or with that error.
  void End(base::Status status) { Command({.deliver = false, .end = std::move(status)}); }
  /// Until when the informer waits before it tries again; nothing: it watches.
  std::optional<base::MonoTime> AsleepUntil() const { return asleep_; }
  void Wake() { Command({}); }
  /// Before the informer's thread is joined; its stop has been requested.
  void Quit() {
    const std::lock_guard lock(mutex_);
    quit_ = true;
    changed_.notify_all();
  }

  // For the informer.

  /// Its thread sleeps.
  void SleepUntil(base::MonoTime deadline) {
    std::unique_lock lock(mutex_);
    asleep_ = deadline;
    idle_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return order_.has_value() || quit_; });
    order_.reset();
    asleep_.reset();
  }
  base::Result<std::string> List(const runtime::ListOptions&, const runtime::ListSink& sink,
                                 std::stop_token) override {
    base::Status status;
    store_.Each(plural_, [&](const Json& object) {
      if (status) status = sink(codec::Dump(object));
    });
    if (!status) return status.error();
    return std::to_string(store_.Version());
  }
  base::Status Watch(const runtime::WatchOptions& options, const runtime::WatchSink& sink,
                     std::stop_token stop) override {
    if (options.send_initial_events) {
      if (auto sent = SendInitial(sink); !sent) return sent;
    } else {
      const auto& log = store_.Log(plural_);
      next_ = 0;
      while (next_ < log.size() && log[next_].version <= std::stoull(options.resource_version))
        ++next_;
    }
    while (true) {
      const std::optional<Order> order = Await(stop);
      if (!order) return base::MakeError(base::Code::kCancelled, "the watch was stopped");
      if (!order->deliver) return order->end;
      const ApiStore::Change change = store_.Log(plural_)[next_++];
      if (auto taken = sink(change.type, change.bytes); !taken) return taken;
    }
  }

 private:
  struct Order {
    bool deliver = false;
    base::Status end;
  };

  base::Status SendInitial(const runtime::WatchSink& sink) {
    base::Status status;
    store_.Each(plural_, [&](const Json& object) {
      if (status) status = sink(runtime::WatchEventType::kAdded, codec::Dump(object));
    });
    if (!status) return status;
    next_ = store_.Log(plural_).size();
    const Json marker{{"metadata",
                       {{"resourceVersion", std::to_string(store_.Version())},
                        {"annotations", {{"k8s.io/initial-events-end", "true"}}}}}};
    return sink(runtime::WatchEventType::kBookmark, codec::Dump(marker));
  }
  std::optional<Order> Await(const std::stop_token& stop) {
    const std::stop_callback wake(stop, [this] {
      const std::lock_guard lock(mutex_);
      changed_.notify_all();
    });
    std::unique_lock lock(mutex_);
    idle_ = true;
    changed_.notify_all();
    changed_.wait(lock, [&] { return order_.has_value() || stop.stop_requested(); });
    return std::exchange(order_, std::nullopt);
  }
  void Command(Order order) {
    std::unique_lock lock(mutex_);
    order_ = std::move(order);
    idle_ = false;
    changed_.notify_all();
    changed_.wait(lock, [this] { return idle_; });
  }

  ApiStore& store_;
  const std::string plural_;
  size_t next_ = 0;  ///< In the log: what the informer has not seen yet.
  std::mutex mutex_;
  std::condition_variable changed_;
  // By mutex_; the scheduler reads them while the informer waits.
  bool idle_ = false;  ///< The informer waits for an order.
  bool quit_ = false;
  std::optional<base::MonoTime> asleep_;
  std::optional<Order> order_;
};

/// The clock of an informer: its own thread sleeps as an order of the scheduler ends it; the other
/// one, which only looks after silent watches, waits until it is told something.
class InformerClock final : public base::Clock, public runtime::TimedWait {
 public:
  InformerClock(const support::FakeClock& clock, WatchSource& source)
      : clock_(clock), source_(source) {}

  base::Now Read() const override { return clock_.Read(); }
  void WaitUntil(std::condition_variable& cv, std::unique_lock<std::mutex>& lock,
                 base::MonoTime deadline) const override {
    if (std::this_thread::get_id() != informer_) return cv.wait(lock);
    lock.unlock();
    source_.SleepUntil(deadline);
    lock.lock();
  }
  /// Called by the informer's thread before it runs the informer.
  void IAmTheInformer() { informer_ = std::this_thread::get_id(); }

 private:
  const support::FakeClock& clock_;
  WatchSource& source_;
  std::thread::id informer_;
};

}  // namespace simulation
