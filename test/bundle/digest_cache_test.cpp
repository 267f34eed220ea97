#include "bundle/digest_cache.hpp"

#include <doctest/doctest.h>

#include "support/fake_clock.hpp"

using namespace std::chrono_literals;

TEST_CASE("a digest is known for the very fingerprint it was stored with") {
  bundle::DigestCache cache;
  cache.Store("a", "one", "digest");
  CHECK(cache.Find("a", "one") == "digest");
  CHECK_FALSE(cache.Find("a", "two"));
  CHECK_FALSE(cache.Find("b", "one"));
}

TEST_CASE("what is asked for stays, what nobody asks for goes") {
  support::FakeClock clock;
  bundle::DigestCache cache(1000, clock);
  for (int n = 0; n < 100; ++n) cache.Store(std::to_string(n), "print", "digest");
  for (int half_hours = 0; half_hours < 10; ++half_hours) {
    clock.Advance(30min);
    CHECK(cache.Find("7", "print") == "digest");
  }
  CHECK(cache.Size() == 1);
  clock.Advance(5h);
  CHECK_FALSE(cache.Find("7", "print"));
  CHECK(cache.Size() == 0);
}

TEST_CASE("no more digests are kept than there is room for, those used last stay") {
  support::FakeClock clock;
  bundle::DigestCache cache(10, clock);
  for (int n = 0; n < 10; ++n) cache.Store("old" + std::to_string(n), "print", "digest");
  clock.Advance(1h);
  for (int n = 0; n < 10; ++n) cache.Store("new" + std::to_string(n), "print", "digest");
  CHECK(cache.Size() == 10);
  for (int n = 0; n < 10; ++n) CHECK(cache.Find("new" + std::to_string(n), "print"));
  cache.Store("one more", "print", "digest");
  CHECK(cache.Size() == 10);
}
