#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

/// What the operator answers (behaviour.md section 6).
namespace protocol {

/// A plugin that the agent should have: fetched from `path` of the operator when the box has
/// another digest.
struct PluginToFetch {
  std::string name;
  std::string revision;
  std::string digest;       ///< sha256:... of the canonical tar.
  std::string path;         ///< /workspaces/{uid}/plugins/{name}/download
  std::string source;       ///< For the receipt.
  bool management = false;  ///< Of a Platform workspace: managementPresent is about this one.
  bool operator==(const PluginToFetch&) const = default;
};

/// The 200 of a heartbeat, and of a register.
struct HeartbeatAnswer {
  std::string state = {};  ///< Of the workspace, as last decided; empty: nothing is decided yet.
  std::string reason = {};
  std::string message = {};
  int32_t next_period_seconds = 30;  ///< Wire nextPeriodSeconds.
  /// Wire pluginsKnown: `plugins` is the whole declared set with a digest. False: not decided yet,
  /// ask again.
  bool plugins_known = false;
  std::vector<PluginToFetch> plugins = {};  ///< For boot-install, and for pull boxes at any time.
  std::vector<std::string> remove =
      {};  ///< Pull boxes: plugins with our receipt that are no longer wanted.
  /// Wire restart.expectedBootID: restart the runtime if this still is the current boot id.
  std::optional<std::string> restart_expected_boot_id = {};
  /// Digest of the inventory that the operator holds: while it equals the agent's, `inventory` may
  /// be left out.
  std::string inventory_digest = {};
  /// Wire answerTag: names this content. An agent that keeps the answer may send it back, and is
  /// told `unchanged` instead of everything again.
  std::string tag = {};
  bool unchanged = false;  ///< As in the answer whose tag was sent; everything else is absent.
  bool operator==(const HeartbeatAnswer&) const = default;
};

/// The answer to a heartbeat whose tag still holds.
inline constexpr std::string_view kUnchangedAnswer = R"({"unchanged":true})";

/// What an answer is written from when parts of it stand ready.
struct AnswerTexts {
  std::string_view state, reason, message;
  int32_t next_period_seconds = 30;
  bool plugins_known = false;
  std::string_view plugins;  ///< The inside of the list: what EncodePlugin gave, by commas.
  std::string_view remove;   ///< The inside of the list of names; empty: none.
  std::optional<std::string_view> restart_expected_boot_id;
  std::string_view inventory_digest;
};
/// The answer without its closing brace, for a tag to be added.
std::string EncodeAnswerTexts(const AnswerTexts& texts);
std::string EncodePlugin(const PluginToFetch& plugin);
/// The names as JSON strings, by commas.
std::string EncodeNames(const std::vector<std::string>& names);

std::string EncodeHeartbeatAnswer(const HeartbeatAnswer& answer);
/// kInvalid on wrong types or broken limits (1 MiB, 256 plugins).
base::Result<HeartbeatAnswer> DecodeHeartbeatAnswer(std::string_view bytes);

/// The body of every error answer.
struct ErrorBody {
  std::string error;  ///< Stable code, e.g. stale_sequence.
  std::string message;
  std::string hint;  ///< What to do about it; may be empty.
  bool operator==(const ErrorBody&) const = default;
};

std::string EncodeError(const ErrorBody& body);
base::Result<ErrorBody> DecodeError(std::string_view bytes);

/// A JSON string literal with its quotes; invalid UTF-8 is replaced.
std::string Quoted(std::string_view text);

}  // namespace protocol
