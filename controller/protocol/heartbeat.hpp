#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"

/// What an agent says to the operator (behaviour.md section 6), decoded straight from bytes.
namespace protocol {

inline constexpr size_t kHeartbeatBytes = 256 << 10;  ///< Largest body of a heartbeat or register.
inline constexpr int kHeartbeatDepth = 16;  ///< Deepest nesting, also inside unknown fields.
inline constexpr size_t kInventoryItems = 256;
inline constexpr size_t kLoadedTools = 1024;

enum class BootInstallState { kRunning, kDone, kFailed };

/// Wire words: Running, Done, Failed.
const char* BootInstallStateName(BootInstallState state);

struct BootInstall {
  BootInstallState state = BootInstallState::kRunning;
  std::string error;  ///< At most 1024 bytes; longer is cut.
  bool operator==(const BootInstall&) const = default;
};

/// One plugin on the box, as the agent sees it.
struct InventoryItem {
  std::string name;      ///< At most 128 bytes.
  std::string revision;  ///< From the receipt; empty without one.
  std::string digest;    ///< sha256:..., of the bytes now there; empty: not computed.
  bool loaded = false;   ///< The runtime's own report of the current boot lists it.
  /// Wire activatedThisBoot: its bytes came after this start of the runtime, which cannot have
  /// loaded them. False while not loaded: nothing of it has been reported, and another start would
  /// change nothing. Absent: an older agent, which does not tell the two apart.
  std::optional<bool> activated_this_boot = {};
  bool operator==(const InventoryItem&) const = default;
};

/// Wire names are the lowerCamelCase of the members (boot_id is bootID). The first three are
/// required.
struct Heartbeat {
  std::string workspace;  ///< UID, or namespace.name.
  std::string boot_id;    ///< One start of the runtime process; 1 to 128 bytes of [A-Za-z0-9._-].
  int64_t sequence = 0;   ///< >= 0, grows within a boot id.
  std::optional<base::WallTime> time;
  std::string agent_version;
  std::string runtime;
  std::optional<int32_t> active_tasks;    ///< Absent counts as busy.
  std::string current_task;               ///< Free text, cut at 512 bytes.
  std::optional<double> error_rate;       ///< 0..1
  std::string sample_error;               ///< Free text, cut at 1024 bytes.
  std::optional<int64_t> uptime_seconds;  ///< >= 0
  std::optional<double> monthly_spend;    ///< >= 0
  std::optional<bool> management_present;
  std::optional<bool> model_present;
  std::optional<std::vector<std::string>> loaded_tools;  ///< At most 1024 of 256 bytes.
  std::optional<BootInstall> boot_install;
  std::optional<std::vector<InventoryItem>>
      inventory;                 ///< Absent: unchanged since inventoryDigest was last acknowledged.
  std::string inventory_digest;  ///< See bundle's inventory digest.
  /// Wire box.identity, at most 256 bytes: which box this is, where the agent was told. Empty:
  /// what the last register said stands.
  std::string box_identity;
  std::string answer_tag;  ///< HeartbeatAnswer::tag of the answer that the agent still holds: while
                           ///< nothing in it has changed, the answer is a short one.
  bool operator==(const Heartbeat&) const = default;
};

/// The body of a register: a heartbeat, with the box's identity, and how the box is reached.
struct Register {
  Heartbeat heartbeat;
  bool pull = false;  ///< Wire box.pull: the operator cannot reach this box; the agent fetches what
                      ///< answers name.
  std::string address;  ///< At most 256 bytes.
  bool operator==(const Register&) const = default;
};

/// Decodes a heartbeat. Unknown fields are ignored (but must be well-formed JSON, at most 16 deep);
/// null counts as absent. kInvalid, naming the field: wrong types, numbers out of range or not JSON
/// (NaN), a known field twice, ids too long, lists too long, invalid UTF-8, trailing bytes, more
/// than kHeartbeatBytes. Free text that is too long is cut, not refused.
base::Result<Heartbeat> DecodeHeartbeat(std::string_view bytes);
/// The same into storage that is used again (its strings keep their capacity). `out` is undefined
/// after an error.
base::Status DecodeHeartbeatInto(std::string_view bytes, Heartbeat& out);
base::Result<Register> DecodeRegister(std::string_view bytes);

std::string EncodeHeartbeat(const Heartbeat& heartbeat);
std::string EncodeRegister(const Register& body);

}  // namespace protocol
