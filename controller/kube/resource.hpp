#pragma once

#include <string>
#include <string_view>

namespace kube {

/// A kind of object as the URL names it.
struct Resource {
  std::string group = {};    ///< Empty: the core group.
  std::string version = {};  ///< "v1", "v1alpha1".
  std::string plural = {};   ///< "workspaces", "secrets".
  bool operator==(const Resource&) const = default;
  /// "molecule.ai/v1alpha1", "v1".
  std::string ApiVersion() const { return group.empty() ? version : group + "/" + version; }
};

/// All objects of a resource; an empty namespace means all namespaces, or a cluster-scoped
/// resource.
struct Collection {
  Resource resource;
  std::string ns = {};
};

/// One object; an empty namespace means cluster-scoped.
struct ObjectRef {
  Resource resource;
  std::string ns = {};
  std::string name = {};
  std::string subresource = {};  ///< "status", "finalizers", or empty.
  /// "workspaces.molecule.ai team-a/w1", for messages.
  std::string Text() const;
};

/// "/apis/molecule.ai/v1alpha1/namespaces/team-a/workspaces". Segments are percent-encoded.
std::string CollectionPath(const Collection& collection);
std::string ObjectPath(const ObjectRef& object);
/// Percent-encodes everything but RFC 3986 unreserved characters.
std::string EncodeQuery(std::string_view value);

/// The resources that this product uses, so that nobody spells them twice.
inline const Resource kWorkspaces{"molecule.ai", "v1alpha1", "workspaces"};
inline const Resource kDeclaredPlugins{"molecule.ai", "v1alpha1", "declaredplugins"};
inline const Resource kSecrets{"", "v1", "secrets"};
inline const Resource kConfigMaps{"", "v1", "configmaps"};
inline const Resource kNamespaces{"", "v1", "namespaces"};
inline const Resource kPods{"", "v1", "pods"};
inline const Resource kNodes{"", "v1", "nodes"};
inline const Resource kEvents{"", "v1", "events"};
inline const Resource kLeases{"coordination.k8s.io", "v1", "leases"};
inline const Resource kCustomResourceDefinitions{"apiextensions.k8s.io", "v1",
                                                 "customresourcedefinitions"};

}  // namespace kube
