#include "apiserver/rest/object_writer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "apiserver/apply/patch.hpp"
#include "apiserver/rest/builtin_rules.hpp"
#include "apiserver/schema/validation.hpp"
#include "apiserver/wire/object_text.hpp"
#include "apiserver/wire/presentation.hpp"
#include "base/sha256.hpp"

namespace apiserver {
namespace {

using codec::Json;

constexpr int kConflictRetries = 10;
constexpr const char* kForeground = "foregroundDeletion";
constexpr const char* kOrphan = "orphan";

StatusSubject SubjectOf(const WriteRequest& request) {
  return {request.served->definition.group, request.served->definition.plural, request.name};
}

Failure InvalidField(const WriteRequest& request, const std::string& field, FieldErrorType type,
                     const std::string& detail) {
  FieldError error;
  error.type = type;
  error.field = field;
  error.detail = detail;
  return FailWith(InvalidStatus(request.served->definition.Name(), request.name, {error}));
}

std::string RandomSuffix() {
  static constexpr char kLetters[] =
      "bcdfghjklmnpqrstvwxz2456789";  // Kubernetes' own: no vowels, no words.
  std::string suffix;
  for (const char byte : base::RandomBytes(5))
    suffix.push_back(kLetters[static_cast<uint8_t>(byte) % (sizeof kLetters - 1)]);
  return suffix;
}

/// An object without what only the server writes: two that are equal so are the same version.
bool SameButVersion(Json a, Json b) {
  MutableMeta(a).erase("resourceVersion");
  MutableMeta(b).erase("resourceVersion");
  return a == b;
}

Json SpecOnly(Json object, const ResourceDefinition& definition) {
  object.erase("metadata");
  if (definition.has_status_subresource) object.erase("status");
  return object;
}

void KeepMember(const Json& from, Json& to, const char* member) {
  if (const auto found = from.find(member); found != from.end())
    to[member] = *found;
  else
    to.erase(member);
}

/// Metadata that no client writes stays as it is.
void KeepServerMetadata(const Json& current, Json& next) {
  for (const char* member : {"uid", "creationTimestamp", "deletionTimestamp",
                             "deletionGracePeriodSeconds", "generation", "generateName"}) {
    KeepMember(MetaOf(current), MutableMeta(next), member);
  }
  MutableMeta(next).erase("selfLink");
}

/// Lists and maps of metadata that have nothing in them are not kept, as in Kubernetes, where
/// metadata has a type of its own.
void DropEmptyMetadata(Json& object) {
  for (const char* member : {"labels", "annotations", "finalizers", "ownerReferences"}) {
    const auto found = MutableMeta(object).find(member);
    if (found != MutableMeta(object).end() && found->is_structured() && found->empty())
      MutableMeta(object).erase(found);
  }
}

/// Which part of `next` this endpoint may write.
void KeepOtherParts(const WriteRequest& request, const Json& current, Json& next) {
  const ResourceDefinition& definition = request.served->definition;
  if (request.subresource == "status") {
    Json status = codec::GetMember(next, "status");
    Json managed = codec::GetMember(MetaOf(next), "managedFields");
    const std::string version = VersionOf(next);
    next = current;
    if (status.is_null())
      next.erase("status");
    else
      next["status"] = std::move(status);
    if (!managed.is_null()) MutableMeta(next)["managedFields"] = std::move(managed);
    if (!version.empty()) MutableMeta(next)["resourceVersion"] = version;
  } else if (definition.has_status_subresource) {
    KeepMember(current, next, "status");
  }
}

Failure UidConflict(const WriteRequest& request, const std::string& wanted,
                    const std::string& there) {
  return Fail(
      409, "Conflict",
      fmt::format("Operation cannot be fulfilled on {} \"{}\": Precondition failed: UID in "
                  "precondition: {}, UID in object meta: {}",
                  request.served->definition.QualifiedResource(), request.name, wanted, there),
      SubjectOf(request));
}

/// A patch of the object may not name another; in one of the status metadata is not looked at.
std::optional<Failure> UidFault(const WriteRequest& request, const Json& live, const Json& next) {
  const std::string uid = UidOf(next);
  if (uid.empty() || uid == UidOf(live) || request.subresource == "status") return std::nullopt;
  const FieldError error{FieldErrorType::kInvalid, "metadata.uid", uid, "field is immutable"};
  return FailWith(InvalidStatus(request.served->definition.Name(), request.name, {error}));
}

Failure VersionConflict(const WriteRequest& request) {
  return FailureOf(base::MakeError(base::Code::kConflict, ""), request.served->definition,
                   request.name);
}

bool HasNewFinalizers(const Json& current, const Json& next) {
  const auto before = FinalizersOf(current);
  for (const std::string& finalizer : FinalizersOf(next)) {
    if (std::find(before.begin(), before.end(), finalizer) == before.end()) return true;
  }
  return false;
}

Json DeletedStatus(const WriteRequest& request, const std::string& uid) {
  Json details = {
      {"name", request.name}, {"kind", request.served->definition.plural}, {"uid", uid}};
  if (!request.served->definition.group.empty())
    details["group"] = request.served->definition.group;
  return {{"kind", "Status"},
          {"apiVersion", "v1"},
          {"metadata", Json::object()},
          {"status", "Success"},
          {"details", details}};
}

}  // namespace

Outcome<std::vector<std::string>> PruneBody(const WriteRequest& request, Json& object) {
  const std::vector<std::string> unknown = Prune(request.served->definition, object);
  if (unknown.empty() || request.validation == FieldValidation::kIgnore)
    return std::vector<std::string>{};
  if (request.validation == FieldValidation::kStrict)
    return BadRequest(StrictDecodingMessage(request.served->definition, unknown));
  return UnknownFieldWarnings(unknown);
}

StoreKey ObjectWriter::KeyOf(const WriteRequest& request) const {
  return {request.served->store_resource, request.ns, request.name};
}

Outcome<ObjectWriter::Live> ObjectWriter::Read(const WriteRequest& request) const {
  auto stored = store_.Get(KeyOf(request));
  if (!stored) return FailureOf(stored.error(), request.served->definition, request.name);
  Json object = ShownObject(*request.served, stored->text);
  return Live{std::move(*stored), std::move(object)};
}

Outcome<bool> ObjectWriter::CheckNamespace(const WriteRequest& request) const {
  if (!request.served->definition.namespaced) return true;
  auto stored = store_.Get({"namespaces", "", request.ns});
  if (!stored) {
    if (stored.error().code != base::Code::kNotFound)
      return FailureOf(stored.error(), request.served->definition, request.name);
    return Fail(404, "NotFound", fmt::format("namespaces \"{}\" not found", request.ns),
                {"", "namespaces", request.ns});
  }
  if (!IsDeleting(ParseStored(stored->text))) return true;
  Failure failure =
      Fail(403, "Forbidden",
           fmt::format("{} \"{}\" is forbidden: unable to create new content in namespace {} "
                       "because it is being terminated",
                       request.served->definition.QualifiedResource(), request.name, request.ns),
           SubjectOf(request));
  failure.status["details"]["causes"] =
      Json::array({{{"reason", "NamespaceTerminating"},
                    {"message", fmt::format("namespace {} is being terminated", request.ns)},
                    {"field", "metadata.namespace"}}});
  return failure;
}

/// The body must be of the endpoint's kind, namespace and name; what it leaves out is filled in.
Outcome<bool> ObjectWriter::CheckIdentity(const WriteRequest& request, Json& body) const {
  const ResourceDefinition& definition = request.served->definition;
  if (!body.is_object()) return BadRequest("the body must be an object");
  const std::string api_version = codec::GetString(body, "apiVersion");
  const std::string kind = codec::GetString(body, "kind");
  if (kind.empty()) return BadRequest("Object 'Kind' is missing");
  if (api_version != definition.ApiVersion() || kind != definition.kind) {
    return BadRequest(
        fmt::format("the API version and kind in the data ({}, Kind={}) do not match the expected "
                    "ones ({}, Kind={})",
                    api_version, kind, definition.ApiVersion(), definition.kind));
  }
  if (body.contains("metadata") && !body["metadata"].is_object() && !body["metadata"].is_null()) {
    return BadRequest("metadata must be an object");
  }
  Json& metadata = MutableMeta(body);
  const std::string ns = codec::GetString(metadata, "namespace");
  if (definition.namespaced) {
    if (!ns.empty() && ns != request.ns) {
      return BadRequest(
          fmt::format("the namespace of the provided object does not match the namespace sent on "
                      "the request ({} and {})",
                      ns, request.ns));
    }
    metadata["namespace"] = request.ns;
  } else {
    metadata.erase("namespace");
  }
  const std::string name = codec::GetString(metadata, "name");
  if (!request.name.empty() && !name.empty() && name != request.name) {
    return BadRequest(fmt::format(
        "the name of the object ({}) does not match the name on the URL ({})", name, request.name));
  }
  if (!request.name.empty()) metadata["name"] = request.name;
  return true;
}

Outcome<Written> ObjectWriter::Create(const WriteRequest& original, Json body) {
  WriteRequest request = original;
  if (auto checked = CheckIdentity(request, body); !checked) return checked.failure();
  Json& metadata = MutableMeta(body);
  if (codec::GetString(metadata, "name").empty()) {
    const std::string prefix = codec::GetString(metadata, "generateName");
    if (prefix.empty())
      return InvalidField(request, "metadata.name", FieldErrorType::kRequired,
                          "name or generateName is required");
    metadata["name"] = prefix + RandomSuffix();
  }
  request.name = codec::GetString(metadata, "name");
  if (!VersionOf(body).empty())
    return BadRequest("resourceVersion should not be set on objects to be created");
  auto warnings = PruneBody(request, body);
  if (!warnings) return warnings.failure();
  return Insert(request, std::move(body), std::move(*warnings), false);
}

Outcome<Written> ObjectWriter::Insert(const WriteRequest& request, Json object,
                                      std::vector<std::string> warnings, bool applied) {
  const ResourceDefinition& definition = request.served->definition;
  if (auto there = CheckNamespace(request); !there) return there.failure();
  Json& metadata = MutableMeta(object);
  for (const char* member : {"selfLink", "deletionTimestamp", "deletionGracePeriodSeconds",
                             "generation", "resourceVersion"})
    metadata.erase(member);
  metadata["uid"] = base::RandomUuid();
  metadata["creationTimestamp"] = base::FormatTime(request.manager.now);
  if (definition.custom) metadata["generation"] = 1;
  if (definition.has_status_subresource && definition.custom) object.erase("status");
  DropEmptyMetadata(object);
  ApplyBuiltinRules(*request.served, nullptr, object);
  ApplyDefaults(definition, object);
  if (const FieldErrors errors = Validate(definition, object); !errors.empty()) {
    return FailWith(InvalidStatus(definition.Name(), request.name, errors));
  }
  if (!applied) UpdateManagedFields(definition, Json(), object, request.manager);
  auto written = Put(request, Write::Kind::kCreate, nullptr, object);
  if (!written) return written;
  written->code = 201;
  written->warnings = std::move(warnings);
  return written;
}

Outcome<Written> ObjectWriter::Put(const WriteRequest& request, Write::Kind kind, const Live* live,
                                   const Json& object) {
  Written written;
  if (request.dry_run) {
    written.text = codec::Dump(StoredForm(*request.served, object));
    return written;
  }
  Write write;
  write.kind = kind;
  write.key = KeyOf(request);
  write.uid = UidOf(object);
  write.expected_version = live == nullptr ? 0 : live->stored.version;
  write.tail = TailFrom(StoredForm(*request.served, object));
  if (request.served->expires) write.expires = clock_.Read().wall + event_ttl_;
  auto stored = store_.Apply(std::move(write));
  if (!stored) return FailureOf(stored.error(), request.served->definition, request.name);
  written.text = std::move(stored->text);
  return written;
}

Outcome<Written> ObjectWriter::Modify(const WriteRequest& request, bool applied,
                                      std::vector<std::string> warnings, const Change& change) {
  for (int attempt = 1;; ++attempt) {
    auto live = Read(request);
    if (!live) return live.failure();
    auto next = change(live->object);
    if (!next) return next.failure();
    const std::string asked = VersionOf(*next);
    if (!asked.empty() && asked != VersionOf(live->object)) return VersionConflict(request);
    auto written = Finish(request, *live, std::move(*next), applied);
    if (written) written->warnings = warnings;
    // Another writer came between: the change is made again upon what is there now, unless the
    // client named the version it meant.
    const bool again = !written && written.failure().code == 409 && attempt < kConflictRetries;
    if (!again) return written;
  }
}

Outcome<Written> ObjectWriter::Finish(const WriteRequest& request, const Live& live, Json next,
                                      bool applied) {
  const ResourceDefinition& definition = request.served->definition;
  if (auto fault = UidFault(request, live.object, next)) return *std::move(fault);
  KeepServerMetadata(live.object, next);
  KeepOtherParts(request, live.object, next);
  DropEmptyMetadata(next);
  ApplyBuiltinRules(*request.served, &live.object, next);
  ApplyDefaults(definition, next);
  if (definition.custom && SpecOnly(next, definition) != SpecOnly(live.object, definition)) {
    MutableMeta(next)["generation"] = codec::GetInt(MetaOf(live.object), "generation") + 1;
  }
  if (IsDeleting(live.object) && HasNewFinalizers(live.object, next)) {
    return InvalidField(request, "metadata.finalizers", FieldErrorType::kForbidden,
                        "no new finalizers can be added if the object is being deleted");
  }
  if (const FieldErrors errors = Validate(definition, next, &live.object); !errors.empty()) {
    return FailWith(InvalidStatus(definition.Name(), request.name, errors));
  }
  if (!applied) UpdateManagedFields(definition, live.object, next, request.manager);
  if (SameButVersion(live.object, next)) {
    Written unchanged;
    unchanged.text = live.stored.text;
    return unchanged;
  }
  const bool goes = IsDeleting(next) && MayGo(*request.served, next);
  return Put(request, goes ? Write::Kind::kDelete : Write::Kind::kUpdate, &live, next);
}

Outcome<Written> ObjectWriter::Update(const WriteRequest& request, Json body) {
  if (auto checked = CheckIdentity(request, body); !checked) return checked.failure();
  if (const std::string fault = CheckManagedFields(codec::GetMember(MetaOf(body), "managedFields"));
      !fault.empty()) {
    return InvalidField(request, "metadata.managedFields", FieldErrorType::kInvalid, fault);
  }
  auto warnings = PruneBody(request, body);
  if (!warnings) return warnings.failure();
  return Modify(request, false, std::move(*warnings), [&](const Json& live) -> Outcome<Json> {
    if (VersionOf(body).empty() && request.served->definition.custom)
      return InvalidField(request, "metadata.resourceVersion", FieldErrorType::kInvalid,
                          "must be specified for an update");
    // Whoever replaces an object means that very one: a precondition.
    if (const std::string uid = UidOf(body); !uid.empty() && uid != UidOf(live))
      return UidConflict(request, uid, UidOf(live));
    return body;
  });
}

Outcome<Json> ObjectWriter::Patched(const WriteRequest& request, PatchType type,
                                    const Json& current, const Json& patch) const {
  const ResourceDefinition& definition = request.served->definition;
  auto patched = type == PatchType::kMerge  ? MergePatch(current, patch)
                 : type == PatchType::kJson ? JsonPatch(current, patch)
                                            : StrategicMergePatch(definition, current, patch);
  if (!patched) {
    if (type == PatchType::kJson)
      return Fail(422, "Invalid",
                  "the server rejected our request due to an error in our request: " +
                      patched.error().message);
    if (patched.error().reason == "UnsupportedMediaType")
      return Fail(415, "UnsupportedMediaType", patched.error().message);
    return BadRequest(patched.error().message);
  }
  if (auto checked = CheckIdentity(request, *patched); !checked) return checked.failure();
  if (const std::string fault =
          CheckManagedFields(codec::GetMember(MetaOf(*patched), "managedFields"));
      !fault.empty()) {
    return InvalidField(request, "metadata.managedFields", FieldErrorType::kInvalid, fault);
  }
  return std::move(*patched);
}

Outcome<Written> ObjectWriter::Patch(const WriteRequest& request, PatchType type,
                                     const Json& patch) {
  if (type == PatchType::kApply) return Apply(request, patch);
  std::vector<std::string> warnings;
  auto written = Modify(request, false, {}, [&](const Json& current) -> Outcome<Json> {
    auto patched = Patched(request, type, current, patch);
    if (!patched) return patched;
    auto pruned = PruneBody(request, *patched);
    if (!pruned) return pruned.failure();
    warnings = std::move(*pruned);
    return patched;
  });
  if (written) written->warnings = std::move(warnings);
  return written;
}

Outcome<Written> ObjectWriter::Apply(const WriteRequest& request, Json config) {
  if (request.manager.name.empty()) {
    Failure failure = Fail(422, "Invalid",
                           "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required "
                           "value: is required for apply patch",
                           {"meta.k8s.io", "PatchOptions", ""});
    failure.status["details"]["causes"] =
        Json::array({{{"reason", "FieldValueRequired"},
                      {"message", "Required value: is required for apply patch"},
                      {"field", "fieldManager"}}});
    return failure;
  }
  if (auto checked = CheckIdentity(request, config); !checked) return checked.failure();
  auto warnings = PruneBody(request, config);
  if (!warnings) return warnings.failure();
  const ResourceDefinition& definition = request.served->definition;
  const auto merge = [&](const Json& live) -> Outcome<Json> {
    auto outcome = ServerSideApply(definition, live, config, request.manager, request.force);
    if (!outcome) return BadRequest(outcome.error().message);
    if (!outcome->conflicts.empty()) return FailWith(ApplyConflictStatus(outcome->conflicts));
    if (!live.is_null())
      if (auto fault = UidFault(request, live, config)) return *std::move(fault);
    if (!outcome->changed) return live;
    if (const std::string asked = VersionOf(config); !asked.empty())
      MutableMeta(outcome->object)["resourceVersion"] = asked;
    return std::move(outcome->object);
  };
  for (int attempt = 1;; ++attempt) {
    auto modified = Modify(request, true, *warnings, merge);
    if (modified || modified.failure().code != 404 || request.subresource == "status")
      return modified;
    if (!UidOf(config).empty() || !VersionOf(config).empty()) return VersionConflict(request);
    auto object = merge(Json());
    if (!object) return object.failure();
    auto created = Insert(request, std::move(*object), *warnings, true);
    const bool raced = !created && created.failure().code == 409 && attempt < kConflictRetries;
    if (!raced) return created;
  }
}

Outcome<Written> ObjectWriter::Delete(const WriteRequest& request, const DeleteOptions& options) {
  for (int attempt = 1;; ++attempt) {
    auto live = Read(request);
    if (!live) return live.failure();
    if (!options.uid.empty() && options.uid != UidOf(live->object))
      return UidConflict(request, options.uid, UidOf(live->object));
    if (!options.version.empty() && options.version != VersionOf(live->object))
      return VersionConflict(request);
    auto written = DeleteLive(request, *live, options);
    if (written || written.failure().code != 409 || attempt >= kConflictRetries) return written;
  }
}

Outcome<Written> ObjectWriter::DeleteLive(const WriteRequest& request, const Live& live,
                                          const DeleteOptions& options) {
  Json next = live.object;
  if (!IsDeleting(next)) {
    if (options.propagation == "Foreground") AddFinalizer(next, kForeground);
    if (options.propagation == "Orphan") AddFinalizer(next, kOrphan);
  }
  if (MayGo(*request.served, next)) {
    auto written = Put(request, Write::Kind::kDelete, &live, next);
    if (!written) return written;
    written->text = codec::Dump(DeletedStatus(request, UidOf(next)));
    written->is_object = false;
    return written;
  }
  if (IsDeleting(next)) {
    Written unchanged;
    unchanged.text = live.stored.text;
    return unchanged;
  }
  Json& metadata = MutableMeta(next);
  metadata["deletionTimestamp"] = base::FormatTime(clock_.Read().wall);
  metadata["deletionGracePeriodSeconds"] = 0;
  if (const int64_t generation = codec::GetInt(metadata, "generation"); generation > 0)
    metadata["generation"] = generation + 1;
  if (request.served->definition.group.empty() && request.served->definition.kind == "Namespace")
    next["status"] = {{"phase", "Terminating"}};
  return Put(request, Write::Kind::kUpdate, &live, next);
}

}  // namespace apiserver
