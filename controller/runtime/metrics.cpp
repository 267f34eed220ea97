#include "runtime/metrics.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <list>
#include <map>
#include <mutex>
#include <variant>

#include "base/log.hpp"

namespace runtime {
namespace {

void AddTo(std::atomic<double>& to, double by) {
  double old = to.load(std::memory_order_relaxed);
  while (!to.compare_exchange_weak(old, old + by, std::memory_order_relaxed)) {
  }
}

std::string Number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

std::string EscapeLabel(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\')
      out += "\\\\";
    else if (c == '"')
      out += "\\\"";
    else if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  return out;
}

std::string EscapeHelp(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\')
      out += "\\\\";
    else if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  return out;
}

/// `{a="b",le="1"}`; `extra` is a finished pair or empty.
std::string LabelText(const Metrics::Labels& names, const Metrics::Labels& values,
                      const std::string& extra = "") {
  std::string out;
  for (size_t i = 0; i < names.size(); ++i) {
    out += fmt::format("{}{}=\"{}\"", out.empty() ? "" : ",", names[i], EscapeLabel(values[i]));
  }
  if (!extra.empty()) out += (out.empty() ? "" : ",") + extra;
  return out.empty() ? out : "{" + out + "}";
}

}  // namespace

void Counter::Add(double by) {
  if (by > 0) AddTo(value_, by);
}

void Gauge::Add(double by) { AddTo(value_, by); }

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), buckets_(new std::atomic<uint64_t>[bounds_.size() + 1]) {
  for (size_t i = 0; i <= bounds_.size(); ++i) buckets_[i] = 0;
}

void Histogram::Observe(double value) {
  const auto at = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  buckets_[static_cast<size_t>(at)].fetch_add(1, std::memory_order_relaxed);
  sum_.Add(value);
}

uint64_t Histogram::Count() const { return Cumulative(bounds_.size()); }

uint64_t Histogram::Cumulative(size_t i) const {
  uint64_t total = 0;
  for (size_t k = 0; k <= i; ++k) total += buckets_[k].load(std::memory_order_relaxed);
  return total;
}

std::vector<double> ExponentialBounds(double first, double factor, int count) {
  std::vector<double> bounds;
  // Rounded to what a label shows: 1e-05, not 9.999999999999999e-06.
  for (int i = 0; i < count; ++i, first *= factor)
    bounds.push_back(std::strtod(fmt::format("{:.6g}", first).c_str(), nullptr));
  return bounds;
}

struct Metrics::State {
  using Series =
      std::variant<std::unique_ptr<Counter>, std::unique_ptr<Gauge>, std::unique_ptr<Histogram>>;
  struct FamilyState {
    std::string help;
    Labels labels;
    size_t type = 0;  ///< Index in Series.
    std::map<Labels, Series> series;
    std::vector<double> bounds;
  };
  /// A collector: its own mutex lets the handle's destructor wait for a running call.
  struct Hook {
    std::mutex mutex;
    std::function<void()> call;
  };

  size_t max_series = 0;
  mutable std::mutex mutex;
  std::map<std::string, FamilyState, std::less<>> families;
  std::list<Series> unexported;  ///< What was asked for wrongly.
  std::vector<std::weak_ptr<Hook>> hooks;

  Series* Find(const Family& family, const Labels& values, size_t type, const char* what);
};

/// The slot of a series, with an empty pointer if it is new; null if the family cannot have it.
Metrics::State::Series* Metrics::State::Find(const Family& family, const Labels& values,
                                             size_t type, const char* what) {
  auto [it, fresh] = families.try_emplace(family.name);
  FamilyState& state = it->second;
  if (fresh) {
    state.help = family.help;
    state.labels = family.labels;
    state.type = type;
  }
  if (state.type != type || state.labels != family.labels ||
      values.size() != family.labels.size()) {
    base::LogError("metric asked for with another type or other labels",
                   {{"metric", family.name}, {"type", what}});
    return nullptr;
  }
  if (const auto found = state.series.find(values); found != state.series.end()) {
    return &found->second;
  }
  const bool full = state.series.size() >= max_series;
  return &state.series[full ? Labels(values.size(), "other") : values];
}

Metrics::Metrics(size_t max_series) : state_(std::make_shared<State>()) {
  state_->max_series = std::max<size_t>(max_series, 1);
}
Metrics::~Metrics() = default;

Counter& Metrics::CounterOf(const Family& family, const Labels& values) {
  std::lock_guard lock(state_->mutex);
  State::Series* series = state_->Find(family, values, 0, "counter");
  if (series == nullptr) series = &state_->unexported.emplace_back();
  auto& counter = std::get<0>(*series);
  if (!counter) counter = std::make_unique<Counter>();
  return *counter;
}

Gauge& Metrics::GaugeOf(const Family& family, const Labels& values) {
  std::lock_guard lock(state_->mutex);
  State::Series* series = state_->Find(family, values, 1, "gauge");
  if (series == nullptr) series = &state_->unexported.emplace_back();
  if (series->index() != 1) *series = std::make_unique<Gauge>();
  return *std::get<1>(*series);
}

Histogram& Metrics::HistogramOf(const Family& family, const Labels& values,
                                const std::vector<double>& bounds) {
  std::lock_guard lock(state_->mutex);
  State::Series* series = state_->Find(family, values, 2, "histogram");
  if (series != nullptr && series->index() == 2) return *std::get<2>(*series);  // Nearly always.
  std::vector<double> wanted = bounds.empty() ? ExponentialBounds(0.005, 2.5, 11) : bounds;
  if (series == nullptr) {
    series = &state_->unexported.emplace_back();
  } else {
    auto& known = state_->families.find(family.name)->second.bounds;
    if (known.empty()) known = wanted;
    wanted = known;
  }
  *series = std::make_unique<Histogram>(std::move(wanted));
  return *std::get<2>(*series);
}

void Metrics::Drop(std::string_view name, const Labels& values) {
  std::lock_guard lock(state_->mutex);
  const auto family = state_->families.find(name);
  if (family != state_->families.end()) family->second.series.erase(values);
}

Metrics::Collector Metrics::OnScrape(std::function<void()> collect) {
  auto hook = std::make_shared<State::Hook>();
  hook->call = std::move(collect);
  std::lock_guard lock(state_->mutex);
  std::erase_if(state_->hooks, [](const auto& weak) { return weak.expired(); });
  state_->hooks.push_back(hook);
  // The token's deleter ends the calls: after it has run, `collect` is neither running nor called
  // again.
  State::Hook* raw = hook.get();
  return Collector(std::shared_ptr<void>(raw, [hook](void*) {
    std::lock_guard wait(hook->mutex);
    hook->call = nullptr;
  }));
}

std::string Metrics::Text() const {
  std::vector<std::shared_ptr<State::Hook>> hooks;
  {
    std::lock_guard lock(state_->mutex);
    for (const auto& weak : state_->hooks) {
      if (auto hook = weak.lock()) hooks.push_back(std::move(hook));
    }
  }
  for (const auto& hook : hooks) {
    std::lock_guard lock(hook->mutex);
    if (hook->call) hook->call();
  }
  static constexpr const char* kTypes[] = {"counter", "gauge", "histogram"};
  std::string out;
  std::lock_guard lock(state_->mutex);
  for (const auto& [name, family] : state_->families) {
    out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, EscapeHelp(family.help), name,
                       kTypes[family.type]);
    for (const auto& [values, series] : family.series) {
      if (family.type == 0) {
        const auto& counter = std::get<0>(series);
        out += fmt::format("{}{} {}\n", name, LabelText(family.labels, values),
                           Number(counter->Value()));
      } else if (family.type == 1) {
        const auto& gauge = std::get<1>(series);
        out += fmt::format("{}{} {}\n", name, LabelText(family.labels, values),
                           Number(gauge->Value()));
      } else {
        const auto& histogram = std::get<2>(series);
        const auto& bounds = histogram->Bounds();
        uint64_t count = 0;
        for (size_t i = 0; i <= bounds.size(); ++i) {
          count = histogram->Cumulative(i);
          const std::string le =
              fmt::format("le=\"{}\"", i < bounds.size() ? Number(bounds[i]) : "+Inf");
          out += fmt::format("{}_bucket{} {}\n", name, LabelText(family.labels, values, le), count);
        }
        const std::string labels = LabelText(family.labels, values);
        out += fmt::format("{}_sum{} {}\n{}_count{} {}\n", name, labels, Number(histogram->Sum()),
                           name, labels, count);
      }
    }
  }
  return out;
}

RestClientMetrics::Series& RestClientMetrics::SeriesOf(std::string_view verb,
                                                       std::string_view host) {
  for (Series& known : series_)
    if (known.verb == verb && known.host == host) return known;
  static const std::vector<double> bytes = ExponentialBounds(64, 4, 10);
  const auto histogram = [&](const char* name, const char* help,
                             const std::vector<double>& bounds) {
    return &metrics_.HistogramOf({name, help, {"verb", "host"}},
                                 {std::string(verb), std::string(host)}, bounds);
  };
  return series_.emplace_back(
      Series{std::string(verb), std::string(host),
             histogram("rest_client_request_duration_seconds",
                       "Duration of requests to the Kubernetes API in seconds.", {}),
             histogram("rest_client_request_size_bytes",
                       "Size of the bodies sent to the Kubernetes API.", bytes),
             histogram("rest_client_response_size_bytes",
                       "Size of the bodies received from the Kubernetes API.", bytes)});
}

void RestClientMetrics::Observe(const Attempt& attempt) {
  const std::string code(attempt.code), verb(attempt.method), host(attempt.host);
  metrics_
      .CounterOf({"rest_client_requests_total",
                  "Number of HTTP requests to the Kubernetes API, by status code, method and host.",
                  {"code", "method", "host"}},
                 {code, verb, host})
      .Add();
  if (attempt.retry)
    metrics_
        .CounterOf({"rest_client_request_retries_total",
                    "Number of those requests that were another attempt at an earlier one.",
                    {"code", "verb", "host"}},
                   {code, verb, host})
        .Add();
  const std::lock_guard lock(mutex_);
  const Series& series = SeriesOf(verb, host);
  series.seconds->Observe(attempt.seconds);
  series.request_bytes->Observe(static_cast<double>(attempt.request_bytes));
  series.response_bytes->Observe(static_cast<double>(attempt.response_bytes));
}

}  // namespace runtime
