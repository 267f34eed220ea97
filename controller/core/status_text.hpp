#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

/// Texts that others have written, made fit for a status: the API server refuses a whole status for
/// one field that its schema does not allow, and nothing of that object would be written any more.
namespace core {

inline constexpr size_t kMaxRequestBytes = 256;  ///< maxLength of status.lastHandledReconcileAt.

/// The text cut to `limit` bytes at a character's border, control characters replaced by spaces.
std::string Bounded(std::string_view text, size_t limit);

/// A condition's reason: a word that begins with a letter. What stands between words is left out
/// and the next letter made a capital: CRI-O's `seccomp killed` is seccompKilled. Nothing left:
/// `Other`.
std::string ReasonWord(std::string_view text);

/// What the annotation molecule.ai/reconcile-requested-at says, as it is written down when it has
/// been answered; absent without one.
std::optional<std::string> ReconcileRequest(const std::map<std::string, std::string>& annotations);

/// True while such a request is not the one that was answered last.
bool ReconcileRequested(const std::map<std::string, std::string>& annotations,
                        std::string_view last_handled);

}  // namespace core
