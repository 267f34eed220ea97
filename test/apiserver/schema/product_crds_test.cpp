#include <doctest/doctest.h>

#include <filesystem>

#include "apiserver/product_crd.hpp"
#include "apiserver/schema/resource_definition.hpp"
#include "apiserver/schema/validation.hpp"
#include "base/file.hpp"

using namespace apiserver;
using codec::Json;

namespace {

std::vector<Json> Documents(const std::filesystem::path& path) {
  const auto text = base::ReadFile(path, 1 << 20);
  REQUIRE_MESSAGE(text, path.string());
  // The quickstart's own script puts a folder there.
  std::string filled = *text;
  for (size_t at; (at = filled.find("${BOX}")) != std::string::npos;)
    filled.replace(at, 6, "/srv/box");
  const auto documents = codec::ParseYaml(filled);
  REQUIRE_MESSAGE(documents, (documents ? "" : documents.error().message));
  return *documents;
}

const std::filesystem::path kRoot = WO_SOURCE_DIR;

/// The definition of Workspace or DeclaredPlugin; null for another kind.
const ResourceDefinition* Definition(const std::string& kind) {
  static const ResourceDefinition all[] = {ProductCrd("workspaces"), ProductCrd("declaredplugins")};
  for (const ResourceDefinition& definition : all) {
    if (definition.kind == kind) return &definition;
  }
  return nullptr;
}

struct Written {
  Json object;
  std::string faults;
};

/// A create, or an update of `old_object`, as the server does it; unknown members are faults here.
Written Write(const ResourceDefinition& definition, Json object, const Json* old_object = nullptr) {
  std::string faults;
  for (const std::string& path : Prune(definition, object)) faults += "unknown " + path + "; ";
  ApplyDefaults(definition, object);
  for (const FieldError& error : Validate(definition, object, old_object))
    faults += error.Text() + "; ";
  return {std::move(object), faults};
}

Json Object(const std::string& kind, const Json& spec) {
  return {{"apiVersion", "molecule.ai/v1alpha1"},
          {"kind", kind},
          {"metadata", {{"name", "a"}, {"namespace", "default"}}},
          {"spec", spec}};
}

}  // namespace

TEST_CASE("storage may be added, and what stands beside it may change") {
  const ResourceDefinition& definition = *Definition("Workspace");
  const auto spec = [](Json pod) { return Json{{"box", {{"type", "Pod"}, {"pod", pod}}}}; };
  Json before = Object("Workspace", spec({{"image", "a:1"}}));
  for (const char* image : {"a:1", "a:2"}) {
    const Json after =
        Object("Workspace", spec({{"image", image}, {"storage", {{"size", "1Gi"}}}}));
    const Written written = Write(definition, after, &before);
    CHECK(written.faults == "");
    before = written.object;
  }
}

TEST_CASE("every spec that must be refused is refused with its message") {
  int rows = 0;
  for (const Json& row : Documents(kRoot / "test/crds/refusals.yaml")) {
    CAPTURE(row.at("name").get<std::string>());
    const std::string kind = row.at("kind");
    const ResourceDefinition* definition = Definition(kind);
    REQUIRE(definition != nullptr);
    Json before;
    if (row.contains("old")) {
      const Written old = Write(*definition, Object(kind, row["old"]));
      REQUIRE(old.faults == "");
      before = old.object;
    }
    const std::string faults =
        Write(*definition, Object(kind, row.at("spec")), before.is_null() ? nullptr : &before)
            .faults;
    CAPTURE(faults);
    CHECK(faults.find(row.at("says").get<std::string>()) != std::string::npos);
    CHECK(faults.find("unknown ") == std::string::npos);
    ++rows;
  }
  CHECK(rows >= 39);
}

TEST_CASE("every sample is accepted, and again as an update of itself") {
  int samples = 0;
  for (const auto& file :
       std::filesystem::recursive_directory_iterator(kRoot / "manifests/samples")) {
    if (file.path().extension() != ".yaml") continue;
    CAPTURE(file.path().string());
    for (Json& object : Documents(file.path())) {
      const ResourceDefinition* definition = Definition(codec::GetString(object, "kind"));
      if (definition == nullptr) continue;
      object["metadata"]["namespace"] = "default";
      const Written created = Write(*definition, object);
      CHECK(created.faults == "");
      CHECK(Write(*definition, created.object, &created.object).faults == "");
      ++samples;
    }
  }
  CHECK(samples >= 11);
}
