#include <doctest/doctest.h>

#include "reconcile/simulation/one_box.hpp"

using namespace simulation;

namespace {

/// A workspace whose agent is asked for restarts; who reports for it is written here.
struct Bench : OneBox {
  Bench() {
    in.witness = [this](const std::string&, const std::vector<std::string>& names) {
      if (!names.empty()) return;
      ++asked;
      if (starts_itself) Report("b2");
    };
    MakeWorkspace(api::BoxType::kDirectory);
    Declare("alpha");
    Lead();
    for (int i = 0; i < 40 && asked == 0; ++i) {
      Report();
      Pass();
      process->resolver.RunDue({});
    }
    process->SendEvents();
  }
  bool Says(const char* text) { return trace.Text().find(text) != std::string::npos; }

  static inline bool starts_itself = false;
  int asked = 0;
};

}  // namespace

TEST_CASE("a restart that nobody was asked for, since the box had started anew, is no Event") {
  for (const bool itself : {false, true}) {
    Bench::starts_itself = itself;
    Bench b;
    CAPTURE(b.trace.Text());
    REQUIRE(b.asked == 1);
    CHECK(b.Says("pod PluginDelivered"));
    CHECK(b.Says("pod RestartRequested") != itself);
    CHECK_FALSE(b.Says("event pod BootChanged"));
  }
}
