#include "apiserver/wire/protobuf.hpp"

#include <fmt/format.h>

#include <optional>
#include <span>
#include <string>
#include <utility>

#include "apiserver/wire/object_text.hpp"
#include "base/base64.hpp"
#include "base/clock.hpp"

namespace apiserver {
namespace {

enum class Type { kText, kBytes, kInt, kBool, kMessage, kTime, kMicroTime, kTextMap, kBytesMap };

struct FieldRow {
  int number;
  const char* name;
  Type type;
  bool repeated = false;
  std::span<const FieldRow> message = {};
};

// The numbers are those of the generated.proto files of k8s.io/api and k8s.io/apimachinery.
constexpr FieldRow kOwner[] = {
    {1, "kind", Type::kText},       {3, "name", Type::kText},
    {4, "uid", Type::kText},        {5, "apiVersion", Type::kText},
    {6, "controller", Type::kBool}, {7, "blockOwnerDeletion", Type::kBool}};
constexpr FieldRow kMeta[] = {{1, "name", Type::kText},
                              {2, "generateName", Type::kText},
                              {3, "namespace", Type::kText},
                              {5, "uid", Type::kText},
                              {6, "resourceVersion", Type::kText},
                              {7, "generation", Type::kInt},
                              {11, "labels", Type::kTextMap},
                              {12, "annotations", Type::kTextMap},
                              {13, "ownerReferences", Type::kMessage, true, kOwner},
                              {14, "finalizers", Type::kText, true}};
constexpr FieldRow kSecret[] = {{1, "metadata", Type::kMessage, false, kMeta},
                                {2, "data", Type::kBytesMap},
                                {3, "type", Type::kText},
                                {4, "stringData", Type::kTextMap},
                                {5, "immutable", Type::kBool}};
constexpr FieldRow kConfigMap[] = {{1, "metadata", Type::kMessage, false, kMeta},
                                   {2, "data", Type::kTextMap},
                                   {3, "binaryData", Type::kBytesMap},
                                   {4, "immutable", Type::kBool}};
constexpr FieldRow kNamespaceSpec[] = {{1, "finalizers", Type::kText, true}};
constexpr FieldRow kNamespaceStatus[] = {{1, "phase", Type::kText}};
constexpr FieldRow kNamespace[] = {{1, "metadata", Type::kMessage, false, kMeta},
                                   {2, "spec", Type::kMessage, false, kNamespaceSpec},
                                   {3, "status", Type::kMessage, false, kNamespaceStatus}};
constexpr FieldRow kLeaseSpec[] = {{1, "holderIdentity", Type::kText},
                                   {2, "leaseDurationSeconds", Type::kInt},
                                   {3, "acquireTime", Type::kMicroTime},
                                   {4, "renewTime", Type::kMicroTime},
                                   {5, "leaseTransitions", Type::kInt}};
constexpr FieldRow kLease[] = {{1, "metadata", Type::kMessage, false, kMeta},
                               {2, "spec", Type::kMessage, false, kLeaseSpec}};
constexpr FieldRow kResourceAttributes[] = {
    {1, "namespace", Type::kText}, {2, "verb", Type::kText},     {3, "group", Type::kText},
    {4, "version", Type::kText},   {5, "resource", Type::kText}, {6, "subresource", Type::kText},
    {7, "name", Type::kText}};
constexpr FieldRow kNonResourceAttributes[] = {{1, "path", Type::kText}, {2, "verb", Type::kText}};
constexpr FieldRow kSelfAccessSpec[] = {
    {1, "resourceAttributes", Type::kMessage, false, kResourceAttributes},
    {2, "nonResourceAttributes", Type::kMessage, false, kNonResourceAttributes}};
constexpr FieldRow kSelfAccess[] = {{1, "metadata", Type::kMessage, false, kMeta},
                                    {2, "spec", Type::kMessage, false, kSelfAccessSpec}};
constexpr FieldRow kAccessSpec[] = {
    {1, "resourceAttributes", Type::kMessage, false, kResourceAttributes},
    {2, "nonResourceAttributes", Type::kMessage, false, kNonResourceAttributes},
    {3, "user", Type::kText},
    {4, "groups", Type::kText, true},
    {6, "uid", Type::kText}};
constexpr FieldRow kAccess[] = {{1, "metadata", Type::kMessage, false, kMeta},
                                {2, "spec", Type::kMessage, false, kAccessSpec}};
constexpr FieldRow kRulesSpec[] = {{1, "namespace", Type::kText}};
constexpr FieldRow kRules[] = {{1, "metadata", Type::kMessage, false, kMeta},
                               {2, "spec", Type::kMessage, false, kRulesSpec}};
constexpr FieldRow kSelf[] = {{1, "metadata", Type::kMessage, false, kMeta}};
constexpr FieldRow kTokenSpec[] = {{1, "token", Type::kText}, {2, "audiences", Type::kText, true}};
constexpr FieldRow kToken[] = {{1, "metadata", Type::kMessage, false, kMeta},
                               {2, "spec", Type::kMessage, false, kTokenSpec}};
constexpr FieldRow kPreconditions[] = {{1, "uid", Type::kText},
                                       {2, "resourceVersion", Type::kText}};
constexpr FieldRow kDeleteOptions[] = {{1, "gracePeriodSeconds", Type::kInt},
                                       {2, "preconditions", Type::kMessage, false, kPreconditions},
                                       {3, "orphanDependents", Type::kBool},
                                       {4, "propagationPolicy", Type::kText},
                                       {5, "dryRun", Type::kText, true}};

struct KindRow {
  const char* kind;
  std::span<const FieldRow> fields;
};
constexpr KindRow kKinds[] = {{"Secret", kSecret},
                              {"ConfigMap", kConfigMap},
                              {"Namespace", kNamespace},
                              {"Lease", kLease},
                              {"SelfSubjectAccessReview", kSelfAccess},
                              {"SubjectAccessReview", kAccess},
                              {"LocalSubjectAccessReview", kAccess},
                              {"SelfSubjectRulesReview", kRules},
                              {"SelfSubjectReview", kSelf},
                              {"TokenReview", kToken},
                              {"DeleteOptions", kDeleteOptions}};
constexpr FieldRow kTypeMeta[] = {{1, "apiVersion", Type::kText}, {2, "kind", Type::kText}};
constexpr FieldRow kUnknown[] = {{1, "typeMeta", Type::kMessage, false, kTypeMeta},
                                 {2, "raw", Type::kBytes}};

constexpr int kDepthLimit = 16;
constexpr std::string_view kMagic("k8s\0", 4);

/// One field as it stands on the wire.
struct WireField {
  int number = 0;
  uint64_t integer = 0;    ///< Wire types 0, 1 and 5.
  std::string_view bytes;  ///< Wire type 2.
  bool length_delimited = false;
};

class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : bytes_(bytes) {}
  bool AtEnd() const { return bytes_.empty(); }
  std::optional<WireField> Next() {
    uint64_t key = 0;
    if (!Varint(key)) return std::nullopt;
    WireField field;
    if ((key >> 3) == 0 || (key >> 3) > 536870911) return std::nullopt;
    field.number = static_cast<int>(key >> 3);
    switch (key & 7) {
      case 0:
        return Varint(field.integer) ? std::optional(field) : std::nullopt;
      case 1:
        return Fixed(8, field.integer) ? std::optional(field) : std::nullopt;
      case 5:
        return Fixed(4, field.integer) ? std::optional(field) : std::nullopt;
      case 2:
        break;
      default:
        return std::nullopt;
    }
    uint64_t size = 0;
    if (!Varint(size) || size > bytes_.size()) return std::nullopt;
    field.length_delimited = true;
    field.bytes = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return field;
  }

 private:
  bool Varint(uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (bytes_.empty()) return false;
      const auto byte = static_cast<uint8_t>(bytes_.front());
      bytes_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return true;
    }
    return false;
  }
  bool Fixed(size_t size, uint64_t& value) {
    if (bytes_.size() < size) return false;
    for (size_t i = 0; i < size; ++i)
      value |= static_cast<uint64_t>(static_cast<uint8_t>(bytes_[i])) << (8 * i);
    bytes_.remove_prefix(size);
    return true;
  }
  std::string_view bytes_;
};

bool ReadMessage(std::string_view bytes, std::span<const FieldRow> rows, codec::Json& out,
                 int depth);

bool ReadMapEntry(std::string_view bytes, bool binary, codec::Json& map) {
  std::string key;
  std::string value;
  WireReader reader(bytes);
  while (!reader.AtEnd()) {
    const auto field = reader.Next();
    if (!field || (field->number <= 2 && !field->length_delimited)) return false;
    if (field->number == 1) key = std::string(field->bytes);
    if (field->number == 2)
      value = binary ? base::EncodeBase64(field->bytes) : std::string(field->bytes);
  }
  map[key] = std::move(value);
  return true;
}

bool ReadTime(std::string_view bytes, bool micro, codec::Json& out) {
  int64_t seconds = 0;
  int64_t nanos = 0;
  WireReader reader(bytes);
  while (!reader.AtEnd()) {
    const auto field = reader.Next();
    if (!field) return false;
    if (field->number == 1) seconds = static_cast<int64_t>(field->integer);
    if (field->number == 2) nanos = static_cast<int64_t>(field->integer);
  }
  if (seconds < 0 || seconds > 253402300799 || nanos < 0 || nanos > 999'999'999) return false;
  const base::WallTime time{base::Millis(seconds * 1000 + nanos / 1'000'000)};
  out = micro ? base::FormatMicroTime(time) : base::FormatTime(time);
  return true;
}

/// The value of one field; a null document stands for "as good as absent" (Go writes empty texts
/// and zeros always).
bool ReadValue(const WireField& field, const FieldRow& row, codec::Json& out, int depth) {
  if (row.type == Type::kInt || row.type == Type::kBool) {
    if (field.length_delimited) return false;
    if (row.type == Type::kBool)
      out = field.integer != 0;
    else if (field.integer != 0)
      out = static_cast<int64_t>(field.integer);
    return true;
  }
  if (!field.length_delimited) return false;
  switch (row.type) {
    case Type::kText:
      if (!field.bytes.empty()) out = std::string(field.bytes);
      return true;
    case Type::kBytes:
      out = std::string(field.bytes);
      return true;
    case Type::kMessage:
      out = codec::Json::object();
      return ReadMessage(field.bytes, row.message, out, depth + 1);
    default:
      return ReadTime(field.bytes, row.type == Type::kMicroTime, out);
  }
}

bool ReadMessage(std::string_view bytes, std::span<const FieldRow> rows, codec::Json& out,
                 int depth) {
  if (depth > kDepthLimit) return false;
  WireReader reader(bytes);
  while (!reader.AtEnd()) {
    const auto field = reader.Next();
    if (!field) return false;
    const FieldRow* row = nullptr;
    for (const FieldRow& candidate : rows) {
      if (candidate.number == field->number) row = &candidate;
    }
    if (row == nullptr) continue;
    if (row->type == Type::kTextMap || row->type == Type::kBytesMap) {
      if (!field->length_delimited ||
          !ReadMapEntry(field->bytes, row->type == Type::kBytesMap, out[row->name]))
        return false;
      continue;
    }
    codec::Json value;
    if (!ReadValue(*field, *row, value, depth)) return false;
    if (value.is_null()) continue;
    if (row->repeated)
      out[row->name].push_back(std::move(value));
    else
      out[row->name] = std::move(value);
  }
  return true;
}

base::Error Malformed() {
  return base::MakeError(base::Code::kInvalid, "the protobuf body is malformed", "BadRequest");
}

}  // namespace

base::Result<codec::Json> DecodeProtobuf(std::string_view body) {
  if (!body.starts_with(kMagic))
    return base::MakeError(base::Code::kInvalid, "the body does not start with k8s\\0",
                           "BadRequest");
  codec::Json envelope = codec::Json::object();
  if (!ReadMessage(body.substr(kMagic.size()), kUnknown, envelope, 0)) return Malformed();
  const codec::Json& type = codec::GetMember(envelope, "typeMeta");
  const std::string kind = codec::GetString(type, "kind");
  for (const KindRow& row : kKinds) {
    if (kind != row.kind) continue;
    codec::Json object = codec::Json::object();
    const codec::Json& raw = codec::GetMember(envelope, "raw");
    if (raw.is_string() && !ReadMessage(raw.get_ref<const std::string&>(), row.fields, object, 0))
      return Malformed();
    object["apiVersion"] = codec::GetString(type, "apiVersion");
    object["kind"] = kind;
    return object;
  }
  return base::MakeError(base::Code::kInvalid,
                         fmt::format("kind {} is not understood as protobuf here: send JSON", kind),
                         "UnsupportedMediaType");
}

}  // namespace apiserver
