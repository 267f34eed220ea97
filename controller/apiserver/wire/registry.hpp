#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apiserver/schema/resource_definition.hpp"
#include "base/result.hpp"
#include "codec/json.hpp"

namespace apiserver {

/// One resource that is served and where its objects are stored.
struct Served {
  ResourceDefinition definition;
  std::string store_resource;  ///< StoreKey::resource; both event groups share one.
  bool new_event = false;      ///< events.k8s.io: converted at the door.
  bool read_only =
      false;             ///< CustomResourceDefinitions: the server serves what it was started with.
  bool expires = false;  ///< Events.
};

/// A kind that is only ever created and answered at once, never stored.
struct ReviewKind {
  const char* group;
  const char* plural;
  const char* kind;
  bool namespaced;
};

/// Everything that is served, with its discovery and OpenAPI documents. Immutable after Make;
/// thread safe.
class Registry {
 public:
  /// kInvalid for a CRD that is not understood, and for two kinds of one name.
  static base::Result<Registry> Make(const std::vector<std::string>& crd_texts);
  Registry(Registry&& other) noexcept;
  Registry& operator=(Registry&&) = delete;

  const Served* Find(std::string_view group, std::string_view version,
                     std::string_view plural) const;
  /// By kind, in any version of that group.
  const Served* FindKind(std::string_view api_version, std::string_view kind) const;
  const ReviewKind* FindReview(std::string_view group, std::string_view version,
                               std::string_view plural) const;
  const std::vector<Served>& All() const { return served_; }
  /// The CRDs as objects to be stored, without metadata but the name.
  const std::vector<codec::Json>& Crds() const { return crds_; }
  std::vector<std::string> BrokenRules() const;

  /// `/api` or `/apis` as APIGroupDiscoveryList of apidiscovery.k8s.io/`version` ("v2", "v2beta1").
  codec::Json Aggregated(bool core, std::string_view version) const;
  codec::Json Versions() const;
  codec::Json Groups() const;
  std::optional<codec::Json> Group(std::string_view group) const;
  std::optional<codec::Json> Resources(std::string_view group, std::string_view version) const;
  /// The text of `/openapi/v3` (empty path) or of one document ("api/v1", "apis/G/V"), made once;
  /// nothing if there is none.
  std::optional<std::string> OpenApi(const std::string& path) const;
  /// The text of `/openapi/v2`, made once: as protobuf or as JSON.
  std::string OpenApiV2Text(bool protobuf) const;

 private:
  Registry() = default;
  base::Status AddCrd(const codec::Json& crd);
  void AddBuiltins();
  std::vector<ResourceDefinition> Definitions() const;
  std::vector<std::pair<std::string, std::string>> GroupVersions() const;

  std::vector<Served> served_;
  std::vector<codec::Json> crds_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::string> openapi_;
  mutable std::map<bool, std::string> openapi_v2_;  ///< By: as protobuf.
};

/// The verbs of a resource, for discovery.
std::vector<std::string> VerbsOf(const Served& served);

}  // namespace apiserver
