#include "base/utf8.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace {

const std::string kEuro = "\xe2\x82\xac";
const std::string kFace = "\xf0\x9f\x98\x80";

TEST_CASE("FindInvalidUtf8 finds the first bad byte") {
  CHECK(!base::FindInvalidUtf8(""));
  CHECK(!base::FindInvalidUtf8("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf"));
  const std::vector<std::string> bad = {"\x80",
                                        "\xc3",
                                        "\xc1\x81",
                                        "\xe0\x80\x80",
                                        "\xed\xa0\x80",
                                        "\xf4\x90\x80\x80",
                                        "\xf8\x88\x80\x80",
                                        "\xe2\x82"};
  for (const std::string& text : bad) CHECK(base::FindInvalidUtf8("ab" + text) == 2);
}

TEST_CASE("CutUtf8 keeps whole characters only") {
  struct Row {
    std::string text;
    size_t limit;
    std::string want;
  };
  const std::vector<Row> rows = {
      {"abc", 3, "abc"},
      {"abc", 2, "ab"},
      {"", 0, ""},
      {kEuro, 0, ""},
      {"a" + kEuro, 4, "a" + kEuro},
      {"a" + kEuro, 3, "a"},
      {"a" + kEuro, 2, "a"},
      {"a" + kEuro + "b", 4, "a" + kEuro},
      {kFace + kFace, 7, kFace},
      {kFace + kFace, 5, kFace},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    CAPTURE(row.limit);
    CHECK(base::CutUtf8(row.text, row.limit) == row.want);
    CHECK(base::ShortenUtf8(row.text, row.limit) ==
          row.want + (row.text.size() > row.limit ? "..." : ""));
  }
  // Not text at all: no character to look for, and little is lost.
  CHECK(base::CutUtf8(std::string(100, '\x80'), 50).size() >= 46);
}

TEST_CASE("RepairUtf8 replaces each bad byte and nothing else") {
  const std::string fffd = "\xef\xbf\xbd";
  CHECK(base::RepairUtf8("a" + kEuro + kFace) == "a" + kEuro + kFace);
  CHECK(base::RepairUtf8("a\xe2\x82") == "a" + fffd + fffd);
  CHECK(base::RepairUtf8("\xff" + kEuro + "\x80z") == fffd + kEuro + fffd + "z");
  CHECK(!base::FindInvalidUtf8(base::RepairUtf8("\xed\xa0\x80 \xc1\x81 \xf5")));
}

}  // namespace
