#include <fmt/format.h>

#include "base/file.hpp"
#include "server/answers.hpp"
#include "server/byte_range.hpp"
#include "server/routes.hpp"

namespace server {
namespace {

/// If-None-Match: a list of tags, weak ones too, or `*`.
bool Holds(std::string_view header, std::string_view etag) {
  while (!header.empty()) {
    const size_t comma = header.find(',');
    std::string_view tag = header.substr(0, comma);
    header = comma == std::string_view::npos ? std::string_view{} : header.substr(comma + 1);
    while (!tag.empty() && (tag.front() == ' ' || tag.front() == '\t')) tag.remove_prefix(1);
    while (!tag.empty() && (tag.back() == ' ' || tag.back() == '\t')) tag.remove_suffix(1);
    if (tag.starts_with("W/")) tag.remove_prefix(2);
    if (tag == "*" || tag == etag) return true;
  }
  return false;
}

/// The workspace whose token was sent, if it is the one in the path. An unknown workspace and
/// somebody else's are answered alike.
base::Result<WorkspaceView> Owner(Context& context, Call& call) {
  const auto slot = AuthenticateAgent(context, call, context.clock.Read().mono);
  if (!slot) return slot.error();
  const auto identity = context.table.Identify(*slot);
  if (!identity || !context.table.Names(*slot, call.values[0])) {
    return base::MakeError(base::Code::kForbidden, "this token is not for the workspace named",
                           "OtherWorkspace");
  }
  WorkspaceView view;
  view.uid = identity->first;
  view.key = identity->second;
  return view;
}

void SendArtifact(Call& call, ArtifactFile artifact) {
  base::UniqueFd file(artifact.fd);
  const std::string etag = fmt::format("\"{}\"", artifact.digest);
  const auto& headers = call.in.request.headers;
  http::Response head;
  head.headers = {{"Content-Type", "application/x-tar"},
                  {"ETag", etag},
                  {"Digest", DigestHeader(artifact.digest)},
                  {"Accept-Ranges", "bytes"},
                  {"Cache-Control", "private, no-cache"}};
  if (Holds(http::FindHeader(headers, "If-None-Match"), etag)) {
    head.status = 304;
    return call.out.Send(std::move(head));
  }
  const auto condition = http::FindHeader(headers, "If-Range");
  const bool ranged = condition.empty() || condition == etag;
  const auto range = ranged ? ParseRange(http::FindHeader(headers, "Range"), artifact.size)
                            : ByteRange{RangeKind::kWhole, 0, artifact.size};
  if (range.kind == RangeKind::kUnsatisfiable) {
    auto refusal = ErrorResponse(416, "range_not_satisfiable", "the range lies beyond the file",
                                 "ask without a Range header");
    refusal.headers.emplace_back("Content-Range", fmt::format("bytes */{}", artifact.size));
    return call.out.Send(std::move(refusal));
  }
  head.status = 200;
  if (range.kind == RangeKind::kPart) {
    head.status = 206;
    head.headers.emplace_back("Content-Range",
                              fmt::format("bytes {}-{}/{}", range.offset,
                                          range.offset + range.length - 1, artifact.size));
  }
  call.out.SendFile(std::move(head), file.Release(), range.offset, range.length);
}

}  // namespace

void HandleDownload(Context& context, Call& call) {
  const auto owner = Owner(context, call);
  if (!owner) return call.out.Send(ErrorResponse(owner.error()));
  if (!context.ports.open_artifact) return call.out.Send(NotWired());
  const auto artifact = context.ports.open_artifact(*owner, call.values[1]);
  if (!artifact) {
    return call.out.Send(ErrorResponse(
        artifact.error(), artifact.error().code == base::Code::kNotFound
                              ? "it is not declared for this workspace, or not fetched yet"
                              : ""));
  }
  SendArtifact(call, *artifact);
}

}  // namespace server
