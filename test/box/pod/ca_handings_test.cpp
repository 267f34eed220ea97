#include "box/pod/ca_handings.hpp"

#include <doctest/doctest.h>

namespace {

base::MonoTime At(int seconds) { return base::MonoTime{} + base::Seconds{seconds}; }

}  // namespace

TEST_CASE(
    "an authority that somebody else takes out again is given once a minute, and it is seen") {
  using Answer = box::CaHandings::Answer;
  box::CaHandings given;
  const struct {
    int second;
    const char* pem;
    Answer answer;
    bool contested;
  } rows[] = {{0, "a", Answer::kGive, false},
              {1, "a", Answer::kWait, false},  // Or the informer is behind.
              {59, "a", Answer::kWait, false},
              {60, "a", Answer::kGive, true},
              {61, "a", Answer::kWait, true},
              {119, "a", Answer::kWait, true},
              {120, "a", Answer::kGive, true},
              {121, "b", Answer::kGive, false},  // Our own has changed: at once.
              {122, "b", Answer::kWait, false},
              {181, "b", Answer::kGive, true}};
  for (const auto& row : rows) {
    CAPTURE(row.second);
    CHECK(given.Ask("uid", row.pem, At(row.second)) == row.answer);
    CHECK(given.IsContested("uid", At(row.second)) == row.contested);
  }
  CHECK(given.IsContested("uid", At(780)));
  CHECK_FALSE(given.IsContested("uid", At(781)));
  CHECK_FALSE(given.IsContested("another", At(181)));
  CHECK(given.Ask("another", "b", At(181)) == Answer::kGive);
  given.Forget("another");
  CHECK(given.Ask("another", "b", At(182)) == Answer::kGive);
}
