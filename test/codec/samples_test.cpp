#include <doctest/doctest.h>

#include <filesystem>
#include <set>

#include "base/file.hpp"
#include "codec/crd.hpp"
#include "codec/resources.hpp"

/// The structural part; the CEL rules are run over the same files by the tests of the embedded API.
namespace {

using codec::Json;

std::string PluralOf(const Json& object) {
  const std::string kind = codec::GetString(object, "kind");
  return kind == "Workspace" ? "workspaces" : kind == "DeclaredPlugin" ? "declaredplugins" : "";
}

TEST_CASE("every sample fits its schema, decodes, and loses nothing") {
  int samples = 0;
  std::set<std::string> boxes;
  for (const auto& file : std::filesystem::recursive_directory_iterator(std::string(WO_SOURCE_DIR) +
                                                                        "/manifests/samples")) {
    if (file.path().extension() != ".yaml") continue;
    CAPTURE(file.path().string());
    const auto text = base::ReadFile(file.path(), 1 << 20);
    REQUIRE(text);
    if (file.path().parent_path().filename() == "samples")
      CHECK(text->starts_with("#"));  // Says what it shows.
    const auto documents = codec::ParseYaml(*text);
    if (!documents) FAIL(documents.error().message);
    for (const Json& object : *documents) {
      const std::string plural = PluralOf(object);
      if (plural.empty()) continue;
      ++samples;
      const Json schema = crd::Schema(crd::Load(plural));
      CHECK(crd::Misfit(object, schema) == "");
      if (plural == "workspaces") {
        const auto workspace = codec::DecodeWorkspace(codec::Dump(object));
        REQUIRE(workspace);
        boxes.insert(std::string(codec::WireName(workspace->spec.box.type)));
        CHECK(codec::DecodeWorkspace(codec::Dump(codec::EncodeWorkspace(*workspace)))->spec ==
              workspace->spec);
      } else {
        const auto plugin = codec::DecodeDeclaredPlugin(codec::Dump(object));
        REQUIRE(plugin);
        CHECK(
            codec::DecodeDeclaredPlugin(codec::Dump(codec::EncodeDeclaredPlugin(*plugin)))->spec ==
            plugin->spec);
      }
    }
  }
  CHECK(samples >= 11);
  CHECK(boxes.size() == 5);
}

}  // namespace
