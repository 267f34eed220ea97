#include "codec/packed_workspace.hpp"

#include <charconv>
#include <limits>
#include <type_traits>

#include "codec/fields.hpp"

namespace codec {
namespace {

using wire::Described;
using wire::Enumerated;
using wire::FieldsOf;

/// Times are packed as differences from the time before them; the first one from here, which keeps
/// it short.
constexpr int64_t kEpochSeconds = 1'767'225'600;  // 2026-01-01T00:00:00Z

uint64_t ZigZag(int64_t value) {
  return (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
}
int64_t UnZigZag(uint64_t value) {
  return static_cast<int64_t>(value >> 1) ^ -static_cast<int64_t>(value & 1);
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}
bool IsDash(size_t position) {
  return position == 8 || position == 13 || position == 18 || position == 23;
}
/// The 16 bytes of a UUID in its canonical lower-case form; empty if it is anything else.
std::string UuidBytes(std::string_view text) {
  if (text.size() != 36) return {};
  std::string bytes;
  for (size_t i = 0; i < text.size(); ++i) {
    if (IsDash(i)) {
      if (text[i] != '-') return {};
      continue;
    }
    if (i + 1 >= text.size()) return {};
    const int high = HexDigit(text[i]), low = HexDigit(text[i + 1]);
    if (high < 0 || low < 0) return {};
    bytes.push_back(static_cast<char>(high * 16 + low));
    ++i;
  }
  return bytes;
}
std::string UuidText(std::string_view bytes) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  for (const char c : bytes) {
    if (IsDash(text.size())) text.push_back('-');
    text.push_back(kHex[static_cast<uint8_t>(c) >> 4]);
    text.push_back(kHex[static_cast<uint8_t>(c) & 15]);
  }
  return text;
}
/// The number that `text` is the shortest decimal form of.
std::optional<uint64_t> Decimal(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  if (text.size() > 1 && text[0] == '0') return std::nullopt;
  return value;
}

class Packer {
 public:
  explicit Packer(StringInterner& interner) : interner_(interner) {}

  /// A bitmap of the members that differ from the default, then those members.
  template <Described S>
  void Put(const S& value, unsigned = 0) {
    uint64_t bitmap = 0;
    Visit<S>([&](size_t i, const auto& field, const auto& normal) {
      if (value.*field.member != normal) bitmap |= uint64_t{1} << i;
    });
    PutVarint(bitmap);
    Visit<S>([&](size_t i, const auto& field, const auto&) {
      if ((bitmap >> i & 1) != 0) PutMember(value.*field.member, field.flags);
    });
  }
  std::string Take() {
    out_.shrink_to_fit();
    return std::move(out_);
  }

 private:
  template <class S, class Each>
  static void Visit(const Each& each) {
    static const S kDefault{};
    size_t i = 0;
    std::apply([&](const auto&... field) { (each(i++, field, kDefault.*field.member), ...); },
               FieldsOf<S>::kList);
  }

  template <class T>
  void PutMember(const T& value, unsigned flags) {
    // A bool that differs from its default needs no more than its bit.
    if constexpr (!std::is_same_v<T, bool>) Put(value, flags);
  }
  void PutVarint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) out_.push_back(static_cast<char>(value | 0x80));
    out_.push_back(static_cast<char>(value));
  }
  void Put(int32_t value, unsigned) { PutVarint(ZigZag(value)); }
  void Put(int64_t value, unsigned) { PutVarint(ZigZag(value)); }
  void Put(bool value, unsigned) { PutVarint(value ? 1 : 0); }
  template <Enumerated E>
  void Put(E value, unsigned) {
    PutVarint(static_cast<uint64_t>(value));
  }
  void Put(base::WallTime time, unsigned) {
    const auto whole = std::chrono::floor<base::Seconds>(time);
    const int64_t seconds = whole.time_since_epoch().count();
    const auto millis = static_cast<uint64_t>((time - whole).count());
    PutVarint(ZigZag(seconds - last_seconds_) << 1 | (millis != 0 ? 1 : 0));
    if (millis != 0) PutVarint(millis);
    last_seconds_ = seconds;
  }
  void Put(const std::string& text, unsigned flags) {
    if ((flags & wire::kUid) != 0) {
      const std::string bytes = UuidBytes(text);
      if (!bytes.empty()) return PutSpecial(bytes);
    } else if ((flags & wire::kNumber) != 0) {
      if (const auto number = Decimal(text)) {
        PutVarint(0);
        return PutVarint(*number);
      }
    }
    const uint64_t shift = (flags & (wire::kUid | wire::kNumber)) != 0 ? 1 : 0;  // 0 is taken.
    if (const auto number = Number(text, flags))
      return PutVarint((uint64_t{*number} << 1 | 1) + shift);
    PutVarint((static_cast<uint64_t>(text.size()) << 1) + shift);
    out_.append(text);
  }
  void PutSpecial(const std::string& bytes) {
    PutVarint(0);
    out_.append(bytes);
  }
  std::optional<uint32_t> Number(const std::string& text, unsigned flags) {
    if (text.size() < 2) return std::nullopt;  // As short inline.
    if ((flags & wire::kShared) != 0) return interner_.Intern(text);
    if ((flags & wire::kPerhaps) != 0) return interner_.InternRepeated(text);
    return std::nullopt;
  }
  template <class T>
  void Put(const std::optional<T>& value, unsigned flags) {
    Put(*value, flags);
  }
  template <class T>
  void Put(const std::vector<T>& list, unsigned flags) {
    PutVarint(list.size());
    for (const T& item : list) Put(item, flags);
  }
  void Put(const std::map<std::string, std::string>& map, unsigned flags) {
    PutVarint(map.size());
    for (const auto& [key, value] : map) {
      Put(key, wire::kShared);
      Put(value, (flags & wire::kTrimmed) != 0 ? wire::kPlain : wire::kShared);
    }
  }

  StringInterner& interner_;
  std::string out_;
  int64_t last_seconds_ = kEpochSeconds;
};

class Unpacker {
 public:
  Unpacker(std::string_view in, const StringInterner& interner) : in_(in), interner_(interner) {}

  bool Good() const { return good_; }
  bool AtEnd() const { return in_.empty(); }

  template <Described S>
  void Get(S& out, unsigned = 0) {
    const uint64_t bitmap = GetVarint();
    size_t i = 0;
    std::apply(
        [&](const auto&... field) {
          (GetMember(bitmap >> i++ & 1, out.*field.member, field.flags), ...);
        },
        FieldsOf<S>::kList);
  }
  /// The first two members of ObjectMeta.
  void Get(meta::ObjectKey& out) {
    const uint64_t bitmap = GetVarint();
    static_assert(std::get<0>(FieldsOf<meta::ObjectMeta>::kList).member == &meta::ObjectMeta::ns);
    static_assert(std::get<1>(FieldsOf<meta::ObjectMeta>::kList).member == &meta::ObjectMeta::name);
    GetMember(bitmap & 1, out.ns, wire::kShared);
    GetMember(bitmap >> 1 & 1, out.name, wire::kPlain);
  }

 private:
  template <class T>
  void GetMember(bool present, T& out, unsigned flags) {
    if (!present || !good_) return;
    if constexpr (std::is_same_v<T, bool>) {
      out = !out;
    } else {
      Get(out, flags);
    }
  }
  std::string_view GetBytes(uint64_t count) {
    if (count > in_.size()) {
      good_ = false;
      return {};
    }
    const std::string_view bytes = in_.substr(0, count);
    in_.remove_prefix(count);
    return bytes;
  }
  uint64_t GetVarint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const std::string_view byte = GetBytes(1);
      if (byte.empty()) return 0;
      value |= (static_cast<uint64_t>(byte[0]) & 0x7F) << shift;
      if ((byte[0] & 0x80) == 0) return value;
    }
    good_ = false;
    return 0;
  }
  void Get(int32_t& out, unsigned) { out = static_cast<int32_t>(UnZigZag(GetVarint())); }
  void Get(int64_t& out, unsigned) { out = UnZigZag(GetVarint()); }
  void Get(bool& out, unsigned) { out = GetVarint() != 0; }
  template <Enumerated E>
  void Get(E& out, unsigned) {
    const uint64_t value = GetVarint();
    good_ = good_ && value < wire::WordsOf<E>::kWords.size();
    if (good_) out = static_cast<E>(value);
  }
  void Get(base::WallTime& out, unsigned) {
    const uint64_t head = GetVarint();
    const auto seconds = static_cast<int64_t>(static_cast<uint64_t>(last_seconds_) +
                                              static_cast<uint64_t>(UnZigZag(head >> 1)));
    const uint64_t millis = (head & 1) != 0 ? GetVarint() : 0;
    constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 1000 - 1;
    good_ = good_ && seconds >= -kMost && seconds <= kMost && millis < 1000;
    if (!good_) return;
    last_seconds_ = seconds;
    out = base::WallTime{base::Seconds{last_seconds_}} + base::Millis{static_cast<int64_t>(millis)};
  }
  void Get(std::string& out, unsigned flags) {
    uint64_t head = GetVarint();
    if ((flags & (wire::kUid | wire::kNumber)) != 0) {
      if (head == 0 && (flags & wire::kUid) != 0) return void(out = UuidText(GetBytes(16)));
      if (head == 0) return void(out = std::to_string(GetVarint()));
      --head;
    }
    if ((head & 1) == 0) return void(out.assign(GetBytes(head >> 1)));
    const auto text = interner_.Find(static_cast<uint32_t>(head >> 1));
    good_ = good_ && text.has_value();
    if (good_) out.assign(*text);
  }
  template <class T>
  void Get(std::optional<T>& out, unsigned flags) {
    Get(out.emplace(), flags);
  }
  template <class T>
  void Get(std::vector<T>& out, unsigned flags) {
    const uint64_t count = GetVarint();
    good_ = good_ && count <= in_.size();  // Every item takes a byte or more.
    if (!good_) return;
    out.resize(count);
    for (size_t i = 0; good_ && i < out.size(); ++i) Get(out[i], flags);
  }
  void Get(std::map<std::string, std::string>& out, unsigned flags) {
    for (uint64_t left = GetVarint(); good_ && left > 0; --left) {
      std::string key, value;
      Get(key, wire::kShared);
      Get(value, (flags & wire::kTrimmed) != 0 ? wire::kPlain : wire::kShared);
      out.emplace_hint(out.end(), std::move(key), std::move(value));
    }
  }

  std::string_view in_;
  const StringInterner& interner_;
  int64_t last_seconds_ = kEpochSeconds;
  bool good_ = true;
};

base::Error Damaged() {
  return base::MakeError(base::Code::kInternal, "the packed object is damaged");
}

template <class Object>
std::string PackObject(const Object& object, StringInterner& interner) {
  Packer packer(interner);
  packer.Put(object.meta);
  packer.Put(object.spec);
  packer.Put(object.status);
  return packer.Take();
}

template <class Object>
base::Result<Object> UnpackObject(std::string_view packed, const StringInterner& interner) {
  Unpacker unpacker(packed, interner);
  Object object;
  unpacker.Get(object.meta);
  unpacker.Get(object.spec);
  unpacker.Get(object.status);
  if (!unpacker.Good() || !unpacker.AtEnd()) return Damaged();
  return object;
}

}  // namespace

std::string Pack(const api::Workspace& workspace, StringInterner& interner) {
  return PackObject(workspace, interner);
}
std::string Pack(const api::DeclaredPlugin& plugin, StringInterner& interner) {
  return PackObject(plugin, interner);
}
std::string Pack(const meta::ObjectMeta& meta, StringInterner& interner) {
  Packer packer(interner);
  packer.Put(meta);
  return packer.Take();
}

base::Result<api::Workspace> UnpackWorkspace(std::string_view packed,
                                             const StringInterner& interner) {
  return UnpackObject<api::Workspace>(packed, interner);
}
base::Result<api::DeclaredPlugin> UnpackDeclaredPlugin(std::string_view packed,
                                                       const StringInterner& interner) {
  return UnpackObject<api::DeclaredPlugin>(packed, interner);
}
base::Result<meta::ObjectMeta> UnpackMeta(std::string_view packed, const StringInterner& interner) {
  Unpacker unpacker(packed, interner);
  meta::ObjectMeta meta;
  unpacker.Get(meta);
  if (!unpacker.Good()) return Damaged();
  return meta;
}
base::Result<meta::ObjectKey> UnpackKey(std::string_view packed, const StringInterner& interner) {
  Unpacker unpacker(packed, interner);
  meta::ObjectKey key;
  unpacker.Get(key);
  if (!unpacker.Good()) return Damaged();
  return key;
}

}  // namespace codec
