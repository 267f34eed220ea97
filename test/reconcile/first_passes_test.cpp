#include "app/first_passes.hpp"

#include <doctest/doctest.h>

#include <stdexcept>

namespace {

class Throwing final : public runtime::Reconciler {
 public:
  base::Result<runtime::Requeue> Reconcile(const meta::ObjectKey& key, std::stop_token) override {
    if (key.name == "bad") throw std::runtime_error("bug");
    return runtime::Requeue::None();
  }
};

}  // namespace

TEST_CASE("the first passes end when every key has had one, also one whose pass throws") {
  Throwing reconciler;
  int done = 0;
  app::FirstPasses passes(reconciler, [&] { ++done; });
  passes.Expect({{"ns", "good"}, {"ns", "bad"}});
  CHECK_THROWS(passes.Reconcile({"ns", "bad"}, {}));
  CHECK(done == 0);
  REQUIRE(passes.Reconcile({"ns", "good"}, {}));
  CHECK(done == 1);
  REQUIRE(passes.Reconcile({"ns", "good"}, {}));
  CHECK(done == 1);
}
