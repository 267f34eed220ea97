#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace runtime {

/// A number that only grows. Thread safe, lock free.
class Counter {
 public:
  void Add(double by = 1);
  double Value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

/// A number that goes up and down. Thread safe, lock free.
class Gauge {
 public:
  void Set(double value) { value_.store(value, std::memory_order_relaxed); }
  void Add(double by);
  double Value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

/// Counts in buckets. Thread safe, lock free.
class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds);
  void Observe(double value);
  uint64_t Count() const;
  double Sum() const { return sum_.Value(); }
  const std::vector<double>& Bounds() const { return bounds_; }
  /// Observations at most Bounds()[i]; for i == Bounds().size() all of them.
  uint64_t Cumulative(size_t i) const;

 private:
  std::vector<double> bounds_;
  std::unique_ptr<std::atomic<uint64_t>[]> buckets_;
  Counter sum_;
};

/// `first`, `first * factor`, ... : `count` bounds.
std::vector<double> ExponentialBounds(double first, double factor, int count);

/// A Prometheus text registry: families by name, series by label values.
///
/// A family holds at most `max_series` series: further label values share one series whose values
/// are all "other", so that nobody's input grows the scrape without bound. References stay valid as
/// long as the registry. Thread safe. Asking twice for the same series gives the same one; asking
/// for a known name with another type or other label names gives a series that is not exported
/// (logged once).
class Metrics {
 public:
  using Labels = std::vector<std::string>;
  explicit Metrics(size_t max_series = 1000);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  /// A family: its metric name, help text and label names.
  struct Family {
    std::string name;
    std::string help;
    Labels labels = {};
  };
  Counter& CounterOf(const Family& family, const Labels& values = {});
  Gauge& GaugeOf(const Family& family, const Labels& values = {});
  /// `bounds` counts at the first call for a family; empty: 5 ms to 60 s.
  Histogram& HistogramOf(const Family& family, const Labels& values = {},
                         const std::vector<double>& bounds = {});

  /// Removes one series, e.g. of a deleted object. References to it die.
  void Drop(std::string_view name, const Labels& values);

  /// Calls `collect` before each scrape, to set gauges, until the handle dies (which waits for a
  /// running call).
  class Collector {
   public:
    Collector() = default;
    Collector(Collector&&) noexcept = default;
    Collector& operator=(Collector&&) noexcept = default;

   private:
    friend class Metrics;
    explicit Collector(std::shared_ptr<void> token) : token_(std::move(token)) {}
    std::shared_ptr<void> token_;
  };
  [[nodiscard]] Collector OnScrape(std::function<void()> collect);

  /// The text exposition format 0.0.4, families by name.
  std::string Text() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// process_cpu_seconds_total, process_resident_memory_bytes, process_memory_limit_bytes,
/// process_virtual_memory_bytes, process_open_fds, process_max_fds, process_threads,
/// process_start_time_seconds, read from /proc and the cgroup at each scrape for as long as the
/// handle lives.
[[nodiscard]] Metrics::Collector AddProcessMetrics(Metrics& metrics);

/// rest_client_requests_total{code,method,host}, rest_client_request_retries_total{code,verb,host},
/// and by {verb,host} rest_client_request_duration_seconds, rest_client_request_size_bytes and
/// rest_client_response_size_bytes: for the hook of a Kubernetes client.
class RestClientMetrics {
 public:
  /// One attempt; `code` of a retry is its own. Sizes are those of the bodies.
  struct Attempt {
    std::string_view method;
    std::string_view host;
    std::string_view code;
    double seconds = 0;
    bool retry = false;
    size_t request_bytes = 0;
    size_t response_bytes = 0;
  };
  explicit RestClientMetrics(Metrics& metrics) : metrics_(metrics) {}
  void Observe(const Attempt& attempt);

 private:
  /// What is asked for at each request, looked up once: verbs and hosts are few.
  struct Series {
    std::string verb, host;
    Histogram* seconds;
    Histogram* request_bytes;
    Histogram* response_bytes;
  };
  Series& SeriesOf(std::string_view verb, std::string_view host);

  Metrics& metrics_;
  std::mutex mutex_;
  std::vector<Series> series_;  ///< By mutex_.
};

}  // namespace runtime
