#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <unordered_map>

#include "apiserver/apply/field_set.hpp"
#include "apiserver/schema/object_walk.hpp"

namespace apiserver {
namespace {

using codec::Json;

/// How ownership treats a value.
enum class Shape { kLeaf, kMap, kListMap, kListSet };

/// The FieldsV1 name of a list item; empty if it lacks a key.
std::string ElementOf(const SchemaNode& list, const Json& item) {
  if (list.list_type == ListType::kSet) return "v:" + codec::Dump(item);
  const std::string key = ListMapKey(list, item);
  return key.empty() ? "" : "k:" + key;
}

Shape ShapeOf(const SchemaNode* schema, const Json& json) {
  if (json.is_object()) return schema && schema->atomic_map ? Shape::kLeaf : Shape::kMap;
  if (!json.is_array() || !schema || schema->list_type == ListType::kAtomic) return Shape::kLeaf;
  // A list whose items cannot be named is one value.
  for (const Json& item : json) {
    if (schema->list_type == ListType::kMap && !SameListMapKey(*schema, item, item)) {
      return Shape::kLeaf;
    }
  }
  return schema->list_type == ListType::kMap ? Shape::kListMap : Shape::kListSet;
}

const SchemaNode* MemberOf(const SchemaNode* schema, std::string_view name) {
  return schema ? schema->Member(name) : nullptr;
}
const SchemaNode* ItemOf(const SchemaNode* schema) {
  return schema ? schema->items.get() : nullptr;
}

/// Collects the fields of an applied document.
class Collector {
 public:
  void Collect(const SchemaNode* schema, const Json& json, const FieldPath& path, FieldSet& set) {
    const Shape shape = ShapeOf(schema, json);
    if (schema && json.is_array() && schema->list_type == ListType::kMap && shape == Shape::kLeaf &&
        !json.empty()) {
      return Fail(path, "every item needs the list's keys");
    }
    if (shape == Shape::kLeaf) {
      set.member = true;
    } else if (shape == Shape::kMap) {
      CollectMap(schema, json, path, set);
    } else {
      for (size_t i = 0; i < json.size(); ++i) CollectItem(*schema, json[i], path.Item(i), set);
    }
  }
  const std::string& Error() const { return error_; }

 private:
  void Fail(const FieldPath& path, std::string_view why) {
    if (error_.empty()) error_ = fmt::format("{}: {}", path.Text(), why);
  }

  void CollectMap(const SchemaNode* schema, const Json& json, const FieldPath& path,
                  FieldSet& set) {
    for (auto it = json.begin(); it != json.end(); ++it) {
      FieldSet& child = set.children["f:" + it.key()];
      Collect(MemberOf(schema, it.key()), *it, path.Member(it.key()), child);
      const bool named = schema && schema->properties.contains(it.key());
      if (it->is_null() || (it->is_object() && it->empty()) || !named) child.member = true;
    }
  }

  void CollectItem(const SchemaNode& list, const Json& item, const FieldPath& path, FieldSet& set) {
    const auto [it, fresh] = set.children.emplace(ElementOf(list, item), FieldSet{});
    if (!fresh) return Fail(path, "duplicate entries for the same list key");
    it->second.member = true;
    if (list.list_type == ListType::kMap) Collect(list.items.get(), item, path, it->second);
  }

  std::string error_;
};

/// Adds a value and everything granular below it.
void Everything(const SchemaNode* schema, const Json& json, FieldSet& set) {
  set.member = true;
  switch (ShapeOf(schema, json)) {
    case Shape::kLeaf:
      return;
    case Shape::kMap:
      for (auto it = json.begin(); it != json.end(); ++it)
        Everything(MemberOf(schema, it.key()), *it, set.children["f:" + it.key()]);
      return;
    case Shape::kListMap:
      for (const Json& item : json)
        Everything(ItemOf(schema), item, set.children[ElementOf(*schema, item)]);
      return;
    case Shape::kListSet:
      for (const Json& item : json) set.children[ElementOf(*schema, item)].member = true;
      return;
  }
}

/// The three results at one place of the tree; nodes are made on the way down and compacted at the
/// end.
struct Cursor {
  FieldSet& added;
  FieldSet& removed;
  FieldSet& modified;
  Cursor Down(const std::string& element) const {
    return {added.children[element], removed.children[element], modified.children[element]};
  }
};

bool SameItem(const SchemaNode& list, const Json& a, const Json& b) {
  return list.list_type == ListType::kSet ? a == b : SameListMapKey(list, a, b);
}

/// The counterpart of `item` in `items`; the same position is tried first, since lists rarely move.
const Json* FindItem(const SchemaNode& list, const Json& items, const Json& item, size_t position) {
  if (position < items.size() && SameItem(list, items[position], item)) return &items[position];
  for (const Json& candidate : items) {
    if (SameItem(list, candidate, item)) return &candidate;
  }
  return nullptr;
}

void Compare(const SchemaNode* schema, const Json& before, const Json& after, const Cursor& at);

void CompareMaps(const SchemaNode* schema, const Json& before, const Json& after,
                 const Cursor& at) {
  for (auto it = after.begin(); it != after.end(); ++it) {
    const auto old = before.find(it.key());
    const std::string element = "f:" + it.key();
    if (old == before.end())
      Everything(MemberOf(schema, it.key()), *it, at.added.children[element]);
    else if (*old != *it)
      Compare(MemberOf(schema, it.key()), *old, *it, at.Down(element));
  }
  for (auto it = before.begin(); it != before.end(); ++it) {
    if (!after.contains(it.key()))
      Everything(MemberOf(schema, it.key()), *it, at.removed.children["f:" + it.key()]);
  }
}

void CompareLists(const SchemaNode& list, const Json& before, const Json& after, const Cursor& at) {
  const SchemaNode* item_schema = list.list_type == ListType::kMap ? list.items.get() : nullptr;
  for (size_t i = 0; i < after.size(); ++i) {
    const Json* old = FindItem(list, before, after[i], i);
    if (!old) {
      Everything(item_schema, after[i], at.added.children[ElementOf(list, after[i])]);
    } else if (item_schema && *old != after[i]) {
      Compare(item_schema, *old, after[i], at.Down(ElementOf(list, after[i])));
    }
  }
  for (size_t i = 0; i < before.size(); ++i) {
    if (FindItem(list, after, before[i], i)) continue;
    Everything(item_schema, before[i], at.removed.children[ElementOf(list, before[i])]);
  }
}

void Compare(const SchemaNode* schema, const Json& before, const Json& after, const Cursor& at) {
  const Shape shape = ShapeOf(schema, after);
  const Shape old_shape = ShapeOf(schema, before);
  if (shape != old_shape) {
    at.modified.member = true;
    if (old_shape != Shape::kLeaf) Everything(schema, before, at.removed);
    if (shape != Shape::kLeaf) Everything(schema, after, at.added);
  } else if (shape == Shape::kLeaf) {
    at.modified.member = before != after;
  } else if (shape == Shape::kMap) {
    CompareMaps(schema, before, after, at);
  } else {
    CompareLists(*schema, before, after, at);
  }
}

void RemoveBelow(const SchemaNode* schema, Json& json, const FieldSet& last, const FieldSet& owned);

void RemoveMember(const SchemaNode* schema, Json& json, const std::string& name,
                  std::pair<const FieldSet*, const FieldSet*> sets) {
  const auto it = json.find(name);
  if (it == json.end()) return;
  static const FieldSet kNothing;
  if (!sets.second && name != "metadata") {
    json.erase(it);
    return;
  }
  RemoveBelow(MemberOf(schema, name), *it, *sets.first, sets.second ? *sets.second : kNothing);
}

/// A member that the schema names, which is there with the object that it is a member of.
bool IsNamed(const SchemaNode* schema, const std::string& element) {
  return element[0] == 'f' && schema && schema->properties.contains(element.substr(2));
}

void RemoveBelow(const SchemaNode* schema, Json& json, const FieldSet& last,
                 const FieldSet& owned) {
  for (const auto& [element, below] : last.children) {
    const auto other = owned.children.find(element);
    const FieldSet* kept = other == owned.children.end() ? nullptr : &other->second;
    if (kept && below == *kept) continue;  // All of it stays.
    // Who owns only something in it does not hold it: an item would be left without its key.
    if (kept && !kept->member && !IsNamed(schema, element)) kept = nullptr;
    if (element[0] == 'f') {
      if (json.is_object()) RemoveMember(schema, json, element.substr(2), {&below, kept});
      continue;
    }
    if (!json.is_array() || !schema) continue;
    for (size_t i = 0; i < json.size(); ++i) {
      if (ElementOf(*schema, json[i]) != element) continue;
      if (kept)
        RemoveBelow(ItemOf(schema), json[i], below, *kept);
      else
        json.erase(i);
      break;
    }
  }
}

/// Where each item of a list is, by its name.
class Places {
 public:
  Places(const SchemaNode& list, const Json& items) : list_(list) {
    for (size_t i = 0; i < items.size(); ++i) by_name_.emplace(ElementOf(list, items[i]), i);
  }
  std::optional<size_t> Of(const Json& item) const {
    const auto found = by_name_.find(ElementOf(list_, item));
    return found == by_name_.end() ? std::nullopt : std::optional(found->second);
  }

 private:
  const SchemaNode& list_;
  std::unordered_map<std::string, size_t> by_name_;
};

/// All items of both. The order is the applied one; what only the live list has stays behind what
/// it followed there, as far as that order allows.
Json MergeLists(const SchemaNode& list, const Json& live, const Json& config) {
  const Places in_live(list, live), in_config(list, config);
  Json merged = Json::array();
  const auto put_config = [&](size_t at) {
    const auto old = in_live.Of(config[at]);
    merged.push_back(old && list.list_type == ListType::kMap
                         ? MergeFields(list.items.get(), live[*old], config[at])
                         : config[at]);
  };
  /// The first item from `at` on that the live list has, too.
  const auto next_shared = [&](size_t at) {
    while (at < config.size() && !in_live.Of(config[at])) ++at;
    return at;
  };
  size_t next = 0, shared = next_shared(0);
  const auto put_next = [&] {
    put_config(next++);
    if (next > shared) shared = next_shared(next);
  };
  for (const Json& item : live) {
    const auto at = in_config.Of(item);
    if (!at) {
      merged.push_back(item);
    } else if (*at == shared) {
      // It and what is new before it.
      while (next <= *at) put_next();
    }
    // Any other has been put already, or comes where the applied order has it.
  }
  while (next < config.size()) put_next();
  return merged;
}

}  // namespace

base::Result<FieldSet> FieldsOf(const SchemaNode& schema, const Json& document) {
  FieldSet set;
  Collector collector;
  collector.Collect(&schema, document, FieldPath{}, set);
  if (!collector.Error().empty()) return base::MakeError(base::Code::kInvalid, collector.Error());
  set.Compact();  // A list of named items that has none is nobody's.
  return set;
}

Comparison CompareFields(const SchemaNode& schema, const Json& before, const Json& after) {
  Comparison result;
  const Json empty = Json::object();
  Compare(&schema, before.is_object() ? before : empty, after,
          {result.added, result.removed, result.modified});
  result.added.Compact();
  result.removed.Compact();
  result.modified.Compact();
  return result;
}

Json MergeFields(const SchemaNode* schema, const Json& live, const Json& config) {
  const Shape shape = ShapeOf(schema, config);
  if (shape == Shape::kLeaf || shape != ShapeOf(schema, live)) return config;
  if (shape != Shape::kMap) return MergeLists(*schema, live, config);
  Json merged = live;
  for (auto it = config.begin(); it != config.end(); ++it) {
    const auto old = merged.find(it.key());
    if (old == merged.end())
      merged[it.key()] = *it;
    else
      *old = MergeFields(MemberOf(schema, it.key()), *old, *it);
  }
  return merged;
}

void RemoveUnowned(const SchemaNode& schema, Json& object, const FieldSet& last,
                   const FieldSet& owned) {
  RemoveBelow(&schema, object, last, owned);
}

}  // namespace apiserver
