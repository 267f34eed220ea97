#include "apiserver/openapi/openapi.hpp"

#include <doctest/doctest.h>

#include "apiserver/product_crd.hpp"

using namespace apiserver;
using codec::Json;

TEST_CASE("the product's own definitions are described as kubectl asks for them") {
  for (const char* name : {"workspaces", "declaredplugins"}) {
    const ResourceDefinition definition = ProductCrd(name);
    const std::vector<ResourceDefinition> all = {definition};
    const Json document = OpenApiV3(definition.group, definition.version, all);
    const std::string path =
        "/apis/molecule.ai/v1alpha1/namespaces/{namespace}/" + definition.plural + "/{name}";
    REQUIRE(document["paths"].contains(path));
    const Json& patch = document["paths"][path]["patch"];
    CHECK(patch["x-kubernetes-group-version-kind"]["kind"] == definition.kind);
    CHECK(patch["parameters"].dump().find("fieldValidation") != std::string::npos);
    CHECK(document["components"]["schemas"].contains("ai.molecule.v1alpha1." + definition.kind));
    CHECK(OpenApiV3Index(all)["paths"]["apis/molecule.ai/v1alpha1"]["serverRelativeURL"]
              .get<std::string>()
              .find("?hash=") != std::string::npos);
    CHECK(OpenApiV2(all)["definitions"].size() == 4);
  }
}
