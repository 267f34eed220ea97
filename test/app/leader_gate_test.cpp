#include "app/leader_gate.hpp"

#include <doctest/doctest.h>

#include <set>
#include <string>

TEST_CASE("what comes while a new leader looks at its caches is not missed") {
  app::LeaderGate gate;
  std::set<std::string> cache, woken;
  const auto comes = [&](const std::string& key) {
    cache.insert(key);
    if (gate.IsOpen()) woken.insert(key);
  };
  comes("before");
  CHECK(woken.empty());
  gate.Open([&] {
    const auto seen = cache;
    comes("meanwhile");
    woken.insert(seen.begin(), seen.end());
  });
  comes("after");
  CHECK(woken == std::set<std::string>{"before", "meanwhile", "after"});
}
