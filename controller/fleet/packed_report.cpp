#include "fleet/packed_report.hpp"

#include <array>
#include <bit>
#include <cstdint>

namespace fleet {
namespace {

enum Present : uint32_t {
  kByName = 1U << 0,  ///< The workspace was named by namespace.name, not by UID.
  kTime = 1U << 1,
  kActiveTasks = 1U << 2,
  kErrorRate = 1U << 3,
  kUptime = 1U << 4,
  kSpend = 1U << 5,
  kManagementKnown = 1U << 6,
  kManagement = 1U << 7,
  kModelKnown = 1U << 8,
  kModel = 1U << 9,
  kTools = 1U << 10,
  kBootInstall = 1U << 11,
};

/// Of an inventory's item, beside 1 for loaded.
constexpr unsigned kNewerKnown = 2, kNewer = 4;

constexpr std::string_view kSha256 = "sha256:";

constexpr std::string_view kDigits = "0123456789abcdef";

/// What a byte is worth as a hex digit; -1 if it is none. Each heartbeat's digest goes through it.
constexpr std::array<int8_t, 256> kHexValues = [] {
  std::array<int8_t, 256> values{};
  values.fill(-1);
  for (size_t i = 0; i < kDigits.size(); ++i)
    values[static_cast<uint8_t>(kDigits[i])] = static_cast<int8_t>(i);
  return values;
}();

class Writer {
 public:
  explicit Writer(std::string& out) : out_(out) { out_.clear(); }
  void Number(uint64_t value) {
    for (; value >= 0x80; value >>= 7) out_.push_back(static_cast<char>(value | 0x80));
    out_.push_back(static_cast<char>(value));
  }
  void Signed(int64_t value) {
    Number((static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63));
  }
  void Fixed(double value) {
    const auto bits = std::bit_cast<uint64_t>(value);
    for (int shift = 0; shift < 64; shift += 8) out_.push_back(static_cast<char>(bits >> shift));
  }
  void Text(std::string_view text) {
    Number(text.size());
    out_.append(text);
  }
  /// Half as long if it is a digest as this project writes them.
  void Digest(std::string_view text) {
    if (text.starts_with(kSha256) && HexBytes(text.substr(kSha256.size()))) return;
    Number(text.size() << 1);
    out_.append(text);
  }

 private:
  /// False, and nothing written, if `hex` is not hex digits in pairs.
  bool HexBytes(std::string_view hex) {
    if (hex.size() % 2 != 0) return false;
    const size_t before = out_.size();
    Number(hex.size() / 2 << 1 | 1);
    const size_t at = out_.size();
    out_.resize(at + hex.size() / 2);
    int all = 0;  // Negative as soon as one digit is none.
    for (size_t i = 0; i < hex.size(); i += 2) {
      const int value = kHexValues[static_cast<uint8_t>(hex[i])] * 16 |
                        kHexValues[static_cast<uint8_t>(hex[i + 1])];
      all |= value;
      out_[at + i / 2] = static_cast<char>(value);
    }
    if (all < 0) out_.resize(before);
    return all >= 0;
  }

  std::string& out_;
};

class Reader {
 public:
  explicit Reader(std::string_view in) : in_(in) {}
  uint64_t Number() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && !in_.empty(); shift += 7) {
      const auto byte = static_cast<uint8_t>(in_.front());
      in_.remove_prefix(1);
      value |= uint64_t{byte & 0x7FU} << shift;
      if ((byte & 0x80) == 0) break;
    }
    return value;
  }
  int64_t Signed() {
    const uint64_t value = Number();
    return static_cast<int64_t>(value >> 1) ^ -static_cast<int64_t>(value & 1);
  }
  double Fixed() {
    const std::string_view bytes = Bytes(8);
    uint64_t bits = 0;
    for (size_t i = bytes.size(); i > 0; --i) bits = bits << 8 | static_cast<uint8_t>(bytes[i - 1]);
    return std::bit_cast<double>(bits);
  }
  void Text(std::string& out) { out.assign(Bytes(Number())); }
  void Digest(std::string& out) {
    const uint64_t head = Number();
    const std::string_view bytes = Bytes(head >> 1);
    if ((head & 1) == 0) return void(out.assign(bytes));
    out.assign(kSha256);
    out.resize(kSha256.size() + bytes.size() * 2);
    char* digit = out.data() + kSha256.size();
    for (const char c : bytes) {
      *digit++ = kDigits[static_cast<uint8_t>(c) >> 4];
      *digit++ = kDigits[static_cast<uint8_t>(c) & 15];
    }
  }

 private:
  std::string_view Bytes(uint64_t count) {
    const std::string_view bytes = in_.substr(0, count);
    in_.remove_prefix(bytes.size());
    return bytes;
  }
  std::string_view in_;
};

uint32_t FlagsOf(const protocol::Heartbeat& report, const SlotSettings& of) {
  uint32_t flags = 0;
  const auto set = [&](bool on, Present flag) { flags |= on ? uint32_t{flag} : 0U; };
  set(report.workspace != of.uid, kByName);
  set(report.time.has_value(), kTime);
  set(report.active_tasks.has_value(), kActiveTasks);
  set(report.error_rate.has_value(), kErrorRate);
  set(report.uptime_seconds.has_value(), kUptime);
  set(report.monthly_spend.has_value(), kSpend);
  set(report.management_present.has_value(), kManagementKnown);
  set(report.management_present.value_or(false), kManagement);
  set(report.model_present.has_value(), kModelKnown);
  set(report.model_present.value_or(false), kModel);
  set(report.loaded_tools.has_value(), kTools);
  set(report.boot_install.has_value(), kBootInstall);
  return flags;
}

/// A pair of flags: whether it is known, and what it is.
std::optional<bool> Known(uint32_t flags, Present known, Present value) {
  if ((flags & known) == 0) return std::nullopt;
  return (flags & value) != 0;
}

}  // namespace

void PackReport(const protocol::Heartbeat& report, const SlotSettings& of, std::string& out) {
  Writer writer(out);
  writer.Number(FlagsOf(report, of));
  writer.Text(report.boot_id);
  writer.Signed(report.sequence);
  writer.Text(report.agent_version);
  writer.Text(report.runtime);
  writer.Text(report.current_task);
  writer.Text(report.sample_error);
  writer.Digest(report.inventory_digest);
  if (report.time) writer.Signed(report.time->time_since_epoch().count());
  if (report.active_tasks) writer.Signed(*report.active_tasks);
  if (report.error_rate) writer.Fixed(*report.error_rate);
  if (report.uptime_seconds) writer.Signed(*report.uptime_seconds);
  if (report.monthly_spend) writer.Fixed(*report.monthly_spend);
  if (report.loaded_tools) {
    writer.Number(report.loaded_tools->size());
    for (const std::string& tool : *report.loaded_tools) writer.Text(tool);
  }
  if (report.boot_install) {
    writer.Number(static_cast<uint64_t>(report.boot_install->state));
    writer.Text(report.boot_install->error);
  }
}

void UnpackReport(std::string_view packed, const SlotSettings& of, protocol::Heartbeat& out) {
  Reader reader(packed);
  const auto flags = static_cast<uint32_t>(reader.Number());
  out.workspace = of.uid;
  if ((flags & kByName) != 0) out.workspace = of.key.ns + "." + of.key.name;
  reader.Text(out.boot_id);
  out.sequence = reader.Signed();
  reader.Text(out.agent_version);
  reader.Text(out.runtime);
  reader.Text(out.current_task);
  reader.Text(out.sample_error);
  reader.Digest(out.inventory_digest);
  out.answer_tag.clear();
  out.time.reset();
  if ((flags & kTime) != 0) out.time = base::WallTime{base::WallTime::duration{reader.Signed()}};
  out.active_tasks.reset();
  if ((flags & kActiveTasks) != 0) out.active_tasks = static_cast<int32_t>(reader.Signed());
  out.error_rate.reset();
  if ((flags & kErrorRate) != 0) out.error_rate = reader.Fixed();
  out.uptime_seconds.reset();
  if ((flags & kUptime) != 0) out.uptime_seconds = reader.Signed();
  out.monthly_spend.reset();
  if ((flags & kSpend) != 0) out.monthly_spend = reader.Fixed();
  out.management_present = Known(flags, kManagementKnown, kManagement);
  out.model_present = Known(flags, kModelKnown, kModel);
  out.loaded_tools.reset();
  if ((flags & kTools) != 0) {
    auto& tools = out.loaded_tools.emplace(reader.Number());
    for (std::string& tool : tools) reader.Text(tool);
  }
  out.boot_install.reset();
  if ((flags & kBootInstall) != 0) {
    auto& install = out.boot_install.emplace();
    install.state = static_cast<protocol::BootInstallState>(reader.Number());
    reader.Text(install.error);
  }
  out.inventory.reset();
}

PackedInventory PackInventory(const std::optional<std::vector<protocol::InventoryItem>>& inventory,
                              TextPool& pool) {
  if (!inventory) return std::nullopt;
  PackedInventory packed(std::in_place);
  packed->reserve(inventory->size());
  std::string bytes;
  for (const protocol::InventoryItem& item : *inventory) {
    Writer writer(bytes);
    writer.Text(item.name);
    writer.Text(item.revision);
    writer.Digest(item.digest);
    const auto& newer = item.activated_this_boot;
    writer.Number((item.loaded ? 1U : 0U) | (newer ? kNewerKnown : 0U) |
                  (newer.value_or(false) ? kNewer : 0U));
    packed->push_back(pool.Share(bytes));
  }
  return packed;
}

std::optional<std::vector<protocol::InventoryItem>> UnpackInventory(const PackedInventory& packed) {
  if (!packed) return std::nullopt;
  std::optional<std::vector<protocol::InventoryItem>> inventory(std::in_place);
  for (const TextPool::Text& bytes : *packed) {
    Reader reader(*bytes);
    protocol::InventoryItem& item = inventory->emplace_back();
    reader.Text(item.name);
    reader.Text(item.revision);
    reader.Digest(item.digest);
    const uint64_t flags = reader.Number();
    item.loaded = (flags & 1) != 0;
    if ((flags & kNewerKnown) != 0) item.activated_this_boot = (flags & kNewer) != 0;
  }
  return inventory;
}

}  // namespace fleet
