#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "runtime/controller.hpp"
#include "runtime/metrics.hpp"
#include "support/eventually.hpp"
#include "support/fake_clock.hpp"

namespace runtime_test {

/// Answers what a test says, and counts.
class ScriptedReconciler : public runtime::Reconciler {
 public:
  using Answer =
      std::function<base::Result<runtime::Requeue>(const meta::ObjectKey&, std::stop_token)>;
  explicit ScriptedReconciler(Answer answer) : answer_(std::move(answer)) {}
  base::Result<runtime::Requeue> Reconcile(const meta::ObjectKey& key,
                                           std::stop_token stop) override {
    auto result = answer_(key, stop);
    ++runs;
    return result;
  }
  std::atomic<int> runs{0};

 private:
  Answer answer_;
};

struct Running {
  explicit Running(ScriptedReconciler::Answer answer,
                   const std::function<void(runtime::ControllerOptions&)>& change = {})
      : reconciler(std::move(answer)), controller(Options(change), reconciler) {}
  ~Running() { Stop(); }
  runtime::ControllerOptions Options(
      const std::function<void(runtime::ControllerOptions&)>& change) {
    runtime::ControllerOptions options;
    options.name = "thing";
    options.clock = &clock;
    options.metrics = &metrics;
    options.queue.backoff.jitter = 0;
    if (change) change(options);
    return options;
  }
  void Start() {
    thread = std::jthread([this](std::stop_token stop) { ended = controller.Run(stop); });
  }
  void Stop() {
    if (!thread.joinable()) return;
    thread.request_stop();
    thread.join();
  }
  bool AwaitIdle(int runs) {
    return support::Eventually(
        [&] { return reconciler.runs == runs && controller.Queue().Stats().processing == 0; });
  }
  double Metric(const std::string& line) {
    const std::string text = metrics.Text();
    const size_t at = text.find("\n" + line + " ");
    return at == std::string::npos ? -1 : std::stod(text.substr(at + line.size() + 2));
  }

  support::FakeClock clock;
  runtime::Metrics metrics;
  ScriptedReconciler reconciler;
  runtime::Controller controller;
  base::Status ended;
  std::jthread thread;
};

}  // namespace runtime_test
