#include "core/status_text.hpp"

#include "api/workspace.hpp"
#include "base/utf8.hpp"

namespace core {
namespace {

constexpr size_t kMaxReasonBytes = 128;  // As an Event's, which repeats it.

bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

char Capital(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

}  // namespace

std::string Bounded(std::string_view text, size_t limit) {
  std::string out = base::CutUtf8(std::string(text), limit);
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return out;
}

std::string ReasonWord(std::string_view text) {
  std::string out;
  bool gap = false;
  for (const char c : text) {
    const bool digit = (c >= '0' && c <= '9') || c == '_';
    if (!IsLetter(c) && !(digit && !out.empty())) {
      gap = !out.empty();
      continue;
    }
    out += gap ? Capital(c) : c;
    gap = false;
    if (out.size() == kMaxReasonBytes) break;
  }
  return out.empty() ? "Other" : out;
}

std::optional<std::string> ReconcileRequest(const std::map<std::string, std::string>& annotations) {
  const auto found = annotations.find(api::kReconcileRequestedAnnotation);
  if (found == annotations.end()) return std::nullopt;
  return Bounded(found->second, kMaxRequestBytes);
}

bool ReconcileRequested(const std::map<std::string, std::string>& annotations,
                        std::string_view last_handled) {
  const auto asked = ReconcileRequest(annotations);
  return asked && *asked != last_handled;
}

}  // namespace core
