#include "runtime/event_recorder.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "runtime/metrics.hpp"
#include "support/eventually.hpp"
#include "support/fake_clock.hpp"

using base::Code;
using base::Millis;
using support::Eventually;

namespace {

/// Keeps what it gets; can be told to fail the next calls, or to block.
class FakeSink : public runtime::EventSink {
 public:
  base::Status Create(const runtime::Event& event, std::stop_token stop) override {
    return Take("create " + event.note.reason + " " + std::to_string(event.series_count), event,
                std::move(stop));
  }
  base::Status PatchSeries(const runtime::Event& event, std::stop_token stop) override {
    return Take("patch " + event.note.reason + " " + std::to_string(event.series_count), event,
                std::move(stop));
  }
  std::vector<std::string> Calls() const {
    std::lock_guard lock(mutex_);
    return calls_;
  }
  std::vector<std::string> Notes() const {
    std::lock_guard lock(mutex_);
    return notes_;
  }
  void Fail(std::vector<Code> next) {
    std::lock_guard lock(mutex_);
    failures_ = std::move(next);
  }
  std::atomic<bool> blocked{false};
  runtime::Event last;

 private:
  base::Status Take(std::string call, const runtime::Event& event, std::stop_token stop) {
    if (blocked) Eventually([&] { return !blocked || stop.stop_requested(); });
    std::lock_guard lock(mutex_);
    calls_.push_back(std::move(call));
    notes_.push_back(event.note.note);
    last = event;
    if (failures_.empty()) return {};
    const Code code = failures_.front();
    failures_.erase(failures_.begin());
    return base::MakeError(code, "as scripted");
  }
  mutable std::mutex mutex_;
  std::vector<std::string> calls_, notes_;
  std::vector<Code> failures_;
};

runtime::EventNote Note(const std::string& reason, const std::string& object = "w",
                        const std::string& ns = "team") {
  runtime::EventNote note;
  note.regarding = {"molecule.ai/v1alpha1", "Workspace", ns, object, "uid-" + object};
  note.reason = reason;
  note.action = "Deliver";
  note.note = "text";
  return note;
}

struct Running {
  explicit Running(const std::function<void(runtime::EventRecorderOptions&)>& change = {})
      : recorder(Options(change), sink) {
    thread = std::jthread([this](std::stop_token stop) { (void)recorder.Run(stop); });
  }
  ~Running() { Stop(); }
  void Stop() {
    if (!thread.joinable()) return;
    thread.request_stop();
    thread.join();
  }
  runtime::EventRecorderOptions Options(
      const std::function<void(runtime::EventRecorderOptions&)>& change) {
    runtime::EventRecorderOptions options;
    options.reporting_controller = "molecule.ai/workspace-operator";
    options.reporting_instance = "host";
    options.clock = &clock;
    if (change) change(options);
    return options;
  }
  bool AwaitCalls(const std::vector<std::string>& wanted) {
    return Eventually([&] { return sink.Calls() == wanted; });
  }
  /// Moves the time forward in steps that the worker can follow.
  void Pass(Millis time) {
    for (Millis done{0}; done < time; done += Millis{10'000}) {
      clock.AwaitWaiters(1);
      clock.Advance(Millis{10'000});
    }
    clock.AwaitWaiters(1);
  }
  support::FakeClock clock;
  FakeSink sink;
  runtime::EventRecorder recorder;
  std::jthread thread;
};

}  // namespace

TEST_CASE("an event carries what events.k8s.io/v1 wants") {
  Running run;
  auto note = Note("Installed", "w", "");
  note.note = std::string(1023, 'x') + "\xc3\xa4";  // The last character would be cut in two.
  note.reason = std::string(200, 'R');
  run.recorder.Record(note);
  REQUIRE(Eventually([&] { return run.recorder.GetStats().sent == 1; }));
  run.Stop();
  const runtime::Event& event = run.sink.last;
  CHECK(event.ns == "default");  // Of a cluster-scoped object.
  CHECK(event.name.rfind("w.", 0) == 0);
  CHECK(event.name.size() <= 253);
  CHECK(event.reporting_controller == "molecule.ai/workspace-operator");
  CHECK(event.note.reason.size() == 128);
  CHECK(event.note.note == std::string(1023, 'x'));
  CHECK(event.series_count == 0);
}

TEST_CASE(
    "the second identical event opens a series, later ones are counted here and written now and "
    "then") {
  Running run;
  run.recorder.Record(Note("Failed"));
  REQUIRE(run.AwaitCalls({"create Failed 0"}));
  run.recorder.Record(Note("Failed"));
  REQUIRE(run.AwaitCalls({"create Failed 0", "patch Failed 2"}));
  for (int i = 0; i < 6; ++i) {
    run.Pass(Millis{290'000});
    run.recorder.Record(Note("Failed"));
  }
  CHECK(run.sink.Calls().size() == 2);
  run.Pass(Millis{120'000});
  REQUIRE(run.AwaitCalls({"create Failed 0", "patch Failed 2", "patch Failed 8"}));
  run.recorder.Record(Note("Failed"));
  run.Pass(Millis{420'000});  // Idle for longer than six minutes: closed with the last count.
  REQUIRE(
      run.AwaitCalls({"create Failed 0", "patch Failed 2", "patch Failed 8", "patch Failed 9"}));
  run.recorder.Record(Note("Failed"));
  REQUIRE(run.AwaitCalls({"create Failed 0", "patch Failed 2", "patch Failed 8", "patch Failed 9",
                          "create Failed 0"}));
}

TEST_CASE("a series whose event is gone is created again") {
  Running run;
  run.recorder.Record(Note("Failed"));
  REQUIRE(run.AwaitCalls({"create Failed 0"}));
  run.sink.Fail({Code::kNotFound});
  run.recorder.Record(Note("Failed"));
  REQUIRE(run.AwaitCalls({"create Failed 0", "patch Failed 2", "create Failed 2"}));
}

TEST_CASE("refusals are final, outages are retried, at most twelve times") {
  for (const Code code :
       {Code::kInvalid, Code::kForbidden, Code::kNotFound, Code::kAlreadyExists}) {
    Running run;
    run.sink.Fail({code});
    run.recorder.Record(Note("Failed"));
    REQUIRE(Eventually([&] { return run.recorder.GetStats().failed == 1; }));
    CHECK(run.recorder.GetStats().queued == 0);
  }
  Running run;
  run.sink.Fail(std::vector<Code>(20, Code::kUnavailable));
  run.recorder.Record(Note("Failed"));
  REQUIRE(Eventually([&] {
    run.clock.Advance(Millis{1'000});
    return run.recorder.GetStats().failed == 1;
  }));
  CHECK(run.sink.Calls().size() == 12);
}

TEST_CASE("a chatty object is limited and others are not") {
  Running run;
  for (int i = 0; i < 100; ++i) run.recorder.Record(Note("R" + std::to_string(i), "chatty"));
  run.recorder.Record(Note("Quiet", "other"));
  REQUIRE(Eventually([&] { return run.recorder.GetStats().sent == 26; }));
  CHECK(run.recorder.GetStats().suppressed == 75);
  run.clock.Advance(Millis{300'000});
  run.recorder.Record(Note("Again", "chatty"));
  REQUIRE(Eventually([&] { return run.recorder.GetStats().sent == 27; }));
}

TEST_CASE("notes that differ in their text only are combined from the eleventh on") {
  Running run;
  const auto record = [&](int number) {
    auto note = Note("Same", "w");
    note.note = "attempt " + std::to_string(number);
    run.recorder.Record(std::move(note));
  };
  run.sink.blocked = true;  // All are recorded before the series is written.
  for (int i = 0; i < 30; ++i) record(i);
  run.recorder.Record(Note("Other", "w"));
  run.sink.blocked = false;
  // Ten of their own, one combined with its series of 20, one of another reason.
  REQUIRE(Eventually([&] { return run.recorder.GetStats().sent == 13; }));
  const auto calls = run.sink.Calls();
  CHECK(std::count(calls.begin(), calls.end(), "create Same 0") == 11);
  CHECK(std::count(calls.begin(), calls.end(), "patch Same 20") == 1);
  CHECK(run.sink.Notes().at(10) == "(combined from similar events): attempt 10");
  // After the window each is told again.
  run.clock.Advance(Millis{600'001});
  record(100);
  REQUIRE(Eventually([&] { return run.sink.Notes().back() == "attempt 100"; }));
}

TEST_CASE("with the API blocked recording never blocks and memory is bounded") {
  Running run([](auto& options) { options.memory_limit = 64; });
  run.sink.blocked = true;
  for (int i = 0; i < 20'000; ++i) run.recorder.Record(Note("R", "w" + std::to_string(i)));
  const auto stats = run.recorder.GetStats();
  CHECK(stats.recorded == 20'000);
  CHECK(stats.queued <= 1000);
  CHECK(stats.dropped >= 18'999);
  run.sink.blocked = false;
}

TEST_CASE("objects that came and went are forgotten when nothing is owed to them any more") {
  Running run;
  for (int i = 0; i < 50; ++i) {
    run.recorder.Record(Note("Made", "w" + std::to_string(i)));
    run.recorder.Record(Note("Loaded", "w" + std::to_string(i)));
  }
  REQUIRE(Eventually([&] { return run.recorder.GetStats().sent == 100; }));
  CHECK(run.recorder.GetStats().remembered == 50 * 5);
  run.Pass(Millis{120'000});
  CHECK(run.recorder.GetStats().remembered == 50 * 5);
  // Two tokens come back in ten minutes; a window of similar ones takes as long.
  run.Pass(Millis{550'000});
  CHECK(Eventually([&] { return run.recorder.GetStats().remembered == 0; }));
}

TEST_CASE("what is queued at the stop is sent, within the limit") {
  FakeSink sink;
  runtime::EventRecorder recorder({.reporting_controller = "c", .reporting_instance = "i"}, sink);
  for (int i = 0; i < 5; ++i) recorder.Record(Note("R" + std::to_string(i)));
  std::stop_source stopped;
  stopped.request_stop();
  CHECK(recorder.Run(stopped.get_token()).has_value());
  CHECK(sink.Calls().size() == 5);
}

TEST_CASE("an event that the stop cuts short, or that waits for its next try, is sent at the end") {
  class CutShort final : public runtime::EventSink {
   public:
    base::Status Create(const runtime::Event& event, std::stop_token stop) override {
      const std::lock_guard lock(mutex_);
      ++tries_;
      if (tries_ == 1) return base::MakeError(base::Code::kUnavailable, "once more, later");
      if (tries_ == 2) {
        on_second();
        if (stop.stop_requested()) return base::MakeError(base::Code::kCancelled, "stopped");
      }
      sent.insert(event.note.reason);
      return {};
    }
    base::Status PatchSeries(const runtime::Event&, std::stop_token) override { return {}; }
    std::function<void()> on_second;
    std::set<std::string> sent;

   private:
    std::mutex mutex_;
    int tries_ = 0;
  };
  CutShort sink;
  std::stop_source stop;
  sink.on_second = [&] { stop.request_stop(); };
  runtime::EventRecorder recorder({.reporting_controller = "c", .reporting_instance = "i"}, sink);
  for (const char* reason : {"First", "Second"}) recorder.Record(Note(reason));
  CHECK(recorder.Run(stop.get_token()).has_value());
  CHECK(sink.sent == std::set<std::string>{"First", "Second"});
}

TEST_CASE("the registry writes the text format, escaped and in order") {
  runtime::Metrics metrics;
  metrics.CounterOf({"b_total", "Two\nlines \\.", {"path"}}, {"a\"b\\c\nd"}).Add(2.5);
  metrics.GaugeOf({"a", "A gauge."}).Set(-1);
  auto& histogram = metrics.HistogramOf({"h", "H.", {"x"}}, {"1"}, {0.5, 1});
  for (const double v : {0.1, 0.5, 0.7, 9.0}) histogram.Observe(v);
  CHECK(metrics.Text() ==
        "# HELP a A gauge.\n# TYPE a gauge\na -1\n"
        "# HELP b_total Two\\nlines \\\\.\n# TYPE b_total counter\n"
        "b_total{path=\"a\\\"b\\\\c\\nd\"} 2.5\n"
        "# HELP h H.\n# TYPE h histogram\nh_bucket{x=\"1\",le=\"0.5\"} "
        "2\nh_bucket{x=\"1\",le=\"1\"} 3\n"
        "h_bucket{x=\"1\",le=\"+Inf\"} 4\nh_sum{x=\"1\"} 10.3\nh_count{x=\"1\"} 4\n");
}

TEST_CASE("nobody's input grows the scrape without bound") {
  runtime::Metrics metrics(10);
  for (int i = 0; i < 1000; ++i) {
    metrics.CounterOf({"c_total", "C.", {"host"}}, {std::to_string(i)}).Add();
  }
  const std::string text = metrics.Text();
  CHECK(std::count(text.begin(), text.end(), '\n') == 2 + 11);
  CHECK(text.find("c_total{host=\"other\"} 990\n") != std::string::npos);
}

TEST_CASE("the same series is one, a wrong type is not exported") {
  runtime::Metrics metrics;
  CHECK(&metrics.CounterOf({"c_total", "C."}) == &metrics.CounterOf({"c_total", "C."}));
  metrics.GaugeOf({"c_total", "C."}).Set(7);
  CHECK(metrics.Text() == "# HELP c_total C.\n# TYPE c_total counter\nc_total 0\n");
  metrics.Drop("c_total", {});
  CHECK(metrics.Text().find("\nc_total 0") == std::string::npos);
}

TEST_CASE("a collector is called before each scrape and never after its handle died") {
  runtime::Metrics metrics;
  int calls = 0;
  {
    auto handle = metrics.OnScrape([&] { ++calls; });
    (void)metrics.Text();
    (void)metrics.Text();
  }
  (void)metrics.Text();
  CHECK(calls == 2);
}

TEST_CASE("the process tells of itself under the usual names") {
  runtime::Metrics metrics;
  const auto handle = runtime::AddProcessMetrics(metrics);
  runtime::RestClientMetrics client(metrics);
  client.Observe({"GET", "127.0.0.1", "200", 0.01, false, 0, 300});
  CHECK(metrics.Text().find("rest_client_request_retries_total{") == std::string::npos);
  client.Observe({"GET", "127.0.0.1", "429", 0.01, true, 0, 20});
  const std::string text = metrics.Text();
  const auto value = [&](const std::string& name) {
    const size_t at = text.find("\n" + name + " ");
    return at == std::string::npos ? -1 : std::stod(text.substr(at + name.size() + 2));
  };
  CHECK(value("process_resident_memory_bytes") > 1e6);
  CHECK(value("process_memory_limit_bytes") > value("process_resident_memory_bytes"));
  CHECK(value("process_open_fds") >= 3);
  CHECK(value("process_max_fds") >= value("process_open_fds"));
  CHECK(value("process_threads") >= 1);
  CHECK(value("process_cpu_seconds_total") > 0);
  CHECK(value("process_start_time_seconds") > 1.6e9);
  CHECK(
      text.find("rest_client_requests_total{code=\"200\",method=\"GET\",host=\"127.0.0.1\"} 1\n") !=
      std::string::npos);
  CHECK(text.find("rest_client_request_retries_total{code=\"429\",verb=\"GET\",host=\"127.0.0.1\"} "
                  "1\n") != std::string::npos);
  CHECK(text.find("rest_client_response_size_bytes_sum{verb=\"GET\",host=\"127.0.0.1\"} 320\n") !=
        std::string::npos);
  CHECK(text.find("rest_client_request_size_bytes_count{verb=\"GET\",host=\"127.0.0.1\"} 2\n") !=
        std::string::npos);
}
