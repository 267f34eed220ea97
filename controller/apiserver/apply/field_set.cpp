#include "apiserver/apply/field_set.hpp"

#include <fmt/format.h>

namespace apiserver {
namespace {

using codec::Json;

constexpr int kMaxDepth = 64;

/// As Kubernetes writes one element of a path.
std::string ElementText(const std::string& element) {
  const std::string rest = element.substr(2);
  if (element[0] == 'f') return "." + rest;
  if (element[0] == 'v') return "[=" + rest + "]";
  if (element[0] != 'k') return "[" + rest + "]";
  const Json key = Json::parse(rest, nullptr, false);
  std::string parts;
  if (key.is_object()) {
    for (auto it = key.begin(); it != key.end(); ++it)
      parts += fmt::format("{}{}={}", parts.empty() ? "" : ",", it.key(), codec::Dump(*it));
  }
  return "[" + parts + "]";
}

/// What is below `path`: the members here first, then what is in them, as Kubernetes orders it.
void Describe(const FieldSet& set, const std::string& path, std::vector<std::string>& texts) {
  for (const auto& [element, child] : set.children)
    if (child.member) texts.push_back(path + ElementText(element));
  for (const auto& [element, child] : set.children)
    if (!child.children.empty()) Describe(child, path + ElementText(element), texts);
}

base::Result<FieldSet> Decode(const Json& fields, int depth) {
  const auto bad = [](std::string why) {
    return base::MakeError(base::Code::kInvalid, "fieldsV1: " + why);
  };
  if (!fields.is_object()) return bad("must be an object");
  if (depth > kMaxDepth) return bad("nested too deeply");
  FieldSet set;
  for (auto it = fields.begin(); it != fields.end(); ++it) {
    const std::string& key = it.key();
    if (key == ".") {
      set.member = true;
      continue;
    }
    if (key.size() < 2 || key[1] != ':' ||
        std::string_view("fkvi").find(key[0]) == std::string_view::npos) {
      return bad(fmt::format("unknown member `{}`", key.substr(0, 64)));
    }
    auto child = Decode(*it, depth + 1);
    if (!child) return child.error();
    // An empty object is a leaf: the field itself.
    if (it->empty()) child->member = true;
    set.children.emplace(key, std::move(*child));
  }
  return set;
}

}  // namespace

bool FieldSet::Compact() {
  for (auto it = children.begin(); it != children.end();) {
    it = it->second.Compact() ? children.erase(it) : std::next(it);
  }
  return Empty();
}

FieldSet Union(const FieldSet& a, const FieldSet& b) {
  FieldSet result = a;
  result.member = a.member || b.member;
  for (const auto& [element, child] : b.children) {
    const auto [it, fresh] = result.children.emplace(element, child);
    if (!fresh) it->second = Union(it->second, child);
  }
  return result;
}

FieldSet Difference(const FieldSet& a, const FieldSet& b) {
  FieldSet result;
  result.member = a.member && !b.member;
  for (const auto& [element, child] : a.children) {
    const auto other = b.children.find(element);
    FieldSet rest = other == b.children.end() ? child : Difference(child, other->second);
    if (!rest.Empty()) result.children.emplace(element, std::move(rest));
  }
  return result;
}

FieldSet Intersection(const FieldSet& a, const FieldSet& b) {
  FieldSet result;
  result.member = a.member && b.member;
  for (const auto& [element, child] : a.children) {
    const auto other = b.children.find(element);
    if (other == b.children.end()) continue;
    FieldSet both = Intersection(child, other->second);
    if (!both.Empty()) result.children.emplace(element, std::move(both));
  }
  return result;
}

Json EncodeFieldsV1(const FieldSet& set) {
  Json fields = Json::object();
  // A leaf is {}; "." says that an inner node is a member too.
  if (set.member && !set.children.empty()) fields["."] = Json::object();
  for (const auto& [element, child] : set.children) fields[element] = EncodeFieldsV1(child);
  return fields;
}

base::Result<FieldSet> DecodeFieldsV1(const Json& fields) { return Decode(fields, 0); }

std::vector<std::string> FieldTexts(const FieldSet& set) {
  std::vector<std::string> texts;
  Describe(set, "", texts);
  return texts;
}

}  // namespace apiserver
