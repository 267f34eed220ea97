#include "box/pod/pod_keeper.hpp"

#include <doctest/doctest.h>

TEST_CASE(
    "Pods that go on failing are made again ever more slowly, and at once after a good time") {
  box::PodRemakes remakes;
  const base::MonoTime start{};
  const auto ask = [&](int seconds) {
    return std::chrono::ceil<base::Seconds>(remakes.Ask("ns/a", start + base::Seconds{seconds}))
        .count();
  };
  CHECK(ask(0) == 0);
  CHECK(ask(4) == 6);
  CHECK(ask(10) == 0);
  CHECK(ask(20) == 10);
  CHECK(ask(30) == 0);
  CHECK(ask(30) == 40);
  int at = 70;
  for (const int wait : {80, 160, 300, 300}) {
    CHECK(ask(at) == 0);
    CHECK(ask(at) == wait);
    at += wait;
  }
  CHECK(remakes.Ask("ns/b", start) == base::Millis{0});
  // One that lasted for a minute after it might have been made again did not fail at once.
  at += 61;
  CHECK(ask(at) == 0);
  CHECK(ask(at) == 10);
}
