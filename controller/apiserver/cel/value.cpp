#include "apiserver/cel/value.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "base/clock.hpp"

namespace apiserver {
namespace {

using codec::Json;

template <typename T>
int Order(const T& a, const T& b) {
  return a < b ? -1 : b < a ? 1 : 0;
}

/// Compares an integer of any sign with a double without losing the integer's last bits.
std::optional<int> OrderDouble(const CelValue& integer, double d) {
  if (std::isnan(d)) return std::nullopt;
  if (const int64_t* i = integer.As<int64_t>()) {
    if (d >= 9223372036854775808.0) return -1;
    if (d < -9223372036854775808.0) return 1;
    const int64_t whole = static_cast<int64_t>(d);
    if (*i != whole) return Order(*i, whole);
    return Order(0.0, d - static_cast<double>(whole));
  }
  const uint64_t u = *integer.As<uint64_t>();
  if (d >= 18446744073709551616.0) return -1;
  if (d < 0) return 1;
  const uint64_t whole = static_cast<uint64_t>(d);
  if (u != whole) return Order(u, whole);
  return Order(0.0, d - static_cast<double>(whole));
}

std::optional<int> OrderNumbers(const CelValue& a, const CelValue& b) {
  const double* da = a.As<double>();
  const double* db = b.As<double>();
  if (da && db) {
    if (std::isnan(*da) || std::isnan(*db)) return std::nullopt;
    return Order(*da, *db);
  }
  if (db) return OrderDouble(a, *db);
  if (da) {
    const auto order = OrderDouble(b, *da);
    return order ? std::optional<int>(-*order) : std::nullopt;
  }
  const int64_t* ia = a.As<int64_t>();
  const int64_t* ib = b.As<int64_t>();
  if (ia && ib) return Order(*ia, *ib);
  if (ia) return *ia < 0 ? -1 : Order(static_cast<uint64_t>(*ia), *b.As<uint64_t>());
  if (ib) return *ib < 0 ? 1 : Order(*a.As<uint64_t>(), static_cast<uint64_t>(*ib));
  return Order(*a.As<uint64_t>(), *b.As<uint64_t>());
}

bool EqualLists(const CelValue& a, const CelValue& b, uint64_t& steps) {
  if (a.Count() != b.Count()) return false;
  for (size_t i = 0; i < a.Count(); ++i) {
    if (!CelEquals(a.ListAt(i), b.ListAt(i), steps)) return false;
  }
  return true;
}

bool EqualMaps(const CelValue& a, const CelValue& b, uint64_t& steps) {
  if (a.Count() != b.Count()) return false;
  for (size_t i = 0; i < a.Count(); ++i) {
    const CelValue key = a.MapKeyAt(i);
    const auto other = b.MapFind(key);
    if (!other || !CelEquals(*a.MapFind(key), *other, steps)) return false;
  }
  return true;
}

size_t JsonNodes(const Json& json) {
  if (!json.is_structured()) return 1;
  size_t count = 1;
  for (const auto& item : json) count += JsonNodes(item);
  return count;
}

/// Scalars that the schema types: text with a time format, numbers that are doubles by the schema.
CelValue ShapedText(const std::string& text, const CelShape* shape) {
  if (shape && shape->CelKind() == CelShape::Kind::kTimestamp) {
    const auto time = ParseCelTimestamp(text);
    return time ? CelValue(*time) : CelValue::Fail(fmt::format("`{}` is no RFC 3339 time", text));
  }
  if (shape && shape->CelKind() == CelShape::Kind::kDuration) {
    const auto duration = ParseCelDuration(text);
    return duration ? CelValue(*duration)
                    : CelValue::Fail(fmt::format("`{}` is no duration", text));
  }
  return CelValue::View(text);
}

}  // namespace

CelValue CelValue::Text(std::string text) {
  auto owner = std::make_shared<const std::string>(std::move(text));
  const std::string_view view = *owner;
  return CelString{std::move(owner), view};
}

CelValue CelValue::Fail(std::string message) {
  return CelError{std::make_shared<const std::string>(std::move(message))};
}

CelValue CelValue::NoOverload(std::string_view function) {
  return Fail(fmt::format("no such overload: {}", function));
}

CelValue CelValue::MakeList(std::vector<CelValue> items) {
  return CelList(std::make_shared<const std::vector<CelValue>>(std::move(items)));
}

CelValue CelValue::FromJson(const Json& json, const CelShape* shape) {
  const bool real = shape && shape->CelKind() == CelShape::Kind::kDouble;
  switch (json.type()) {
    case Json::value_t::null:
      return CelNull{};
    case Json::value_t::boolean:
      return json.get<bool>();
    case Json::value_t::string:
      return ShapedText(json.get_ref<const std::string&>(), shape);
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      if (real) return json.get<double>();
      if (json.is_number_unsigned() && json.get<uint64_t>() > INT64_MAX)
        return json.get<uint64_t>();
      return json.get<int64_t>();
    case Json::value_t::number_float: {
      const double d = json.get<double>();
      // 3.0 is an integer where the schema says integer.
      if (shape && shape->CelKind() == CelShape::Kind::kInt && std::floor(d) == d &&
          std::fabs(d) < 9e15) {
        return static_cast<int64_t>(d);
      }
      return d;
    }
    case Json::value_t::array:
    case Json::value_t::object:
      return CelDocument{&json, shape};
    default:
      return Fail("unsupported value");
  }
}

std::optional<std::string_view> CelValue::AsText() const {
  const CelString* text = As<CelString>();
  return text ? std::optional<std::string_view>(text->view) : std::nullopt;
}

bool CelValue::IsList() const {
  const CelDocument* document = As<CelDocument>();
  return As<CelList>() || (document && document->json->is_array());
}

bool CelValue::IsMap() const {
  const CelDocument* document = As<CelDocument>();
  return As<CelMap>() || (document && document->json->is_object());
}

size_t CelValue::Count() const {
  if (const CelDocument* document = As<CelDocument>()) return document->json->size();
  if (const CelList* list = As<CelList>()) return (*list)->size();
  if (const CelMap* map = As<CelMap>()) return (*map)->size();
  return 0;
}

CelValue CelValue::ListAt(size_t index) const {
  if (const CelList* list = As<CelList>()) return (**list)[index];
  const CelDocument& document = *As<CelDocument>();
  return FromJson((*document.json)[index], document.shape ? document.shape->CelElement() : nullptr);
}

CelValue CelValue::MapKeyAt(size_t index) const {
  if (const CelMap* map = As<CelMap>()) return (**map)[index].first;
  const auto it = std::next(As<CelDocument>()->json->begin(), static_cast<std::ptrdiff_t>(index));
  return View(it.key());
}

std::optional<CelValue> CelValue::MapFind(const CelValue& key) const {
  if (const CelMap* map = As<CelMap>()) {
    uint64_t steps = 0;
    for (const auto& [known, value] : **map) {
      if (CelEquals(known, key, steps)) return value;
    }
    return std::nullopt;
  }
  const CelDocument* document = As<CelDocument>();
  const auto name = key.AsText();
  if (!document || !document->json->is_object() || !name) return std::nullopt;
  const auto it = document->json->find(*name);
  if (it == document->json->end()) return std::nullopt;
  const CelShape* shape = document->shape;
  const CelShape* below = nullptr;
  if (shape && shape->CelKind() == CelShape::Kind::kObject) below = shape->CelField(*name);
  if (shape && shape->CelKind() == CelShape::Kind::kMap) below = shape->CelElement();
  return FromJson(*it, below);
}

std::string_view CelValue::TypeName() const {
  constexpr std::string_view kNames[] = {"null_type",
                                         "bool",
                                         "int",
                                         "uint",
                                         "double",
                                         "string",
                                         "google.protobuf.Duration",
                                         "google.protobuf.Timestamp",
                                         "type",
                                         "error",
                                         "",
                                         "list",
                                         "map"};
  if (const CelDocument* document = As<CelDocument>())
    return document->json->is_array() ? "list" : "map";
  return kNames[data.index()];
}

Json CelValue::ToJson() const {
  if (const bool* b = As<bool>()) return *b;
  if (const int64_t* i = As<int64_t>()) return *i;
  if (const uint64_t* u = As<uint64_t>()) return *u;
  if (const double* d = As<double>()) return *d;
  if (const CelString* text = As<CelString>()) return std::string(text->view);
  if (const CelDuration* duration = As<CelDuration>()) return FormatCelDuration(*duration);
  if (const CelTimestamp* time = As<CelTimestamp>()) return FormatCelTimestamp(*time);
  if (const CelType* type = As<CelType>()) return std::string(type->name);
  if (const CelDocument* document = As<CelDocument>()) return *document->json;
  if (IsList()) {
    Json list = Json::array();
    for (size_t i = 0; i < Count(); ++i) list.push_back(ListAt(i).ToJson());
    return list;
  }
  if (const CelMap* map = As<CelMap>()) {
    Json object = Json::object();
    for (const auto& [key, value] : **map) {
      const auto name = key.AsText();
      object[name ? std::string(*name) : key.ToJson().dump()] = value.ToJson();
    }
    return object;
  }
  return nullptr;
}

bool CelEquals(const CelValue& a, const CelValue& b, uint64_t& steps) {
  ++steps;
  if (a.IsNumber() && b.IsNumber()) return OrderNumbers(a, b) == 0;
  const auto ta = a.AsText();
  const auto tb = b.AsText();
  if (ta && tb) {
    if (ta->size() != tb->size()) return false;
    steps += ta->size() / 16;
    return *ta == *tb;
  }
  const CelDocument* da = a.As<CelDocument>();
  const CelDocument* db = b.As<CelDocument>();
  if (da && db) {
    steps += JsonNodes(*da->json);
    return *da->json == *db->json;
  }
  if (a.IsList() && b.IsList()) return EqualLists(a, b, steps);
  if (a.IsMap() && b.IsMap()) return EqualMaps(a, b, steps);
  if (a.data.index() != b.data.index()) return false;
  if (const bool* x = a.As<bool>()) return *x == *b.As<bool>();
  if (a.As<CelNull>()) return true;
  if (const CelDuration* x = a.As<CelDuration>()) return *x == *b.As<CelDuration>();
  if (const CelTimestamp* x = a.As<CelTimestamp>()) return *x == *b.As<CelTimestamp>();
  if (const CelType* x = a.As<CelType>()) return *x == *b.As<CelType>();
  return false;
}

std::optional<int> CelCompare(const CelValue& a, const CelValue& b) {
  if (a.IsNumber() && b.IsNumber()) return OrderNumbers(a, b);
  if (a.data.index() != b.data.index()) return std::nullopt;
  if (const bool* x = a.As<bool>()) return Order(*x, *b.As<bool>());
  if (const CelString* x = a.As<CelString>()) return Order(x->view, b.As<CelString>()->view);
  if (const CelDuration* x = a.As<CelDuration>()) return Order(*x, *b.As<CelDuration>());
  if (const CelTimestamp* x = a.As<CelTimestamp>()) return Order(*x, *b.As<CelTimestamp>());
  return std::nullopt;
}

std::optional<CelDuration> ParseCelDuration(std::string_view text) {
  const bool negative = !text.empty() && text[0] == '-';
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  if (text == "0") return CelDuration{0};
  if (text.empty() || text.size() > 64) return std::nullopt;
  struct Unit {
    std::string_view name;
    double nanos;
  };
  constexpr Unit kUnits[] = {{"ns", 1},  {"us", 1e3}, {"\u00b5s", 1e3}, {"ms", 1e6},
                             {"s", 1e9}, {"m", 6e10}, {"h", 3.6e12}};
  long double total = 0;
  while (!text.empty()) {
    double number = 0;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    if (error != std::errc() || number < 0 || end == text.data()) return std::nullopt;
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    const size_t length = std::min(text.find_first_of("0123456789."), text.size());
    const Unit* found = nullptr;
    for (const Unit& unit : kUnits) {
      if (unit.name == text.substr(0, length)) found = &unit;
    }
    if (!found) return std::nullopt;
    total += static_cast<long double>(number) * static_cast<long double>(found->nanos);
    text.remove_prefix(length);
  }
  if (total > 9.2e18L) return std::nullopt;
  const int64_t nanos = static_cast<int64_t>(total + 0.5L);
  return CelDuration{negative ? -nanos : nanos};
}

std::optional<CelTimestamp> ParseCelTimestamp(std::string_view text) {
  const auto time = base::ParseTime(text);
  if (!time) return std::nullopt;
  return CelTimestamp{time->time_since_epoch().count() * 1000};
}

std::string FormatCelDuration(CelDuration duration) {
  const double seconds = static_cast<double>(duration.nanos) / 1e9;
  return fmt::format("{}s", seconds);
}

std::string FormatCelTimestamp(CelTimestamp time) {
  const base::WallTime wall{base::Millis(time.micros / 1000)};
  if (time.micros % 1'000'000 == 0) return base::FormatTime(wall);
  return base::FormatMicroTime(wall);
}

size_t CodePoints(std::string_view text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

}  // namespace apiserver
