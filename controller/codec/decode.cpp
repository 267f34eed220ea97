#include <fmt/format.h>
#include <simdjson.h>

#include <limits>

#include "codec/fields.hpp"
#include "codec/padded.hpp"
#include "codec/resources.hpp"

namespace codec {
namespace {

using simdjson::ondemand::object;
using simdjson::ondemand::value;
using wire::Described;
using wire::Enumerated;
using wire::FieldsOf;
using wire::WordsOf;

constexpr std::string_view kLastApplied = "kubectl.kubernetes.io/last-applied-configuration";

/// Why decoding stopped. The path grows from the inside out, so that success pays nothing for it.
struct Failure {
  std::string path;
  std::string problem;

  bool Because(std::string why) {
    problem = std::move(why);
    return false;
  }
  bool In(std::string_view member) {
    if (path.empty())
      path = member;
    else if (path[0] == '[')
      path = fmt::format("{}{}", member, path);
    else
      path = fmt::format("{}.{}", member, path);
    return false;
  }
};

/// A failed typed read: either a wrong type or text that is no JSON at all.
bool Mismatch(simdjson::error_code error, std::string_view wanted, Failure& failure) {
  if (error == simdjson::INCORRECT_TYPE) return failure.Because(fmt::format("must be {}", wanted));
  if (error == simdjson::NUMBER_ERROR || error == simdjson::NUMBER_OUT_OF_RANGE)
    return failure.Because(fmt::format("must be {} of at most 64 bits", wanted));
  return failure.Because(fmt::format("is not valid JSON: {}", simdjson::error_message(error)));
}

/// The next member of an object.
simdjson::error_code NextMember(simdjson::simdjson_result<simdjson::ondemand::field> member,
                                std::string_view& name, value& json) {
  simdjson::ondemand::field field;
  if (const auto error = std::move(member).get(field)) return error;
  const char* const begin = field.key().raw();
  const char* end = begin;
  while (*end != '"' && *end != '\\') ++end;  // The parser has seen the closing quote.
  if (*end == '"') {
    name = {begin, static_cast<size_t>(end - begin)};
  } else if (const auto error = field.unescaped_key().get(name)) {
    return error;
  }
  json = field.value();
  return simdjson::SUCCESS;
}

/// The inside of a string token in which nothing is escaped, the usual case: no copy, and its
/// length is known from where the next token begins.
bool PlainText(std::string_view token, std::string_view& text) {
  while (!token.empty() && static_cast<unsigned char>(token.back()) <= ' ') token.remove_suffix(1);
  if (token.size() < 2 || token.front() != '"' || token.back() != '"') return false;
  text = token.substr(1, token.size() - 2);
  return text.find('\\') == std::string_view::npos;
}

template <Described S>
bool Read(value json, S& out, unsigned flags, Failure& failure);

bool ReadText(value json, std::string_view& text, Failure& failure) {
  simdjson::ondemand::raw_json_string passed;  // Moves the parser on.
  if (PlainText(json.raw_json_token(), text) && !json.get_raw_json_string().get(passed))
    return true;
  const auto error = json.get_string().get(text);
  return error == simdjson::SUCCESS || Mismatch(error, "a text", failure);
}
bool Read(value json, std::string& out, unsigned, Failure& failure) {
  std::string_view text;
  if (!ReadText(json, text, failure)) return false;
  out.assign(text);
  return true;
}
bool Read(value json, bool& out, unsigned, Failure& failure) {
  const auto error = json.get_bool().get(out);
  return error == simdjson::SUCCESS || Mismatch(error, "true or false", failure);
}
bool Read(value json, int64_t& out, unsigned, Failure& failure) {
  const auto error = json.get_int64().get(out);
  return error == simdjson::SUCCESS || Mismatch(error, "an integer", failure);
}
bool Read(value json, int32_t& out, unsigned, Failure& failure) {
  int64_t wide = 0;
  if (!Read(json, wide, 0, failure)) return false;
  if (wide < std::numeric_limits<int32_t>::min() || wide > std::numeric_limits<int32_t>::max())
    return failure.Because("must be an integer of at most 32 bits");
  out = static_cast<int32_t>(wide);
  return true;
}
bool Read(value json, base::WallTime& out, unsigned, Failure& failure) {
  std::string_view text;
  if (!ReadText(json, text, failure)) return false;
  const auto time = base::ParseTime(text);
  if (!time) return failure.Because("must be a time such as 2026-11-21T10:34:13Z");
  out = *time;
  return true;
}
template <Enumerated E>
bool Read(value json, E& out, unsigned, Failure& failure) {
  std::string_view text;
  if (!ReadText(json, text, failure)) return false;
  const auto& words = WordsOf<E>::kWords;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] != text) continue;
    out = static_cast<E>(i);
    return true;
  }
  return failure.Because(
      fmt::format("must be one of {}; it is \"{}\"", wire::AllWords<E>(), text.substr(0, 100)));
}
bool Read(value json, std::map<std::string, std::string>& out, unsigned flags, Failure& failure) {
  object members;
  if (const auto error = json.get_object().get(members))
    return Mismatch(error, "an object", failure);
  out.clear();
  for (auto member : members) {
    std::string_view key;
    value item;
    if (const auto error = NextMember(member, key, item))
      return Mismatch(error, "an object", failure);
    if ((flags & wire::kTrimmed) != 0 && key == kLastApplied) continue;
    std::string name(key), text;
    if (!Read(item, text, 0, failure)) return failure.In(name);
    out.insert_or_assign(std::move(name), std::move(text));
  }
  return true;
}
template <class T>
bool Read(value json, std::optional<T>& out, unsigned flags, Failure& failure) {
  return Read(json, out.emplace(), flags, failure);
}
template <class T>
bool Read(value json, std::vector<T>& out, unsigned flags, Failure& failure) {
  simdjson::ondemand::array items;
  if (const auto error = json.get_array().get(items)) return Mismatch(error, "a list", failure);
  out.clear();
  for (auto item : items) {
    value element;
    if (const auto error = item.get(element)) return Mismatch(error, "a list", failure);
    if (out.capacity() == 0) out.reserve(sizeof(T) <= 256 ? 8 : 4);
    if (!Read(element, out.emplace_back(), flags, failure))
      return failure.In(fmt::format("[{}]", out.size() - 1));
  }
  return true;
}

/// Reads `json` into the field of that name. Nothing: there is none, and the value is skipped.
template <class S, class T>
bool TryField(const wire::Field<S, T>& field, std::string_view name, value json, S& out,
              std::optional<bool>& done, Failure& failure) {
  if (field.name.size() != name.size() || field.name[0] != name[0] || field.name != name)
    return false;
  auto null = json.is_null();
  if (!null.error() && null.value_unsafe()) {
    done = true;
  } else {
    done = Read(json, out.*field.member, field.flags, failure) || failure.In(field.name);
  }
  return true;
}

template <Described S>
bool ReadMembers(object members, S& out, Failure& failure) {
  for (auto member : members) {
    std::string_view name;
    value json;
    if (const auto error = NextMember(member, name, json))
      return Mismatch(error, "an object", failure);
    std::optional<bool> done;
    std::apply(
        [&](const auto&... field) {
          return (TryField(field, name, json, out, done, failure) || ...);
        },
        FieldsOf<S>::kList);
    if (done && !*done) return false;
  }
  return true;
}

template <Described S>
bool Read(value json, S& out, unsigned, Failure& failure) {
  object members;
  if (const auto error = json.get_object().get(members))
    return Mismatch(error, "an object", failure);
  return ReadMembers(members, out, failure);
}

template <Described S>
base::Result<S> Decode(std::string_view text, std::string_view what) {
  Failure failure;
  S out;
  const auto read = [&](simdjson::ondemand::document& document) {
    object members;
    if (const auto error = document.get_object().get(members))
      return Mismatch(error, "an object", failure);
    if (!ReadMembers(members, out, failure)) return false;
    return document.current_location().error() == simdjson::OUT_OF_BOUNDS ||
           failure.Because("has more text after the object");
  };
  const auto error = WithDocument(text, read);
  if (error != simdjson::SUCCESS) Mismatch(error, "an object", failure);
  if (failure.problem.empty()) return out;
  return base::MakeError(
      base::Code::kInvalid,
      failure.path.empty() ? fmt::format("the {} {}", what, failure.problem)
                           : fmt::format("`{}` of the {} {}", failure.path, what, failure.problem));
}

/// What DecodeObjectMeta looks at: everything else of the object is skipped.
struct MetaOnly {
  meta::ObjectMeta meta;
};
struct WorkspaceStatusOnly {
  api::WorkspaceStatus status;
};
struct DeclaredPluginStatusOnly {
  api::DeclaredPluginStatus status;
};

}  // namespace

template <>
struct wire::FieldsOf<MetaOnly> {
  static constexpr auto kList = std::make_tuple(F("metadata", &MetaOnly::meta));
};
template <>
struct wire::FieldsOf<WorkspaceStatusOnly> {
  static constexpr auto kList = std::make_tuple(F("status", &WorkspaceStatusOnly::status));
};
template <>
struct wire::FieldsOf<DeclaredPluginStatusOnly> {
  static constexpr auto kList = std::make_tuple(F("status", &DeclaredPluginStatusOnly::status));
};

base::Result<api::Workspace> DecodeWorkspace(std::string_view json) {
  return Decode<api::Workspace>(json, "Workspace");
}
base::Result<api::DeclaredPlugin> DecodeDeclaredPlugin(std::string_view json) {
  return Decode<api::DeclaredPlugin>(json, "DeclaredPlugin");
}
base::Result<meta::ObjectMeta> DecodeObjectMeta(std::string_view json) {
  auto decoded = Decode<MetaOnly>(json, "object");
  if (!decoded) return std::move(decoded).error();
  return std::move(decoded->meta);
}
base::Result<api::WorkspaceStatus> DecodeWorkspaceStatus(const Json& object) {
  auto decoded = Decode<WorkspaceStatusOnly>(Dump(object), "Workspace");
  if (!decoded) return std::move(decoded).error();
  return std::move(decoded->status);
}
base::Result<api::DeclaredPluginStatus> DecodeDeclaredPluginStatus(const Json& object) {
  auto decoded = Decode<DeclaredPluginStatusOnly>(Dump(object), "DeclaredPlugin");
  if (!decoded) return std::move(decoded).error();
  return std::move(decoded->status);
}

}  // namespace codec
