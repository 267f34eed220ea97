#include <doctest/doctest.h>
#include <fmt/format.h>

#include <set>

#include "codec/crd.hpp"
#include "codec/fields.hpp"
#include "codec/resources.hpp"

/// Holds crds/ and the structs of controller/api together, in both directions.
namespace {

using codec::Json;
namespace wire = codec::wire;

template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};
template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};

template <class T>
void CheckType(const Json& schema, const std::string& path);

/// The properties of the schema are exactly the fields of the struct.
template <class S>
void CheckFields(const Json& schema, const std::string& path) {
  std::set<std::string> required, left;
  for (const Json& name : codec::GetMember(schema, "required")) required.insert(name);
  for (const auto& [name, property] : schema["properties"].items()) left.insert(name);
  std::apply(
      [&](const auto&... field) {
        const auto check = [&]<class T>(const wire::Field<S, T>& one) {
          const std::string name(one.name), where = path + "." + name;
          CAPTURE(where);
          CHECK_MESSAGE(left.erase(name) == 1, where, " is in the struct but not in the schema");
          if (!schema["properties"].contains(name)) return;
          const Json& property = schema["properties"][name];
          if (required.contains(name))
            CHECK_MESSAGE((one.flags & wire::kAlways) != 0, where,
                          " is required but may be left out");
          const int64_t bound =
              codec::GetInt(property, IsVector<T>::value ? "maxItems" : "maxLength");
          if (one.limit != 0)
            CHECK_MESSAGE(static_cast<int64_t>(one.limit) <= bound, where,
                          " is cut above the schema's bound");
          CheckType<T>(property, where);
        };
        (check(field), ...);
      },
      wire::FieldsOf<S>::kList);
  for (const std::string& name : left)
    FAIL_CHECK(path, ".", name, " is in the schema but not in the struct");
}

template <class E>
void CheckWords(const Json& schema, const std::string& path) {
  Json words = Json::array();
  for (const std::string_view word : wire::WordsOf<E>::kWords) words.push_back(std::string(word));
  CHECK_MESSAGE(schema["enum"] == words, path, " has other words in the schema than in the struct");
}

template <class T>
void CheckType(const Json& schema, const std::string& path) {
  const std::string type = codec::GetString(schema, "type"),
                    format = codec::GetString(schema, "format");
  if constexpr (IsOptional<T>::value) {
    CheckType<typename T::value_type>(schema, path);
  } else if constexpr (IsVector<T>::value) {
    CHECK(type == "array");
    CheckType<typename T::value_type>(schema["items"], path + "[]");
  } else if constexpr (wire::Described<T>) {
    CHECK(type == "object");
    CheckFields<T>(schema, path);
  } else if constexpr (wire::Enumerated<T>) {
    CHECK(type == "string");
    CheckWords<T>(schema, path);
  } else if constexpr (std::is_same_v<T, bool>) {
    CHECK(type == "boolean");
  } else if constexpr (std::is_same_v<T, base::WallTime>) {
    CHECK(format == "date-time");
  } else if constexpr (std::is_integral_v<T>) {
    CHECK(type == "integer");
    CHECK(format == (sizeof(T) == 4 ? "int32" : "int64"));
  } else if constexpr (std::is_same_v<T, std::string>) {
    CHECK(type == "string");
    CHECK(format.empty());
  } else {
    CHECK(schema.contains("additionalProperties"));
  }
}

TEST_CASE("the properties of each schema are exactly the members of its struct, with their types") {
  const Json workspaces = crd::Load("workspaces"), plugins = crd::Load("declaredplugins");
  CheckFields<api::WorkspaceSpec>(crd::Schema(workspaces)["properties"]["spec"], "spec");
  CheckFields<api::WorkspaceStatus>(crd::Schema(workspaces)["properties"]["status"], "status");
  CheckFields<api::DeclaredPluginSpec>(crd::Schema(plugins)["properties"]["spec"], "spec");
  CheckFields<api::DeclaredPluginStatus>(crd::Schema(plugins)["properties"]["status"], "status");
}

/// Paths of the leaves, with their values.
void Leaves(const Json& value, const std::string& path, std::map<std::string, Json>& out) {
  if (value.is_object() && !value.empty()) {
    for (const auto& [name, member] : value.items()) Leaves(member, path + "." + name, out);
  } else if (value.is_array() && !value.empty()) {
    for (size_t i = 0; i < value.size(); ++i) Leaves(value[i], fmt::format("{}[{}]", path, i), out);
  } else {
    out[path] = value;
  }
}

/// Every leaf of the schema comes back from the struct, and none comes back changed. A value that
/// is the default may be left out, but not in every variant.
template <class Decode, class Encode>
void CheckRoundTrip(const std::string& plural, const Decode& decode, const Encode& encode) {
  const Json crd = crd::Load(plural);
  std::set<std::string> lost, all;
  for (int variant = 0; variant < 6; ++variant) {
    const Json object = crd::Full(crd::Schema(crd), variant);
    REQUIRE(crd::Misfit(object, crd::Schema(crd)) == "");
    const auto decoded = decode(codec::Dump(object));
    if (!decoded) FAIL(decoded.error().message);
    const Json encoded = encode(*decoded);
    CHECK(crd::Misfit(encoded, crd::Schema(crd)) == "");
    CHECK(encoded["kind"] == crd["spec"]["names"]["kind"]);
    CHECK(encoded["apiVersion"] == "molecule.ai/v1alpha1");
    std::map<std::string, Json> given, taken;
    Leaves(object, "", given);
    for (const char* part : {"spec", "status"})
      Leaves(encoded[part], std::string(".") + part, taken);
    std::set<std::string> missing;
    for (const auto& [path, value] : given) {
      if (!taken.contains(path))
        missing.insert(path);
      else
        CHECK_MESSAGE(taken[path] == value, path);
    }
    for (const auto& [path, value] : taken) CHECK_MESSAGE(given.contains(path), path);
    for (const auto& [path, value] : given) all.insert(path);
    if (variant == 0) lost = missing;
    std::erase_if(lost, [&](const std::string& path) { return !missing.contains(path); });
  }
  CHECK(all.size() > 30);
  for (const std::string& path : lost) FAIL_CHECK(path, " never comes back");
}

TEST_CASE("a Workspace with every property of the schema comes back whole") {
  CheckRoundTrip("workspaces", codec::DecodeWorkspace, codec::EncodeWorkspace);
}
TEST_CASE("a DeclaredPlugin with every property of the schema comes back whole") {
  CheckRoundTrip("declaredplugins", codec::DecodeDeclaredPlugin, codec::EncodeDeclaredPlugin);
}

TEST_CASE("a default object encodes to what the schema accepts once its required texts are there") {
  api::Workspace workspace;
  const Json crd = crd::Load("workspaces");
  CHECK(codec::EncodeWorkspace(workspace)["spec"] == Json{{"box", {{"type", "External"}}}});
  CHECK(crd::Misfit(codec::EncodeWorkspace(workspace), crd::Schema(crd)) == "");
  CHECK(!codec::EncodeWorkspace(workspace).contains("status"));
}

}  // namespace
