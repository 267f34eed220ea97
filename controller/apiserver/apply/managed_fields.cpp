#include "apiserver/apply/managed_fields.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "apiserver/apply/managed_entries.hpp"

namespace apiserver {
namespace {

using codec::GetMember;
using codec::GetString;
using codec::Json;

const Json& ManagedOf(const Json& object) {
  return GetMember(GetMember(object, "metadata"), "managedFields");
}

void SetManaged(Json& object, Json managed) {
  Json& metadata = object["metadata"];
  if (!metadata.is_object()) metadata = Json::object();
  if (managed.empty())
    metadata.erase("managedFields");
  else
    metadata["managedFields"] = std::move(managed);
}

Json WithoutTimes(Json managed) {
  if (!managed.is_array()) return Json::array();
  for (Json& entry : managed) {
    if (entry.is_object()) entry.erase("time");
  }
  std::sort(managed.begin(), managed.end());
  return managed;
}

/// The copy without what a comparison of contents must not see.
Json Comparable(const Json& object) {
  Json copy = object;
  if (!copy.is_object()) return copy;
  const auto metadata = copy.find("metadata");
  if (metadata == copy.end() || !metadata->is_object()) return copy;
  metadata->erase("resourceVersion");
  const auto managed = metadata->find("managedFields");
  if (managed == metadata->end()) return copy;
  Json bare = WithoutTimes(std::move(*managed));
  if (bare.empty())
    metadata->erase("managedFields");
  else
    *managed = std::move(bare);
  return copy;
}

/// Keeps what this writer may set: status through /status, everything else through the object
/// itself.
void StripOtherSubresource(const ResourceDefinition& definition, const std::string& subresource,
                           FieldSet& fields) {
  if (!definition.has_status_subresource) return;
  if (subresource == "status")
    std::erase_if(fields.children, [](const auto& child) { return child.first != "f:status"; });
  else
    fields.children.erase("f:status");
}

ManagedEntry* FindEntry(ManagedEntries& entries, const ManagedEntry& wanted) {
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [&](const ManagedEntry& entry) { return entry.Is(wanted); });
  return found == entries.end() ? nullptr : &*found;
}

base::Status CheckConfig(const ResourceDefinition& definition, const Json& config) {
  const auto bad = [](std::string why) {
    return base::MakeError(base::Code::kInvalid, std::move(why), "BadRequest");
  };
  if (!config.is_object()) return bad("apply: the document must be an object");
  if (GetString(config, "apiVersion") != definition.ApiVersion() ||
      GetString(config, "kind") != definition.kind) {
    return bad(fmt::format("apply: apiVersion and kind must be {} {}", definition.ApiVersion(),
                           definition.kind));
  }
  if (GetString(GetMember(config, "metadata"), "name").empty())
    return bad("apply: metadata.name is required");
  const Json& managed = ManagedOf(config);
  if (!managed.is_null() && !managed.empty()) return bad("metadata.managedFields must be nil");
  return {};
}

/// The document without what this endpoint does not take and the server sets itself.
Json EffectiveConfig(const ResourceDefinition& definition, const Json& config,
                     const std::string& subresource) {
  Json effective = config;
  Json& metadata = effective["metadata"];
  for (const char* name : {"managedFields", "resourceVersion", "uid", "creationTimestamp",
                           "generation", "selfLink", "deletionTimestamp"}) {
    metadata.erase(name);
  }
  if (!definition.has_status_subresource) return effective;
  if (subresource != "status") {
    effective.erase("status");
    return effective;
  }
  Json status = {{"apiVersion", config["apiVersion"]},
                 {"kind", config["kind"]},
                 {"metadata", {{"name", metadata["name"]}}}};
  if (metadata.contains("namespace")) status["metadata"]["namespace"] = metadata["namespace"];
  if (config.contains("status")) status["status"] = config["status"];
  return status;
}

/// What others lose to this write: fields that it added or changed, and all that it removed.
void TakeFromOthers(ManagedEntries& entries, const ManagedEntry& self, const FieldSet& changed,
                    const FieldSet& removed) {
  for (ManagedEntry& entry : entries) {
    if (entry.Is(self)) continue;
    entry.fields = Difference(Difference(entry.fields, changed), removed);
  }
}

std::vector<ApplyConflict> FindConflicts(const ManagedEntries& entries, const ManagedEntry& self,
                                         const FieldSet& changed) {
  std::vector<ApplyConflict> conflicts;
  for (const ManagedEntry& entry : entries) {
    if (entry.Is(self)) continue;
    for (std::string& field : FieldTexts(Intersection(entry.fields, changed)))
      conflicts.push_back({entry.Text(), std::move(field)});
  }
  return conflicts;
}

/// What nobody's ownership was kept of is owned by somebody all the same, lest the first apply
/// takes it all.
std::optional<ManagedEntry> BeforeFirstApply(const ResourceDefinition& definition,
                                             const Json& object, const FieldManager& manager) {
  FieldSet fields = CompareFields(*definition.schema, Json::object(), object).added;
  StripSystemFields(fields);
  StripOtherSubresource(definition, manager.subresource, fields);
  if (fields.Empty()) return std::nullopt;
  return ManagedEntry{"before-first-apply",          "Update",
                      definition.ApiVersion(),       manager.subresource,
                      base::FormatTime(manager.now), std::move(fields)};
}

}  // namespace

base::Result<ApplyOutcome> ServerSideApply(const ResourceDefinition& definition, const Json& live,
                                           const Json& config, const FieldManager& manager,
                                           bool force) {
  if (auto checked = CheckConfig(definition, config); !checked) return checked.error();
  const Json effective = EffectiveConfig(definition, config, manager.subresource);
  auto fields = FieldsOf(*definition.schema, effective);
  if (!fields) return fields.error();
  StripSystemFields(*fields);
  StripOtherSubresource(definition, manager.subresource, *fields);
  auto entries = DecodeManaged(ManagedOf(live));
  if (!entries)
    entries =
        ManagedEntries{};  // Stored by nobody's fault: ownership starts anew, as in Kubernetes.
  Json before = live.is_object() ? live : Json::object();
  if (before.contains("metadata")) before["metadata"].erase("managedFields");
  if (live.is_object() && entries->empty())
    if (auto earlier = BeforeFirstApply(definition, before, manager))
      entries->push_back(*std::move(earlier));

  ManagedEntry self{manager.name,
                    "Apply",
                    definition.ApiVersion(),
                    manager.subresource,
                    base::FormatTime(manager.now),
                    *fields};
  ManagedEntry* mine = FindEntry(*entries, self);
  const FieldSet last = mine ? mine->fields : FieldSet{};
  if (mine)
    mine->fields = *fields;
  else
    entries->push_back(self);

  Json merged = MergeFields(definition.schema.get(), before, effective);
  FieldSet owned;
  for (const ManagedEntry& entry : *entries) owned = Union(owned, entry.fields);
  RemoveUnowned(*definition.schema, merged, last, owned);

  const Comparison comparison = CompareFields(*definition.schema, before, merged);
  const FieldSet changed = Union(comparison.added, comparison.modified);
  ApplyOutcome outcome;
  if (!force) outcome.conflicts = FindConflicts(*entries, self, changed);
  if (!outcome.conflicts.empty()) return outcome;
  TakeFromOthers(*entries, self, changed, comparison.removed);
  const bool same_fields = last == *fields;
  outcome.changed = !live.is_object() || merged != before || !same_fields;
  if (outcome.changed) {
    if (ManagedEntry* entry = FindEntry(*entries, self)) entry->time = self.time;
  }
  outcome.object = std::move(merged);
  SetManaged(outcome.object, EncodeManaged(std::move(*entries)));
  return outcome;
}

Json ApplyConflictStatus(const std::vector<ApplyConflict>& conflicts) {
  Json causes = Json::array();
  std::map<std::string, std::vector<std::string>> by_manager;
  for (const ApplyConflict& conflict : conflicts) {
    causes.push_back({{"reason", "FieldManagerConflict"},
                      {"message", "conflict with " + conflict.manager},
                      {"field", conflict.field}});
    by_manager[conflict.manager].push_back(conflict.field);
  }
  std::string message = fmt::format("Apply failed with {} conflict{}: ", conflicts.size(),
                                    conflicts.size() == 1 ? "" : "s");
  if (conflicts.size() == 1) {
    message += fmt::format("conflict with {}: {}", conflicts[0].manager, conflicts[0].field);
  } else {
    std::vector<std::string> lines;
    for (const auto& [manager, fields] : by_manager) {
      lines.push_back(fmt::format("conflicts with {}:", manager));
      for (const std::string& field : fields) lines.push_back("- " + field);
    }
    message += fmt::format("{}", fmt::join(lines, "\n"));
  }
  return {{"kind", "Status"},
          {"apiVersion", "v1"},
          {"metadata", Json::object()},
          {"status", "Failure"},
          {"message", message},
          {"reason", "Conflict"},
          {"details", {{"causes", std::move(causes)}}},
          {"code", 409}};
}

void UpdateManagedFields(const ResourceDefinition& definition, const Json& live, Json& updated,
                         const FieldManager& manager) {
  const Json& sent = ManagedOf(updated);
  const bool cleared =
      sent.is_array() &&
      (sent.empty() || (sent.size() == 1 && sent[0].is_object() && sent[0].empty()));
  if (cleared && live.is_object()) return SetManaged(updated, Json::array());
  auto entries = DecodeManaged(sent);
  if (!entries || entries->empty()) entries = DecodeManaged(ManagedOf(live));
  if (!entries) entries = ManagedEntries{};
  // Ownership that was cleared stays so until somebody applies.
  if (entries->empty() && live.is_object()) return SetManaged(updated, Json::array());

  Json before = live.is_object() ? live : Json::object();
  if (before.contains("metadata")) before["metadata"].erase("managedFields");
  Json after = updated;
  if (after.contains("metadata") && after["metadata"].is_object())
    after["metadata"].erase("managedFields");
  Comparison comparison = CompareFields(*definition.schema, before, after);
  for (FieldSet* set : {&comparison.added, &comparison.removed, &comparison.modified}) {
    StripSystemFields(*set);
    StripOtherSubresource(definition, manager.subresource, *set);
  }
  ManagedEntry self{manager.name,
                    "Update",
                    definition.ApiVersion(),
                    manager.subresource,
                    base::FormatTime(manager.now),
                    {}};
  const FieldSet changed = Union(comparison.added, comparison.modified);
  TakeFromOthers(*entries, self, changed, comparison.removed);
  ManagedEntry* mine = FindEntry(*entries, self);
  const FieldSet fields =
      Union(Difference(mine ? mine->fields : FieldSet{}, comparison.removed), changed);
  if (!mine) {
    self.fields = fields;
    entries->push_back(self);
  } else if (!(mine->fields == fields)) {
    mine->fields = fields;
    mine->time = self.time;
  }
  SetManaged(updated, EncodeManaged(std::move(*entries)));
}

std::string CheckManagedFields(const Json& managed_fields) {
  if (managed_fields.is_array() && managed_fields.size() == 1 && managed_fields[0].is_object() &&
      managed_fields[0].empty())
    return "";
  const auto entries = DecodeManaged(managed_fields);
  return entries ? "" : entries.error().message;
}

std::string DefaultFieldManager(std::string_view user_agent) {
  std::string name;
  for (const char c : user_agent.substr(0, user_agent.find('/')).substr(0, 128)) {
    if (c >= 0x20 && c < 0x7f) name += c;
  }
  return name.empty() ? "unknown" : name;
}

bool EqualForStorage(const Json& a, const Json& b) { return Comparable(a) == Comparable(b); }

}  // namespace apiserver
