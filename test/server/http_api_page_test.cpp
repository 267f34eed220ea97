#include <doctest/doctest.h>
#include <fmt/format.h>

#include "server/routes.hpp"
#include "support/temp_folder.hpp"

TEST_CASE("the page about the HTTP API names every endpoint, and no other") {
  const std::string page =
      support::ReadText(std::string(WO_SOURCE_DIR) + "/docs/reference/http-api.md");
  for (const auto& route : server::Routes()) {
    const std::string row = fmt::format("\n| `{} {}` |", route.method, route.pattern);
    CAPTURE(row);
    CHECK(page.find(row) != std::string::npos);
  }
  size_t rows = 0;
  for (const char* method : {"GET", "POST", "DELETE", "PUT", "PATCH"}) {
    const std::string begin = fmt::format("\n| `{} /", method);
    for (size_t at = page.find(begin); at != std::string::npos; at = page.find(begin, at + 1))
      ++rows;
  }
  CHECK(rows == server::Routes().size());
}
