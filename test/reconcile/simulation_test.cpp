#include "reconcile/simulation/simulation.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

#include "base/log.hpp"

/// A run is known by its seed: `WO_SIM_SEED=17 build/dev/test/test_reconcile -tc='simulation*'`
/// does it again, step for step. WO_SIM_SEEDS=5000 looks harder, WO_SIM_TRACE=1 prints the whole
/// trace.
namespace {

uint64_t Number(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

/// Runs a seed; what the parts log is trouble that was made on purpose.
std::unique_ptr<simulation::Simulation> RunOf(uint64_t seed) {
  base::OverrideLogLevel(base::LogLevel::kError);
  auto run = std::make_unique<simulation::Simulation>(seed, Number("WO_SIM_STEPS", 100));
  run->Run();
  base::OverrideLogLevel(std::nullopt);
  return run;
}

/// Empty: every rule was kept.
std::string Trouble(uint64_t seed) {
  const auto run = RunOf(seed);
  const simulation::Trace& trace = run->Outcome();
  if (std::getenv("WO_SIM_TRACE") != nullptr) MESSAGE(trace.Text());
  if (trace.Broken().empty()) return "";
  std::string text = fmt::format("seed {} breaks {} rules:\n", seed, trace.Broken().size());
  for (const std::string& rule : trace.Broken()) text += "  " + rule + "\n";
  return fmt::format(
      "{}the end of its trace:\n{}again: WO_SIM_SEED={} test_reconcile -tc='simulation*' "
      "(WO_SIM_TRACE=1 prints all of it)",
      text, trace.Tail(60), seed);
}

}  // namespace

TEST_CASE("simulation: whatever the seed lets happen, the rules are kept and it converges") {
  const char* one = std::getenv("WO_SIM_SEED");
  const uint64_t first = one == nullptr ? 1 : Number("WO_SIM_SEED", 1);
  const uint64_t count = one == nullptr ? Number("WO_SIM_SEEDS", 24) : 1;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const std::string trouble = Trouble(seed);
    CHECK_MESSAGE(trouble.empty(), trouble);
  }
}

TEST_CASE("simulation: a seed gives the same trace every time, another seed another one") {
  for (uint64_t seed = 1; seed <= Number("WO_SIM_REPLAYS", 2); ++seed) {
    CAPTURE(seed);
    const auto run = RunOf(seed);
    const std::string& trace = run->Outcome().Text();
    const bool same = trace == RunOf(seed)->Outcome().Text();
    CHECK(same);
    const bool another = trace != RunOf(seed + 1)->Outcome().Text();
    CHECK(another);
  }
}
