#include "bundle/tree_check.hpp"

#include <doctest/doctest.h>

#include "bundle/unicode.hpp"

using bundle::CheckPath;
using bundle::CheckTree;
using bundle::FileEntry;
using bundle::Limits;

namespace {

std::string ReasonOf(const std::vector<std::string>& paths) {
  std::vector<FileEntry> files;
  for (const std::string& path : paths) files.push_back({path, 1, false});
  const auto ok = CheckTree(files, {});
  return ok ? "" : ok.error().reason;
}

std::string Deep(int levels) {
  std::string path = "a";
  for (int i = 1; i < levels; ++i) path += "/a";
  return path;
}

}  // namespace

TEST_CASE("names that could leave the folder, confuse a terminal or collide are refused") {
  const struct {
    const char* what;
    std::vector<std::string> paths;
    std::string reason;
  } rows[] = {
      {"an ordinary tree", {"plugin.yaml", "bin/run.sh", "docs/Ünïcode 名前.md"}, ""},
      {"two dots", {"../x"}, "NameNotAllowed"},
      {"two dots inside", {"a/../../x"}, "NameNotAllowed"},
      {"a dot segment", {"./x"}, "NameNotAllowed"},
      {"absolute", {"/etc/passwd"}, "NameNotAllowed"},
      {"double slash", {"a//b"}, "NameNotAllowed"},
      {"trailing slash", {"a/"}, "NameNotAllowed"},
      {"empty", {""}, "NameNotAllowed"},
      {"NUL", {std::string("a\0b", 3)}, "NameNotAllowed"},
      {"line feed", {"a\nb"}, "NameNotAllowed"},
      {"carriage return", {"a\rb"}, "NameNotAllowed"},
      {"escape", {"a\x1b[31mb"}, "NameNotAllowed"},
      {"delete", {"a\x7f"}, "NameNotAllowed"},
      {"C1 control", {"a\xc2\x9b"}, "NameNotAllowed"},
      {"right-to-left override", {"a\xe2\x80\xae.txt"}, "NameNotAllowed"},
      {"zero-width space", {"a\xe2\x80\x8b"}, "NameNotAllowed"},
      {"invalid UTF-8", {"a\xff"}, "NameNotAllowed"},
      {"overlong slash",
       {"a\xc0\xaf"
        "b"},
       "NameNotAllowed"},
      {"surrogate", {"a\xed\xa0\x80"}, "NameNotAllowed"},
      {"backslash", {"a\\b"}, "NameNotAllowed"},
      {".git", {".git/config"}, "NameNotAllowed"},
      {".GIT", {"x/.GIT/config"}, "NameNotAllowed"},
      {"256 bytes in a segment", {std::string(256, 'a')}, "NameNotAllowed"},
      {"255 bytes in a segment", {std::string(255, 'a')}, ""},
      {"4 KiB path",
       {std::string(200, 'a') + "/" + std::string(200, 'b') + "/" + std::string(200, 'c') + "/" +
        std::string(200, 'd') + "/" + std::string(250, 'e')},
       "NameNotAllowed"},
      {"33 levels", {Deep(33)}, "TooDeep"},
      {"32 levels", {Deep(32)}, ""},
      {"twice", {"a", "a"}, "NameNotAllowed"},
      {"file and folder", {"a", "a/b"}, "NameNotAllowed"},
      {"case", {"README.md", "readme.md"}, "NameNotAllowed"},
      {"case of a folder", {"Docs/a", "docs/b"}, "NameNotAllowed"},
      {"case of a Greek letter", {"\xce\xa3", "\xcf\x83"}, "NameNotAllowed"},
      {"decomposed accent",
       {"u\xcc\x88"
        "ber"},
       "NameNotAllowed"},
      {"Kelvin sign", {"\xe2\x84\xaa"}, "NameNotAllowed"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.what);
    CHECK(ReasonOf(row.paths) == row.reason);
  }
}

TEST_CASE("counts and sizes are bounded") {
  Limits limits;
  limits.entries = 2;
  limits.file_bytes = 10;
  limits.total_bytes = 15;
  CHECK(CheckTree({{"a", 10, false}, {"b", 5, false}}, limits));
  CHECK(CheckTree({{"a", 11, false}}, limits).error().reason == "TooLarge");
  CHECK(CheckTree({{"a", 10, false}, {"b", 6, false}}, limits).error().reason == "TooLarge");
  CHECK(CheckTree({{"a", 1, false}, {"b", 1, false}, {"c", 1, false}}, limits).error().reason ==
        "TooManyEntries");
  CHECK(CheckTree({{"a", UINT64_MAX, false}, {"b", 2, false}}, limits).error().reason ==
        "TooLarge");
}

TEST_CASE("messages never carry raw control bytes") {
  const auto ok = CheckPath("a\x1b[2J\n", {});
  REQUIRE_FALSE(ok);
  for (const char c : ok.error().message) CHECK(static_cast<unsigned char>(c) >= 0x20);
  CHECK(bundle::Printable(std::string(5000, 'a')).size() < 140);
}

TEST_CASE("a plugin's name is a plain folder name") {
  for (const char* good : {"a", "hello-world", "Foo.bar_1", "x9"})
    CHECK(bundle::IsPluginName(good));
  for (const char* bad : {"", ".", "..", ".molecule", "a/b", "-a", "a-", "a b", "ä", "a\n"})
    CHECK_FALSE(bundle::IsPluginName(bad));
  CHECK_FALSE(bundle::IsPluginName(std::string(64, 'a')));
}
