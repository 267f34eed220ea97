#include "kube/watch_stream.hpp"

#include <fmt/format.h>

#include "kube/json_span.hpp"
#include "kube/status_error.hpp"

namespace kube {
namespace {

std::optional<EventType> TypeOf(std::string_view name) {
  if (name == "ADDED") return EventType::kAdded;
  if (name == "MODIFIED") return EventType::kModified;
  if (name == "DELETED") return EventType::kDeleted;
  if (name == "BOOKMARK") return EventType::kBookmark;
  if (name == "ERROR") return EventType::kError;
  return std::nullopt;
}

/// How API servers write an event: {"type":"ADDED","object":{...}}. Then the object need not be
/// walked here: it ends one byte before the line does, and its decoder finds what is broken in it.
bool ReadUsual(std::string_view line, WatchEvent& event) {
  constexpr std::string_view kType = R"({"type":")", kObject = R"(","object":{)";
  if (!line.starts_with(kType) || !line.ends_with("}}")) return false;
  const size_t end = line.find('"', kType.size());
  if (end == std::string_view::npos || line.substr(end, kObject.size()) != kObject) return false;
  const auto type = TypeOf(line.substr(kType.size(), end - kType.size()));
  if (!type) return false;
  event.type = *type;
  const size_t start = end + kObject.size() - 1;
  event.object = line.substr(start, line.size() - 1 - start);
  return true;
}

std::string_view Member(std::string_view object, std::string_view name) {
  std::string_view found;
  const auto scanned = EachMember(object, [&](std::string_view key, std::string_view value) {
    if (key == name) found = value;
    return found.empty();
  });
  return scanned ? found : std::string_view();
}

}  // namespace

base::Status LineSplitter::Push(std::string_view bytes,
                                const std::function<base::Status(std::string_view line)>& sink) {
  while (!bytes.empty()) {
    const size_t end = bytes.find('\n');
    const std::string_view part = bytes.substr(0, end);
    if (partial_.size() + part.size() > limit_)
      return base::MakeError(base::Code::kInvalid,
                             fmt::format("a line of the stream is over {} bytes", limit_),
                             "BadFrame");
    if (end == std::string_view::npos) {
      partial_.append(part);
      return {};
    }
    bytes.remove_prefix(end + 1);
    std::string_view line = part;
    if (!partial_.empty()) {
      partial_.append(part);
      line = partial_;
    }
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    base::Status status;
    if (!line.empty()) status = sink(line);
    partial_.clear();
    if (!status) return status;
  }
  return {};
}

base::Result<WatchEvent> ReadWatchLine(std::string_view line) {
  WatchEvent event;
  event.line = line;
  if (ReadUsual(line, event)) return event;
  std::optional<EventType> type;
  std::string_view type_text;
  const auto scanned = EachMember(line, [&](std::string_view key, std::string_view value) {
    if (key == "type") {
      type_text = PlainString(value);
      type = TypeOf(type_text);
    } else if (key == "object") {
      event.object = value;
    }
    return true;
  });
  if (!scanned) return scanned.error();
  if (!type || event.object.empty() || event.object.front() != '{')
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("a watch event of type `{}` is not one, or has no object",
                                       type_text.substr(0, 32)),
                           "BadFrame");
  event.type = *type;
  return event;
}

base::Error WatchError(const WatchEvent& event) { return ErrorOfStatus(event.object, "watch"); }

bool EndsInitialEvents(const WatchEvent& event) {
  if (event.type != EventType::kBookmark) return false;
  const std::string_view annotations = Member(Member(event.object, "metadata"), "annotations");
  return PlainString(Member(annotations, "k8s.io/initial-events-end")) == "true";
}

std::string_view FindResourceVersion(std::string_view object) {
  return PlainString(Member(Member(object, "metadata"), "resourceVersion"));
}

}  // namespace kube
