#include "codec/envelope.hpp"

#include <doctest/doctest.h>

#include "codec/resources.hpp"

namespace {

TEST_CASE("a watch event is split in the usual form and in any other") {
  for (const std::string line : {
           R"({"type":"MODIFIED","object":{"metadata":{"name":"a"}}})",
           "{\"type\":\"MODIFIED\",\"object\":{\"metadata\":{\"name\":\"a\"}}}\n",
           R"({ "type" : "MODIFIED", "object" : {"metadata":{"name":"a"}} , "more":[1] })",
           R"({"object":{"metadata":{"name":"a"}},"type":"MODIFIED"})",
       }) {
    CAPTURE(line);
    const auto event = codec::SplitWatchEvent(line);
    REQUIRE(event);
    CHECK(event->type == "MODIFIED");
    CHECK(event->object == R"({"metadata":{"name":"a"}})");
    CHECK(codec::DecodeObjectMeta(event->object)->name == "a");
  }
}

TEST_CASE("what is no watch event is refused") {
  for (const char* line :
       {"", "[]", "{}", R"({"type":"ADDED"})", R"({"object":{}})", R"({"type":7,"object":{}})",
        R"({"type":"ADDED","object":[]})", R"({"type":"ADDED","object":{})", "\xff"}) {
    CAPTURE(line);
    const auto event = codec::SplitWatchEvent(line);
    if (event) {
      CHECK(!codec::DecodeObjectMeta(event->object));
    } else {
      CHECK(event.error().code == base::Code::kInvalid);
    }
  }
}

TEST_CASE("a list page is split into its items") {
  const std::string body =
      R"({"kind":"List","metadata":{"resourceVersion":"12","continue":"abc","remainingItemCount":3},"items":[{"a":1}, {"b":{"c":[2]}} ]})";
  const auto list = codec::SplitList(body);
  REQUIRE(list);
  CHECK(list->resource_version == "12");
  CHECK(list->continue_token == "abc");
  REQUIRE(list->items.size() == 2);
  CHECK(list->items[0] == R"({"a":1})");
  CHECK(list->items[1] == R"({"b":{"c":[2]}})");
  CHECK(codec::SplitList(R"({"metadata":{},"items":null})")->items.empty());
  CHECK(!codec::SplitList(R"({"kind":"Status"})"));
  CHECK(!codec::SplitList(R"({"items":[1]})"));
  CHECK(!codec::SplitList(R"({"items":[{}]} {})"));
  CHECK(!codec::SplitList(R"({"items":)"));
}

}  // namespace
