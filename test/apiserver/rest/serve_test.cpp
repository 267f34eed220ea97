#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include "apiserver/rest/api_server.hpp"
#include "widgets.hpp"

namespace apiserver {

/// Not a test by itself: kubectl_check.sh starts the program with APISERVER_SERVE=<data directory>
/// and this test case, and ends it by closing its standard input.
TEST_CASE("serves until its standard input ends, when asked to") {
  const char* data_dir = std::getenv("APISERVER_SERVE");
  if (data_dir == nullptr) return;
  ApiServerOptions options;
  options.data_dir = data_dir;
  options.crds = {kWidgetCrd};
  const auto read = [&](const std::filesystem::path& file) {
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    options.crds.push_back(text.str());
  };
  const std::string source = WO_SOURCE_DIR;
  read(source + "/test/crds/thing.yaml");
  for (const auto& entry : std::filesystem::directory_iterator(source + "/crds"))
    if (entry.path().extension() == ".yaml") read(entry.path());
  auto server = ApiServer::Start(options);
  REQUIRE_MESSAGE(server.has_value(), (server ? "" : server.error().message));
  std::cout << "serving " << (*server)->Url() << std::endl;
  for (const std::string& rule : (*server)->BrokenRules())
    std::cout << "broken rule " << rule << std::endl;
  std::string line;
  while (std::getline(std::cin, line)) continue;
  (*server)->Stop();
}

}  // namespace apiserver
