#include "apiserver/apply/managed_entries.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace apiserver {
namespace {

using codec::GetString;
using codec::Json;

constexpr size_t kMaxUpdateManagers = 10;
constexpr size_t kMaxEntries = 1000;
constexpr const char* kAncient = "ancient-changes";

bool IsUpdate(const ManagedEntry& entry) { return entry.operation == "Update"; }

/// Merges the oldest Update entries into one per API version until few enough are left.
void CapManagers(ManagedEntries& entries) {
  size_t updates = static_cast<size_t>(std::count_if(entries.begin(), entries.end(), IsUpdate));
  if (updates <= kMaxUpdateManagers) return;
  std::stable_sort(entries.begin(), entries.end(),
                   [](const ManagedEntry& a, const ManagedEntry& b) {
                     return std::make_tuple(!IsUpdate(a), a.manager != kAncient, a.time) <
                            std::make_tuple(!IsUpdate(b), b.manager != kAncient, b.time);
                   });
  while (updates > kMaxUpdateManagers) {
    ManagedEntry& first = entries[0];
    ManagedEntry& second = entries[1];
    second.fields = Union(first.fields, second.fields);
    second.manager = kAncient;
    second.subresource.clear();
    second.time = std::max(first.time, second.time);
    entries.erase(entries.begin());
    --updates;
  }
}

}  // namespace

std::string ManagedEntry::Text() const {
  std::string text = fmt::format("\"{}\"", manager);
  if (!subresource.empty()) text += fmt::format(" with subresource \"{}\"", subresource);
  if (operation == "Update") text += fmt::format(" using {}", api_version);
  return text;
}

base::Result<ManagedEntries> DecodeManaged(const Json& managed_fields) {
  ManagedEntries entries;
  if (managed_fields.is_null()) return entries;
  const auto bad = [](size_t index, std::string_view why) {
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("metadata.managedFields[{}]: {}", index, why));
  };
  if (!managed_fields.is_array() || managed_fields.size() > kMaxEntries)
    return bad(0, "must be a list of at most 1000 entries");
  for (size_t i = 0; i < managed_fields.size(); ++i) {
    const Json& item = managed_fields[i];
    if (!item.is_object()) return bad(i, "must be an object");
    ManagedEntry entry{GetString(item, "manager"),    GetString(item, "operation"),
                       GetString(item, "apiVersion"), GetString(item, "subresource"),
                       GetString(item, "time"),       {}};
    if (entry.operation != "Apply" && entry.operation != "Update")
      return bad(i, "operation must be `Apply` or `Update`");
    if (GetString(item, "fieldsType", "FieldsV1") != "FieldsV1")
      return bad(i, "fieldsType must be `FieldsV1`");
    auto fields = DecodeFieldsV1(item.contains("fieldsV1") ? item["fieldsV1"] : Json::object());
    if (!fields) return bad(i, fields.error().message);
    entry.fields = std::move(*fields);
    entries.push_back(std::move(entry));
  }
  return entries;
}

Json EncodeManaged(ManagedEntries entries) {
  std::erase_if(entries, [](const ManagedEntry& entry) { return entry.fields.Empty(); });
  CapManagers(entries);
  std::stable_sort(entries.begin(), entries.end(),
                   [](const ManagedEntry& a, const ManagedEntry& b) {
                     return std::tie(a.operation, a.time, a.manager, a.api_version, a.subresource) <
                            std::tie(b.operation, b.time, b.manager, b.api_version, b.subresource);
                   });
  Json list = Json::array();
  for (const ManagedEntry& entry : entries) {
    Json item = {{"manager", entry.manager},
                 {"operation", entry.operation},
                 {"apiVersion", entry.api_version},
                 {"fieldsType", "FieldsV1"},
                 {"fieldsV1", EncodeFieldsV1(entry.fields)}};
    if (!entry.time.empty()) item["time"] = entry.time;
    if (!entry.subresource.empty()) item["subresource"] = entry.subresource;
    list.push_back(std::move(item));
  }
  return list;
}

void StripSystemFields(FieldSet& fields) {
  fields.member = false;
  fields.children.erase("f:apiVersion");
  fields.children.erase("f:kind");
  const auto metadata = fields.children.find("f:metadata");
  if (metadata == fields.children.end()) return;
  metadata->second.member = false;
  for (const char* name : {"f:name", "f:namespace", "f:creationTimestamp", "f:selfLink", "f:uid",
                           "f:generation", "f:managedFields", "f:resourceVersion",
                           "f:deletionTimestamp", "f:deletionGracePeriodSeconds"}) {
    metadata->second.children.erase(name);
  }
  if (metadata->second.Empty()) fields.children.erase(metadata);
}

}  // namespace apiserver
