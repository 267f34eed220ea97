#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "support/fake_clock.hpp"

/// A deterministic simulation: the real reconcilers, queues, caches and stores on one clock,
/// against an API server and boxes of which every step is chosen by a seed.
namespace simulation {

/// All chance of a run. The same seed gives the same numbers on every machine.
class Dice {
 public:
  explicit Dice(uint64_t seed) : engine_(seed) {}
  size_t Upto(size_t n) { return static_cast<size_t>(engine_() % n); }
  bool Chance(size_t in_thousand) { return Upto(1000) < in_thousand; }
  template <typename T>
  const T& Pick(const std::vector<T>& from) {
    return from[Upto(from.size())];
  }

 private:
  std::mt19937_64 engine_;
};

/// What happened, as text: equal texts mean equal runs. Rules that were broken are part of it.
class Trace {
 public:
  explicit Trace(const support::FakeClock& clock) : clock_(clock), start_(clock.Read().mono) {}

  void Step(const std::string& what) {
    const std::chrono::duration<double> at = clock_.Read().mono - start_;
    Add(fmt::format("#{} {:.3f}s {}", ++steps_, at.count(), what));
  }
  void Note(const std::string& what) { Add("    " + what); }
  void Break(const std::string& rule) {
    broken_.push_back(fmt::format("at step {}: {}", steps_, rule));
    Note("BROKEN: " + rule);
  }

  size_t Steps() const { return steps_; }
  const std::string& Text() const { return text_; }
  const std::vector<std::string>& Broken() const { return broken_; }
  /// How often it says that.
  size_t Count(std::string_view what) const {
    size_t count = 0;
    for (size_t at = text_.find(what); at != std::string::npos; at = text_.find(what, at + 1))
      ++count;
    return count;
  }
  std::string Tail(size_t lines) const {
    size_t at = text_.size();
    for (; lines > 0 && at > 1; --lines) {
      at = text_.rfind('\n', at - 2);
      if (at == std::string::npos) return text_;
      ++at;
    }
    return text_.substr(at);
  }

 private:
  void Add(const std::string& line) {
    text_ += line;
    text_ += '\n';
  }

  const support::FakeClock& clock_;
  const base::MonoTime start_;
  size_t steps_ = 0;
  std::string text_;
  std::vector<std::string> broken_;
};

}  // namespace simulation
