#pragma once

#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "apiserver/schema/resource_definition.hpp"
#include "base/file.hpp"

/// The product's own definition in crds/NAME.yaml, as the embedded API loads it.
inline apiserver::ResourceDefinition ProductCrd(const std::string& name) {
  const auto path = std::filesystem::path(WO_SOURCE_DIR) / "crds" / (name + ".yaml");
  const auto text = base::ReadFile(path, 1 << 20);
  REQUIRE_MESSAGE(text, path.string());
  const auto documents = codec::ParseYaml(*text);
  REQUIRE_MESSAGE(documents, (documents ? "" : documents.error().message));
  auto definition = apiserver::LoadCrd(documents->at(0));
  REQUIRE_MESSAGE(definition, (definition ? "" : definition.error().message));
  return *std::move(definition);
}
