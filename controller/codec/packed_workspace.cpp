#include "codec/packed_workspace.hpp"

#include <algorithm>
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

/// Leading bytes that two texts share.
size_t CommonPrefix(std::string_view a, std::string_view b) {
  const size_t most = std::min(a.size(), b.size());
  return static_cast<size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(most), b.begin()).first -
      a.begin());
}
constexpr size_t kWorthSharing = 4;  ///< Leading bytes, to be left out.

/// Writes into two streams while it is in a group (wire::Grouping): what many objects have alike,
/// and what is an object's own. Outside of groups both are the same.
class Packer {
 public:
  Packer(StringInterner& interner, int64_t generation)
      : interner_(interner), generation_(generation) {}

  /// A bitmap of the members that differ from the default, then those members.
  template <Described S>
  void Put(const S& value, unsigned = 0) {
    if constexpr (wire::kGrouping<S> == wire::Grouping::kEach) {
      if (!grouped_) return PutGroup([&] { PutStruct(value); });
    }
    PutStruct(value);
  }
  std::string Take() {
    own_.shrink_to_fit();
    return std::move(own_);
  }

 private:
  template <class S, class Each>
  static void Visit(const Each& each) {
    static const S kDefault{};
    size_t i = 0;
    std::apply([&](const auto&... field) { (each(i++, field, kDefault.*field.member), ...); },
               FieldsOf<S>::kList);
  }
  template <class S>
  void PutStruct(const S& value) {
    uint64_t bitmap = 0;
    Visit<S>([&](size_t i, const auto& field, const auto& normal) {
      if (value.*field.member != normal) bitmap |= uint64_t{1} << i;
    });
    PutVarint(Alike(), bitmap);
    Visit<S>([&](size_t i, const auto& field, const auto&) {
      if ((bitmap >> i & 1) != 0) PutMember(value.*field.member, field.flags);
    });
  }
  /// The number of what is alike plus one, then the own values; or 0 and everything, each text by
  /// itself, when the interner takes no more.
  template <class PutAll>
  void PutGroup(const PutAll& put_all) {
    const size_t start = own_.size();
    const int64_t seconds = last_seconds_;
    const std::string_view plain = last_plain_;
    alike_.clear();
    grouped_ = true;
    put_all();
    grouped_ = false;
    if (const auto number = interner_.Intern(alike_)) {
      char head[10];
      size_t size = 0;
      for (uint64_t left = uint64_t{*number} + 1; left != 0; left >>= 7)
        head[size++] = static_cast<char>(left >= 0x80 ? left | 0x80 : left);
      own_.insert(start, head, size);
      return;
    }
    own_.resize(start);
    last_seconds_ = seconds;
    last_plain_ = plain;
    PutVarint(own_, 0);
    put_all();
  }
  std::string& Alike() { return grouped_ ? alike_ : own_; }
  std::string& Place(unsigned flags) { return (flags & wire::kShared) != 0 ? Alike() : own_; }

  template <class T>
  void PutMember(const T& value, unsigned flags) {
    // A bool that differs from its default needs no more than its bit.
    if constexpr (!std::is_same_v<T, bool>) Put(value, flags);
  }
  static void PutVarint(std::string& out, uint64_t value) {
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
    out.push_back(static_cast<char>(value));
  }
  void Put(int32_t value, unsigned flags) { PutVarint(Place(flags), ZigZag(value)); }
  void Put(int64_t value, unsigned flags) {
    if ((flags & wire::kGeneration) == 0) return PutVarint(Place(flags), ZigZag(value));
    PutVarint(Alike(), ZigZag(static_cast<int64_t>(static_cast<uint64_t>(value) -
                                                   static_cast<uint64_t>(generation_))));
  }
  void Put(bool value, unsigned) { PutVarint(Alike(), value ? 1 : 0); }
  template <Enumerated E>
  void Put(E value, unsigned) {
    PutVarint(Alike(), static_cast<uint64_t>(value));
  }
  void Put(base::WallTime time, unsigned) {
    const auto whole = std::chrono::floor<base::Seconds>(time);
    const int64_t seconds = whole.time_since_epoch().count();
    const auto millis = static_cast<uint64_t>((time - whole).count());
    PutVarint(own_, ZigZag(seconds - last_seconds_) << 1 | (millis != 0 ? 1 : 0));
    if (millis != 0) PutVarint(own_, millis);
    last_seconds_ = seconds;
  }
  void Put(const std::string& text, unsigned flags) {
    if (grouped_ && (flags & wire::kShared) != 0) {
      PutVarint(alike_, text.size());
      alike_.append(text);
      return;
    }
    if ((flags & wire::kUid) != 0) {
      const std::string bytes = UuidBytes(text);
      if (!bytes.empty()) return PutSpecial(bytes);
    } else if ((flags & wire::kNumber) != 0) {
      if (const auto number = Decimal(text)) {
        PutVarint(own_, 0);
        return PutVarint(own_, *number);
      }
    }
    if (flags == wire::kPlain || flags == wire::kAlways) return PutPlain(text);
    const uint64_t shift = (flags & (wire::kUid | wire::kNumber)) != 0 ? 1 : 0;  // 0 is taken.
    if (const auto number = Number(text, flags))
      return PutVarint(own_, (uint64_t{*number} << 1 | 1) + shift);
    PutVarint(own_, (static_cast<uint64_t>(text.size()) << 1) + shift);
    own_.append(text);
  }
  /// Without the beginning that it shares with the plain text before it: names often do.
  void PutPlain(const std::string& text) {
    const size_t common = CommonPrefix(last_plain_, text);
    const bool shorter = common >= kWorthSharing;
    PutVarint(own_, static_cast<uint64_t>(text.size()) << 1 | (shorter ? 1 : 0));
    if (shorter) PutVarint(own_, common);
    own_.append(text, shorter ? common : 0);
    last_plain_ = text;  // The object outlives the packer.
  }
  void PutSpecial(const std::string& bytes) {
    PutVarint(own_, 0);
    own_.append(bytes);
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
    if constexpr (wire::kGrouping<T> == wire::Grouping::kList) {
      if (!grouped_) return PutGroup([&] { PutList(list, flags); });
    }
    PutList(list, flags);
  }
  template <class T>
  void PutList(const std::vector<T>& list, unsigned flags) {
    PutVarint(Alike(), list.size());
    for (const T& item : list) Put(item, flags);
  }
  void Put(const std::map<std::string, std::string>& map, unsigned flags) {
    PutVarint(Alike(), map.size());
    for (const auto& [key, value] : map) {
      Put(key, wire::kShared);
      Put(value, (flags & wire::kTrimmed) != 0 ? wire::kPlain : wire::kShared);
    }
  }

  StringInterner& interner_;
  const int64_t generation_;
  std::string own_;
  std::string alike_;
  bool grouped_ = false;
  int64_t last_seconds_ = kEpochSeconds;
  std::string_view last_plain_;
};

/// Reads what Packer wrote, from the same two streams.
class Unpacker {
 public:
  Unpacker(std::string_view in, const StringInterner& interner) : own_(in), interner_(interner) {}

  bool Good() const { return good_; }
  bool AtEnd() const { return own_.empty(); }
  void SetGeneration(int64_t generation) { generation_ = generation; }

  template <Described S>
  void Get(S& out, unsigned = 0) {
    if constexpr (wire::kGrouping<S> == wire::Grouping::kEach) {
      if (!grouped_) return GetGroup([&] { GetStruct(out); });
    }
    GetStruct(out);
  }
  /// The first two members of ObjectMeta.
  void Get(meta::ObjectKey& out) {
    const uint64_t bitmap = GetVarint(own_);
    static_assert(std::get<0>(FieldsOf<meta::ObjectMeta>::kList).member == &meta::ObjectMeta::ns);
    static_assert(std::get<1>(FieldsOf<meta::ObjectMeta>::kList).member == &meta::ObjectMeta::name);
    GetMember(bitmap & 1, out.ns, wire::kShared);
    GetMember(bitmap >> 1 & 1, out.name, wire::kPlain);
  }

 private:
  template <class S>
  void GetStruct(S& out) {
    const uint64_t bitmap = GetVarint(Alike());
    size_t i = 0;
    std::apply(
        [&](const auto&... field) {
          (GetMember(bitmap >> i++ & 1, out.*field.member, field.flags), ...);
        },
        FieldsOf<S>::kList);
  }
  template <class GetAll>
  void GetGroup(const GetAll& get_all) {
    const uint64_t head = GetVarint(own_);
    if (!good_ || head == 0) return get_all();
    const auto alike = interner_.Find(static_cast<uint32_t>(head - 1));
    good_ = alike.has_value();
    if (!good_) return;
    alike_ = *alike;
    grouped_ = true;
    get_all();
    grouped_ = false;
    good_ = good_ && alike_.empty();
  }
  std::string_view& Alike() { return grouped_ ? alike_ : own_; }
  std::string_view& Place(unsigned flags) { return (flags & wire::kShared) != 0 ? Alike() : own_; }

  template <class T>
  void GetMember(bool present, T& out, unsigned flags) {
    if (!present || !good_) return;
    if constexpr (std::is_same_v<T, bool>) {
      out = !out;
    } else {
      Get(out, flags);
    }
  }
  std::string_view GetBytes(std::string_view& in, uint64_t count) {
    if (count > in.size()) {
      good_ = false;
      return {};
    }
    const std::string_view bytes = in.substr(0, count);
    in.remove_prefix(count);
    return bytes;
  }
  uint64_t GetVarint(std::string_view& in) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const std::string_view byte = GetBytes(in, 1);
      if (byte.empty()) return 0;
      value |= (static_cast<uint64_t>(byte[0]) & 0x7F) << shift;
      if ((byte[0] & 0x80) == 0) return value;
    }
    good_ = false;
    return 0;
  }
  void Get(int32_t& out, unsigned flags) {
    out = static_cast<int32_t>(UnZigZag(GetVarint(Place(flags))));
  }
  void Get(int64_t& out, unsigned flags) {
    if ((flags & wire::kGeneration) == 0) return void(out = UnZigZag(GetVarint(Place(flags))));
    out = static_cast<int64_t>(static_cast<uint64_t>(UnZigZag(GetVarint(Alike()))) +
                               static_cast<uint64_t>(generation_));
  }
  void Get(bool& out, unsigned) { out = GetVarint(Alike()) != 0; }
  template <Enumerated E>
  void Get(E& out, unsigned) {
    const uint64_t value = GetVarint(Alike());
    good_ = good_ && value < wire::WordsOf<E>::kWords.size();
    if (good_) out = static_cast<E>(value);
  }
  void Get(base::WallTime& out, unsigned) {
    const uint64_t head = GetVarint(own_);
    const auto seconds = static_cast<int64_t>(static_cast<uint64_t>(last_seconds_) +
                                              static_cast<uint64_t>(UnZigZag(head >> 1)));
    const uint64_t millis = (head & 1) != 0 ? GetVarint(own_) : 0;
    constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 1000 - 1;
    good_ = good_ && seconds >= -kMost && seconds <= kMost && millis < 1000;
    if (!good_) return;
    last_seconds_ = seconds;
    out = base::WallTime{base::Seconds{last_seconds_}} + base::Millis{static_cast<int64_t>(millis)};
  }
  void Get(std::string& out, unsigned flags) {
    if (grouped_ && (flags & wire::kShared) != 0) {
      const uint64_t size = GetVarint(alike_);
      return void(out.assign(GetBytes(alike_, size)));
    }
    uint64_t head = GetVarint(own_);
    if (flags == wire::kPlain || flags == wire::kAlways) return GetPlain(head, out);
    if ((flags & (wire::kUid | wire::kNumber)) != 0) {
      if (head == 0 && (flags & wire::kUid) != 0) return void(out = UuidText(GetBytes(own_, 16)));
      if (head == 0) return void(out = std::to_string(GetVarint(own_)));
      --head;
    }
    if ((head & 1) == 0) return void(out.assign(GetBytes(own_, head >> 1)));
    const auto text = interner_.Find(static_cast<uint32_t>(head >> 1));
    good_ = good_ && text.has_value();
    if (good_) out.assign(*text);
  }
  void GetPlain(uint64_t head, std::string& out) {
    const uint64_t size = head >> 1;
    const uint64_t common = (head & 1) != 0 ? GetVarint(own_) : 0;
    good_ = good_ && common <= size && common <= last_plain_.size();
    if (!good_) return;
    last_plain_.resize(common);
    last_plain_.append(GetBytes(own_, size - common));
    out = last_plain_;
  }
  template <class T>
  void Get(std::optional<T>& out, unsigned flags) {
    Get(out.emplace(), flags);
  }
  template <class T>
  void Get(std::vector<T>& out, unsigned flags) {
    if constexpr (wire::kGrouping<T> == wire::Grouping::kList) {
      if (!grouped_) return GetGroup([&] { GetList(out, flags); });
    }
    GetList(out, flags);
  }
  template <class T>
  void GetList(std::vector<T>& out, unsigned flags) {
    const uint64_t count = GetVarint(Alike());
    good_ = good_ && count <= own_.size() + alike_.size();  // Every item takes a byte or more.
    if (!good_) return;
    out.resize(count);
    for (size_t i = 0; good_ && i < out.size(); ++i) Get(out[i], flags);
  }
  void Get(std::map<std::string, std::string>& out, unsigned flags) {
    for (uint64_t left = GetVarint(Alike()); good_ && left > 0; --left) {
      std::string key, value;
      Get(key, wire::kShared);
      Get(value, (flags & wire::kTrimmed) != 0 ? wire::kPlain : wire::kShared);
      out.emplace_hint(out.end(), std::move(key), std::move(value));
    }
  }

  std::string_view own_;
  std::string_view alike_;
  const StringInterner& interner_;
  int64_t generation_ = 0;
  bool grouped_ = false;
  int64_t last_seconds_ = kEpochSeconds;
  std::string last_plain_;
  bool good_ = true;
};

base::Error Damaged() {
  return base::MakeError(base::Code::kInternal, "the packed object is damaged");
}

template <class Object>
std::string PackObject(const Object& object, StringInterner& interner) {
  Packer packer(interner, object.meta.generation);
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
  unpacker.SetGeneration(object.meta.generation);
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
  Packer packer(interner, meta.generation);
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
