#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"

/// What a box adapter says to the helper that runs inside the box (`workspace-operator
/// box-helper`), on its standard input and output.
///
/// ```
/// operator -> helper   Request, then for each delivery in order: Data* End
/// helper -> operator   Reply
/// frame                "MBX1" kind(1 byte) length(4 bytes, big endian) payload
/// ```
/// One request a run. The helper needs no end of input: it knows from the request what follows. An
/// answer counts only when it is whole and the helper's exit status is 0.
namespace protocol {

inline constexpr size_t kBoxDataBytes = 32 << 10;    ///< Largest payload that we make of a Data.
inline constexpr size_t kBoxRequestBytes = 1 << 20;  ///< Largest request.
inline constexpr size_t kBoxReplyBytes = 4 << 20;    ///< Largest reply.
inline constexpr size_t kBoxNames = 512;             ///< Names or deliveries of one request.

enum class FrameKind : char { kRequest = 'Q', kData = 'D', kEnd = 'E', kReply = 'R' };

/// Appends one frame to `out`.
void AppendFrame(std::string& out, FrameKind kind, std::string_view payload);

/// Takes frames off a byte stream that may be cut anywhere. Bytes before the first frame are
/// skipped (a login banner), at most 64 KiB; between frames there must be none.
class FrameReader {
 public:
  /// The payload dies with the call.
  using Sink = std::function<base::Status(FrameKind kind, std::string_view payload)>;
  /// Calls `sink` for each whole frame. kInvalid with reason BadFrame: no frame where one must be,
  /// an unknown kind, or a payload over its limit; or the sink's error.
  base::Status Push(std::string_view bytes, const Sink& sink);

 private:
  base::Result<bool> TakeOne(const Sink& sink);
  std::string pending_;
  size_t at_ = 0;
  size_t skipped_ = 0;
  bool begun_ = false;
};

/// One plugin whose tar follows the request (deliver), or whose bytes are there already (adopt), or
/// may be (probe).
struct BoxDelivery {
  std::string name;
  std::string source;
  std::string revision;
  std::string digest;  ///< sha256:... of the tar; verified in the box.
  uint64_t size = 0;   ///< Bytes of the tar, else 0.
  bool operator==(const BoxDelivery&) const = default;
};

enum class BoxOp {
  kProbe,
  kDeliver,
  kAdopt,
  kActivate,
  kRemove,
  kClearRemovals,
  kWriteToken,
  kAgent
};

struct BoxRequest {
  BoxOp op = BoxOp::kProbe;
  std::string settings_file = "settings.json";  ///< The runtime's, relative to configs.
  std::vector<std::string> names = {};          ///< probe, activate, remove.
  std::string boot_id = {};                     ///< activate, remove, clearRemovals.
  std::string token = {};                       ///< writeToken.
  std::vector<BoxDelivery> deliveries = {};     ///< deliver, adopt; probe: to be recorded first.
  bool operator==(const BoxRequest&) const = default;
};

/// What the probe found of one plugin; the meaning of the members is that of box::PluginProbe.
struct BoxPlugin {
  std::string name;
  std::string presence;  ///< Present, Absent or Unknown.
  std::string cause;
  bool has_receipt = false;
  std::string revision;
  std::string digest;
  std::string receipt_digest;
  std::string activated_boot_id;
  bool reload_none = false;
  bool mcp_merged = true;
  bool boot_installed = false;
  std::optional<base::WallTime> activated_time = {};  ///< By the box's clock.
  bool operator==(const BoxPlugin&) const = default;
};

struct BoxRemoval {
  std::string name;
  std::string boot_id;
  std::optional<base::WallTime> removed_time = {};  ///< By the box's clock.
  bool operator==(const BoxRemoval&) const = default;
};

/// The outcome for one name.
struct BoxResult {
  std::string name;
  std::optional<base::Error> error;
};

struct BoxReply {
  std::optional<base::Error> error = {};  ///< Of the whole request.
  std::vector<BoxPlugin> plugins = {};    ///< probe.
  std::vector<BoxRemoval> removals = {};  ///< probe.
  std::vector<BoxResult> results = {};    ///< deliver, adopt, activate, remove: in their order.
  bool agent_running = false;             ///< agent: one holds the box's lock.
};

std::string EncodeBoxRequest(const BoxRequest& request);
/// kInvalid with reason BadRequest, naming the field.
base::Result<BoxRequest> DecodeBoxRequest(std::string_view bytes);
std::string EncodeBoxReply(const BoxReply& reply);
/// kInvalid with reason BadReply. Texts come from inside the box: error messages are cut at 1 KiB
/// and control bytes are replaced.
base::Result<BoxReply> DecodeBoxReply(std::string_view bytes);

}  // namespace protocol
