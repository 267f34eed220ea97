#include <type_traits>

#include "base/utf8.hpp"
#include "codec/fields.hpp"
#include "codec/resources.hpp"

namespace codec {
namespace {

using wire::Described;
using wire::Enumerated;
using wire::FieldsOf;
using wire::WordsOf;

// Values first, then containers, then structs: each overload is found by those below it.
/// Repaired here and not by the API server: what is compared with what it has stored must be equal.
Json ToJson(const std::string& text) { return base::RepairUtf8(text); }
Json ToJson(bool value) { return value; }
Json ToJson(int32_t value) { return value; }
Json ToJson(int64_t value) { return value; }
Json ToJson(base::WallTime time) { return base::FormatTime(time); }
template <Enumerated E>
Json ToJson(E value) {
  return std::string(WordsOf<E>::kWords.at(static_cast<size_t>(value)));
}
Json ToJson(const std::map<std::string, std::string>& map) {
  Json object = Json::object();
  for (const auto& [key, value] : map) object[key] = ToJson(value);
  return object;
}
template <Described S>
Json ToJson(const S& value);
template <class T>
Json ToJson(const std::optional<T>& value) {
  return ToJson(*value);
}
template <class T>
Json ToJson(const std::vector<T>& list) {
  Json array = Json::array();
  for (const T& item : list) array.push_back(ToJson(item));
  return array;
}

/// At most `limit` bytes of the text.
Json Cut(const std::string& text, size_t limit) {
  std::string whole = base::RepairUtf8(text);
  if (whole.size() <= limit) return whole;
  constexpr std::string_view kMore = "...";
  return base::ShortenUtf8(std::move(whole), limit - kMore.size());
}
template <class T>
Json Cut(const std::vector<T>& list, size_t limit) {
  if (list.size() <= limit) return ToJson(list);
  return ToJson(std::vector<T>(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(limit)));
}
template <class T>
Json Cut(const T& value, size_t) {
  return ToJson(value);
}

template <class S, class T>
void AddMember(const S& value, const wire::Field<S, T>& field, Json& object) {
  static const S kDefault{};
  const T& member = value.*field.member;
  // An optional that is there but empty says something (an empty selector matches all): only
  // absence is left out.
  if ((field.flags & wire::kAlways) != 0 || member != kDefault.*field.member)
    object[std::string(field.name)] = field.limit == 0 ? ToJson(member) : Cut(member, field.limit);
}

template <Described S>
Json ToJson(const S& value) {
  Json object = Json::object();
  std::apply([&](const auto&... field) { (AddMember(value, field, object), ...); },
             FieldsOf<S>::kList);
  return object;
}

template <class Object>
Json EncodeObject(const Object& object, const char* kind) {
  Json json = ToJson(object);
  json["apiVersion"] = api::kApiVersion;
  json["kind"] = kind;
  return json;
}

template <Enumerated E>
std::string_view Word(E value) {
  const auto& words = WordsOf<E>::kWords;
  const auto index = static_cast<size_t>(value);
  return index < words.size() ? words[index] : std::string_view("Invalid");
}

}  // namespace

Json EncodeWorkspace(const api::Workspace& workspace) {
  return EncodeObject(workspace, "Workspace");
}
Json EncodeDeclaredPlugin(const api::DeclaredPlugin& plugin) {
  return EncodeObject(plugin, "DeclaredPlugin");
}
Json EncodeWorkspaceStatus(const api::WorkspaceStatus& status) { return ToJson(status); }
Json EncodeDeclaredPluginStatus(const api::DeclaredPluginStatus& status) { return ToJson(status); }
Json EncodeWorkspaceSpec(const api::WorkspaceSpec& spec) { return ToJson(spec); }
Json EncodeDeclaredPluginSpec(const api::DeclaredPluginSpec& spec) { return ToJson(spec); }
Json EncodeObjectMeta(const meta::ObjectMeta& meta) { return ToJson(meta); }

std::string_view WireName(api::WorkspaceKind value) { return Word(value); }
std::string_view WireName(api::BoxType value) { return Word(value); }
std::string_view WireName(api::DirectoryRun value) { return Word(value); }
std::string_view WireName(api::RestartPolicy value) { return Word(value); }
std::string_view WireName(api::RecreatePolicy value) { return Word(value); }
std::string_view WireName(api::DeletionPolicy value) { return Word(value); }
std::string_view WireName(api::PluginOrigin value) { return Word(value); }
std::string_view WireName(api::UpdatePolicy value) { return Word(value); }

}  // namespace codec
