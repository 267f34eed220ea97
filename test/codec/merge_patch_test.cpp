#include "codec/merge_patch.hpp"

#include <doctest/doctest.h>

#include <random>

namespace {

using codec::ApplyMergePatch;
using codec::DiffMergePatch;
using codec::Json;

TEST_CASE("DiffMergePatch holds only what changed") {
  const std::vector<std::tuple<const char*, Json, Json, Json>> table = {
      {"equal", {{"a", 1}}, {{"a", 1}}, Json::object()},
      {"changed", {{"a", 1}, {"b", 1}}, {{"a", 2}, {"b", 1}}, {{"a", 2}}},
      {"added", {{"a", 1}}, {{"a", 1}, {"b", "x"}}, {{"b", "x"}}},
      {"removed", {{"a", 1}, {"b", 1}}, {{"a", 1}}, {{"b", nullptr}}},
      {"nested", {{"a", {{"b", 1}, {"c", 1}}}}, {{"a", {{"b", 2}, {"c", 1}}}}, {{"a", {{"b", 2}}}}},
      {"emptied", {{"a", {{"b", 1}}}}, {{"a", Json::object()}}, {{"a", {{"b", nullptr}}}}},
      {"arrays whole", {{"a", {1, 2}}}, {{"a", {1, 3}}}, {{"a", {1, 3}}}},
      {"another type", {{"a", {{"b", 1}}}}, {{"a", "x"}}, {{"a", "x"}}},
      {"from nothing", Json::object(), {{"a", {{"b", 1}}}}, {{"a", {{"b", 1}}}}},
  };
  for (const auto& [name, before, after, patch] : table) {
    CAPTURE(name);
    CHECK(DiffMergePatch(before, after) == patch);
    CHECK(ApplyMergePatch(before, patch) == after);
  }
}

TEST_CASE("ApplyMergePatch does the examples of RFC 7386, appendix A") {
  const std::vector<std::array<const char*, 3>> table = {
      {R"({"a":"b"})", R"({"a":"c"})", R"({"a":"c"})"},
      {R"({"a":"b"})", R"({"b":"c"})", R"({"a":"b","b":"c"})"},
      {R"({"a":"b"})", R"({"a":null})", "{}"},
      {R"({"a":"b","b":"c"})", R"({"a":null})", R"({"b":"c"})"},
      {R"({"a":["b"]})", R"({"a":"c"})", R"({"a":"c"})"},
      {R"({"a":"c"})", R"({"a":["b"]})", R"({"a":["b"]})"},
      {R"({"a":{"b":"c"}})", R"({"a":{"b":"d","c":null}})", R"({"a":{"b":"d"}})"},
      {R"({"a":[{"b":"c"}]})", R"({"a":[1]})", R"({"a":[1]})"},
      {R"(["a","b"])", R"(["c","d"])", R"(["c","d"])"},
      {R"({"a":"b"})", R"(["c"])", R"(["c"])"},
      {R"({"a":"foo"})", "null", "null"},
      {R"({"a":"foo"})", R"("bar")", R"("bar")"},
      {R"({"e":null})", R"({"a":1})", R"({"a":1,"e":null})"},
      {"[1,2]", R"({"a":"b","c":null})", R"({"a":"b"})"},
      {"{}", R"({"a":{"bb":{"ccc":null}}})", R"({"a":{"bb":{}}})"},
  };
  for (const auto& [target, patch, wanted] : table) {
    CAPTURE(target);
    CAPTURE(patch);
    CHECK(ApplyMergePatch(Json::parse(target), Json::parse(patch)) == Json::parse(wanted));
  }
}

Json Random(std::mt19937& random, int depth) {
  const auto pick = random() % (depth > 0 ? 6 : 3);
  if (pick == 0) return static_cast<int64_t>(random() % 3);
  if (pick == 1) return std::string(1, static_cast<char>('x' + random() % 3));
  if (pick == 2) return Json::array({static_cast<int64_t>(random() % 2)});
  Json object = Json::object();
  for (auto left = random() % 4; left > 0; --left)
    object[std::string(1, static_cast<char>('a' + random() % 4))] = Random(random, depth - 1);
  return object;
}

TEST_CASE("applying the difference gives the other document, and equal documents have none") {
  std::mt19937 random(7);
  for (int i = 0; i < 3000; ++i) {
    Json before = Random(random, 4), after = Random(random, 4);
    if (!before.is_object()) before = Json::object();
    if (!after.is_object()) after = Json::object();
    CHECK(ApplyMergePatch(before, DiffMergePatch(before, after)) == after);
    CHECK(DiffMergePatch(after, after) == Json::object());
    CHECK(DiffMergePatch(before, after).empty() == (before == after));
  }
}

}  // namespace
