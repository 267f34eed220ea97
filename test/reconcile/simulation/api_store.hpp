#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "codec/json.hpp"
#include "codec/merge_patch.hpp"
#include "kube/resource.hpp"
#include "kube/status_error.hpp"
#include "meta/object.hpp"
#include "runtime/informer/list_watch.hpp"
#include "support/fake_clock.hpp"

namespace simulation {

using codec::Json;

/// The objects of an API server and the log of their changes: versions, generations, finalizers,
/// optimistic locks and merge patches as a real one has them. It checks no schema.
class ApiStore {
 public:
  struct Change {
    runtime::WatchEventType type;
    meta::ObjectKey key;
    uint64_t version;
    std::string bytes;
  };

  explicit ApiStore(const support::FakeClock& clock) : clock_(clock) {}

  base::Result<Json> Get(const kube::ObjectRef& ref) const {
    const Json* found = Find(ref);
    if (found == nullptr) return NotFound(ref);
    return *found;
  }
  const Json* Find(const kube::ObjectRef& ref) const {
    const auto kind = objects_.find(ref.resource.plural);
    if (kind == objects_.end()) return nullptr;
    const auto object = kind->second.find({ref.ns, ref.name});
    return object == kind->second.end() ? nullptr : &object->second;
  }
  std::vector<meta::ObjectKey> Keys(const std::string& plural) const {
    std::vector<meta::ObjectKey> keys;
    if (const auto kind = objects_.find(plural); kind != objects_.end())
      for (const auto& [key, object] : kind->second) keys.push_back(key);
    return keys;
  }

  base::Result<Json> Create(const kube::Collection& where, Json object) {
    Json& meta = object["metadata"];
    const kube::ObjectRef ref{where.resource, where.ns, codec::GetString(meta, "name")};
    if (Find(ref) != nullptr)
      return base::MakeError(base::Code::kAlreadyExists, ref.Text() + " exists", "AlreadyExists");
    const Json* ns = where.ns.empty() ? nullptr : Find({kube::kNamespaces, "", where.ns});
    if (ns != nullptr && (*ns)["metadata"].contains("deletionTimestamp"))
      return base::MakeError(base::Code::kForbidden, ref.Text() + ": its namespace ends",
                             kube::kNamespaceTerminating);
    meta["namespace"] = where.ns;
    meta["uid"] = fmt::format("{:08x}-0000-4000-8000-000000000000", ++uids_);
    meta["generation"] = 1;
    meta["creationTimestamp"] = base::FormatTime(clock_.Read().wall);
    return Store(ref, std::move(object), runtime::WatchEventType::kAdded);
  }

  /// A merge patch; of the subresource `status` only that member counts, else every other. As a
  /// real API server it does not compare the uid there.
  base::Result<Json> Patch(const kube::ObjectRef& ref, const Json& patch) {
    const Json* current = Find(ref);
    if (current == nullptr) return NotFound(ref);
    const Json& sent = codec::GetMember(patch, "metadata");
    for (const char* lock : {"uid", "resourceVersion"})
      if ((ref.subresource != "status" || lock != std::string_view("uid")) && sent.is_object() &&
          sent.contains(lock) && sent[lock] != (*current)["metadata"][lock])
        return base::MakeError(base::Code::kConflict,
                               fmt::format("{}: {} is another", ref.Text(), lock), "Conflict");
    Json next = *current;
    if (ref.subresource == "status")
      next["status"] = codec::ApplyMergePatch(codec::GetMember(*current, "status"),
                                              codec::GetMember(patch, "status"));
    else
      next = KeepOwn(*current, codec::ApplyMergePatch(*current, patch));
    if (AddsFinalizers(*current, next))
      return base::MakeError(base::Code::kInvalid, ref.Text() + " is being deleted", "Invalid");
    return Replace(ref, *current, std::move(next));
  }

  base::Status Delete(const kube::ObjectRef& ref) {
    const Json* current = Find(ref);
    if (current == nullptr) return NotFound(ref);
    Json next = *current;
    if (next["metadata"].contains("deletionTimestamp")) return {};
    next["metadata"]["deletionTimestamp"] = base::FormatTime(clock_.Read().wall);
    next["metadata"]["generation"] = codec::GetInt(next["metadata"], "generation") + 1;
    return Replace(ref, *current, std::move(next)).has_value() ? base::Status() : NotFound(ref);
  }

  uint64_t Version() const { return version_; }
  /// The bytes of the last change of a kind.
  const std::string& LastBytes(const std::string& plural) { return logs_[plural].back().bytes; }
  const std::vector<Change>& Log(const std::string& plural) { return logs_[plural]; }
  /// All objects of a kind as of now.
  void Each(const std::string& plural, const std::function<void(const Json&)>& call) const {
    if (const auto kind = objects_.find(plural); kind != objects_.end())
      for (const auto& [key, object] : kind->second) call(object);
  }

  /// Objects whose owner is gone, or never was there, wait for the garbage collector, which comes
  /// when it comes.
  bool HasGarbage() const {
    bool found = false;
    Each("secrets", [&](const Json& secret) { found = found || IsGarbage(secret); });
    return found;
  }
  void CollectGarbage() {
    std::erase_if(objects_["secrets"],
                  [this](const auto& secret) { return IsGarbage(secret.second); });
  }

 private:
  bool IsGarbage(const Json& object) const {
    for (const Json& owner : codec::GetMember(object["metadata"], "ownerReferences"))
      if (!uids_there_.contains(codec::GetString(owner, "uid"))) return true;
    return false;
  }
  static base::Error NotFound(const kube::ObjectRef& ref) {
    return base::MakeError(base::Code::kNotFound, ref.Text() + " is not there", "NotFound");
  }
  /// To what is being deleted, which no server takes.
  static bool AddsFinalizers(const Json& current, const Json& next) {
    if (!current["metadata"].contains("deletionTimestamp")) return false;
    const Json& before = codec::GetMember(current["metadata"], "finalizers");
    for (const Json& name : codec::GetMember(next["metadata"], "finalizers"))
      if (std::find(before.begin(), before.end(), name) == before.end()) return true;
    return false;
  }
  /// What a client cannot change.
  static Json KeepOwn(const Json& current, Json next) {
    for (const char* name : {"uid", "generation", "creationTimestamp", "deletionTimestamp",
                             "resourceVersion", "name", "namespace"}) {
      next["metadata"].erase(name);
      if (current["metadata"].contains(name)) next["metadata"][name] = current["metadata"][name];
    }
    next.erase("status");
    if (current.contains("status")) next["status"] = current["status"];
    if (codec::GetMember(next, "spec") != codec::GetMember(current, "spec"))
      next["metadata"]["generation"] = codec::GetInt(next["metadata"], "generation") + 1;
    return next;
  }
  base::Result<Json> Replace(const kube::ObjectRef& ref, const Json& current, Json next) {
    if (next == current) return next;
    const Json& meta = next["metadata"];
    const Json& finalizers = codec::GetMember(meta, "finalizers");
    const bool held = finalizers.is_array() && !finalizers.empty();
    const bool ends = meta.contains("deletionTimestamp") && !held;
    return Store(ref, std::move(next),
                 ends ? runtime::WatchEventType::kDeleted : runtime::WatchEventType::kModified);
  }
  Json Store(const kube::ObjectRef& ref, Json object, runtime::WatchEventType type) {
    object["metadata"]["resourceVersion"] = std::to_string(++version_);
    const meta::ObjectKey key{ref.ns, ref.name};
    logs_[ref.resource.plural].push_back({type, key, version_, codec::Dump(object)});
    if (type == runtime::WatchEventType::kDeleted) {
      uids_there_.erase(codec::GetString(object["metadata"], "uid"));
      objects_[ref.resource.plural].erase(key);
    } else {
      uids_there_.insert(codec::GetString(object["metadata"], "uid"));
      objects_[ref.resource.plural][key] = object;
    }
    return object;
  }

  const support::FakeClock& clock_;
  uint64_t version_ = 100;
  uint64_t uids_ = 0;
  std::map<std::string, std::map<meta::ObjectKey, Json>> objects_;  ///< By plural.
  std::map<std::string, std::vector<Change>> logs_;                 ///< By plural.
  std::set<std::string> uids_there_;
};

}  // namespace simulation
