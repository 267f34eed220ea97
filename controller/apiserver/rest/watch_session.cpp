#include "apiserver/rest/watch_session.hpp"

#include <algorithm>
#include <utility>

#include "apiserver/wire/object_text.hpp"

namespace apiserver {
namespace {

using codec::Json;

constexpr base::Seconds kBeforeEnd{2};  ///< As in kube-apiserver.
/// For the state that a watch begins with. It may be larger than what a watcher may leave unread:
/// who reads it as fast as it can must get all of it.
constexpr base::Seconds kInitialState{60};
constexpr size_t kLineBytes = 1 << 10;  ///< That a line has beyond its object.

std::string Line(const char* type, const std::string& object) {
  std::string line;
  line.reserve(object.size() + 40);
  line.append("{\"type\":\"").append(type).append("\",\"object\":").append(object).append("}\n");
  return line;
}

const char* TypeName(ChangeType type) {
  return type == ChangeType::kAdded      ? "ADDED"
         : type == ChangeType::kModified ? "MODIFIED"
                                         : "DELETED";
}

}  // namespace

WatchSession::WatchSession(const Served& served, WatchOptions options, const base::Clock& clock)
    : served_(served),
      options_(std::move(options)),
      clock_(clock),
      deadline_(clock.Read().mono + options_.timeout),
      next_bookmark_(NextBookmark()) {}

void WatchSession::Attach(std::shared_ptr<http::ResponseStream> stream) {
  stream_ = std::move(stream);
}

bool WatchSession::Selected(const std::string& text) const {
  return options_.selector.Empty() || options_.selector.Matches(ShownObject(served_, text));
}

bool WatchSession::SendObject(const char* type, const std::string& text) {
  if (options_.presentation.shape == Shape::kObject)
    return stream_->Write(Line(type, ShownText(served_, text)));
  const Json object = ShownObject(served_, text);
  if (options_.presentation.shape == Shape::kPartial) {
    return stream_->Write(
        Line(type, codec::Dump(PartialOf(object, options_.presentation.meta_version))));
  }
  Json table =
      TableOf(served_, options_.presentation, {object}, clock_.Read().wall, !columns_sent_);
  table["metadata"]["resourceVersion"] = VersionOf(object);
  columns_sent_ = true;
  return stream_->Write(Line(type, codec::Dump(table)));
}

bool WatchSession::SendInitial(const std::vector<StoredObject>& objects, int64_t version,
                               bool end_bookmark) {
  const base::MonoTime until = std::chrono::steady_clock::now() + kInitialState;
  for (const StoredObject& object : objects) {
    if (!Selected(object.text)) continue;
    if (!stream_->AwaitRoom(2 * object.text.size() + kLineBytes, until)) return false;
    if (!SendObject("ADDED", object.text)) return false;
  }
  sent_ = version;
  return !end_bookmark || SendBookmark(version, true);
}

void WatchSession::SendError(const Json& status) {
  stream_->Write(Line("ERROR", codec::Dump(status)));
  stream_->Finish();
}

bool WatchSession::OnChange(const ChangePtr& change) {
  if (!stream_->Open()) return false;
  sent_ = change->version;
  if (options_.selector.Empty()) return SendObject(TypeName(change->type), change->text);
  const bool now_in = change->type != ChangeType::kDeleted && Selected(change->text);
  const bool was_in = !change->previous.empty() && Selected(change->previous);
  if (now_in) return SendObject(was_in ? "MODIFIED" : "ADDED", change->text);
  if (!was_in) return true;
  // Out of the selection: the client sees the last state that it knew, with the version at which it
  // left.
  if (change->type == ChangeType::kDeleted) return SendObject("DELETED", change->text);
  return SendObject("DELETED", ComposeText(change->version, TailOf(change->previous)));
}

/// Once a period, and shortly before the end: who watches again need not be told the same again.
base::MonoTime WatchSession::NextBookmark() const {
  const base::MonoTime now = clock_.Read().mono;
  const base::MonoTime regular = now + options_.bookmark_period;
  const base::MonoTime last = deadline_ - kBeforeEnd;
  return now < last ? std::min(regular, last) : regular;
}

bool WatchSession::SendBookmark(int64_t version, bool initial_end) {
  Json metadata = {{"resourceVersion", std::to_string(version)}, {"creationTimestamp", nullptr}};
  if (initial_end) metadata["annotations"] = {{"k8s.io/initial-events-end", "true"}};
  Json object = {{"kind", served_.definition.kind},
                 {"apiVersion", served_.definition.ApiVersion()},
                 {"metadata", metadata}};
  if (options_.presentation.shape == Shape::kPartial)
    object = PartialOf(object, options_.presentation.meta_version);
  if (options_.presentation.shape == Shape::kTable) {
    Json table = {
        {"kind", "Table"},
        {"apiVersion", "meta.k8s.io/" + options_.presentation.meta_version},
        {"metadata", {{"resourceVersion", std::to_string(version)}}},
        {"columnDefinitions", columns_sent_ ? Json(nullptr) : TableColumns(served_.definition)}};
    Json row = {{"cells", Json::array()},
                {"object", PartialOf(object, options_.presentation.meta_version)}};
    table["rows"] = Json::array({std::move(row)});
    object = std::move(table);
    columns_sent_ = true;
  }
  next_bookmark_ = NextBookmark();
  return stream_->Write(Line("BOOKMARK", codec::Dump(object)));
}

bool WatchSession::OnTick(int64_t version) {
  const base::MonoTime now = clock_.Read().mono;
  if (!stream_->Open() || now >= deadline_) return false;
  if (!options_.bookmarks || now < next_bookmark_) return true;
  sent_ = std::max(sent_, version);
  return SendBookmark(sent_, false);
}

void WatchSession::OnEnd() { stream_->Finish(); }

}  // namespace apiserver
