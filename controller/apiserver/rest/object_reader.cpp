#include "apiserver/rest/object_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "apiserver/rest/watch_session.hpp"
#include "apiserver/wire/object_text.hpp"
#include "base/base64.hpp"

namespace apiserver {
namespace {

using codec::Json;

constexpr size_t kScanPage = 500;  ///< Rows read at a time while a selector looks for matches.
constexpr int64_t kDefaultWatchSeconds = 1800;
constexpr int64_t kLongestWatchSeconds = 24 * 3600;

std::optional<int64_t> ToInt(const std::string& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

Outcome<Selector> SelectorOf(const ReadRequest& request) {
  const Query& query = request.info->query;
  auto selector = Selector::Parse(request.served->definition, query.Get("labelSelector"),
                                  query.Get("fieldSelector"));
  if (!selector) return BadRequest(selector.error().message);
  return std::move(*selector);
}

Outcome<int64_t> VersionParameter(const ReadRequest& request) {
  const std::string& text = request.info->query.Get("resourceVersion");
  if (text.empty()) return int64_t{0};
  const auto value = ToInt(text);
  if (!value) return BadRequest(fmt::format("invalid resource version \"{}\"", text));
  return *value;
}

std::string EncodeContinue(int64_t version, const StoreKey& last) {
  return base::EncodeBase64(codec::Dump(
      {{"v", "meta.k8s.io/v1"}, {"rv", version}, {"ns", last.ns}, {"name", last.name}}));
}

Outcome<bool> ReadContinue(const std::string& token, ListQuery& query) {
  const auto text = base::DecodeBase64(token);
  auto json = text ? codec::ParseJson(*text)
                   : base::Result<Json>(base::MakeError(base::Code::kInvalid, ""));
  if (!json || codec::GetString(*json, "name").empty() || codec::GetInt(*json, "rv") <= 0)
    return BadRequest("continue key is not valid");
  query.at_version = codec::GetInt(*json, "rv");
  query.after_ns = codec::GetString(*json, "ns");
  query.after_name = codec::GetString(*json, "name");
  return true;
}

Failure TooLarge(int64_t version, int64_t current) {
  Failure failure =
      Fail(504, "Timeout",
           fmt::format("Timeout: Too large resource version: {}, current: {}", version, current));
  failure.status["details"] = {
      {"causes", Json::array({{{"reason", "ResourceVersionTooLarge"},
                               {"message", "Too large resource version"}}})},
      {"retryAfterSeconds", 1}};
  return failure;
}

Failure InvalidListOption(const std::string& field, const std::string& message) {
  return Fail(422, "Invalid",
              fmt::format("ListOptions.meta.k8s.io \"\" is invalid: {}: {}", field, message),
              {"meta.k8s.io", "ListOptions", ""});
}

}  // namespace

Outcome<std::string> ObjectReader::Get(const ReadRequest& request) const {
  const RequestInfo& info = *request.info;
  auto stored = store_.Get({request.served->store_resource, info.ns, info.name});
  if (!stored) return FailureOf(stored.error(), request.served->definition, info.name);
  return Render(*request.served, request.presentation, stored->text, clock_.Read().wall);
}

Outcome<ListQuery> ObjectReader::QueryOf(const ReadRequest& request,
                                         const Selector& selector) const {
  const RequestInfo& info = *request.info;
  ListQuery query;
  query.resource = request.served->store_resource;
  query.ns = info.ns;
  query.name = selector.OnlyName();
  const std::string& limit = info.query.Get("limit");
  const auto rows = limit.empty() ? std::optional<int64_t>(0) : ToInt(limit);
  if (!rows) return BadRequest(fmt::format("limit must be a whole number, not \"{}\"", limit));
  query.limit = static_cast<size_t>(*rows);
  if (const std::string& token = info.query.Get("continue"); !token.empty()) {
    if (auto read = ReadContinue(token, query); !read) return read.failure();
    return query;
  }
  auto version = VersionParameter(request);
  if (!version) return version.failure();
  if (*version == 0) return query;
  if (info.query.Get("resourceVersionMatch") == "Exact") {
    query.at_version = *version;
    return query;
  }
  auto current = store_.Version();
  if (current && *version > *current) return TooLarge(*version, *current);
  return query;
}

Outcome<ObjectReader::Page> ObjectReader::ReadPage(const ReadRequest& request,
                                                   const Selector& selector,
                                                   ListQuery query) const {
  Page page;
  const size_t wanted = query.limit;
  if (wanted != 0 && !selector.Empty()) query.limit = std::max(wanted, kScanPage);
  StoreKey last;
  for (;;) {
    auto rows = store_.List(query);
    if (!rows) {
      const bool resumed = !query.after_name.empty() && rows.error().code == base::Code::kGone;
      if (resumed)
        return Fail(410, "Expired",
                    "The provided continue parameter is too old to display a consistent list "
                    "result. You can start a new list without the continue parameter.");
      return FailureOf(rows.error(), request.served->definition, "");
    }
    page.version = rows->version;
    query.at_version = rows->version;
    for (size_t i = 0; i < rows->objects.size(); ++i) {
      StoredObject& object = rows->objects[i];
      if (wanted != 0 && page.texts.size() >= wanted) {
        page.continue_token = EncodeContinue(page.version, last);
        return page;
      }
      last = object.key;
      if (selector.Empty() || selector.Matches(ShownObject(*request.served, object.text)))
        page.texts.push_back(std::move(object.text));
    }
    if (!rows->more) return page;
    if (wanted != 0 && page.texts.size() >= wanted) {
      page.continue_token = EncodeContinue(page.version, last);
      return page;
    }
    query.after_ns = last.ns;
    query.after_name = last.name;
  }
}

Outcome<std::string> ObjectReader::List(const ReadRequest& request) const {
  auto selector = SelectorOf(request);
  if (!selector) return selector.failure();
  auto query = QueryOf(request, *selector);
  if (!query) return query.failure();
  auto page = ReadPage(request, *selector, *query);
  if (!page) return page.failure();
  ListHead head;
  head.version = std::to_string(page->version);
  head.continue_token = page->continue_token;
  return RenderList(*request.served, request.presentation, page->texts, head, clock_.Read().wall);
}

Outcome<ListResult> ObjectReader::Select(const ReadRequest& request) const {
  auto selector = SelectorOf(request);
  if (!selector) return selector.failure();
  ListQuery query;
  query.resource = request.served->store_resource;
  query.ns = request.info->ns;
  query.name = selector->OnlyName();
  auto rows = store_.List(query);
  if (!rows) return FailureOf(rows.error(), request.served->definition, "");
  std::erase_if(rows->objects, [&](const StoredObject& object) {
    return !selector->Empty() && !selector->Matches(ShownObject(*request.served, object.text));
  });
  return std::move(*rows);
}

void ObjectReader::Watch(const ReadRequest& request, http::Responder& responder) const {
  auto started = StartWatch(request, responder);
  if (!started) responder.Send(ResponseOf(started.failure()));
}

Outcome<bool> ObjectReader::StartWatch(const ReadRequest& request,
                                       http::Responder& responder) const {
  const RequestInfo& info = *request.info;
  auto selector = SelectorOf(request);
  if (!selector) return selector.failure();
  auto from = VersionParameter(request);
  if (!from) return from.failure();
  const bool initial = info.query.Flag("sendInitialEvents");
  const bool asked = info.query.Has("sendInitialEvents");
  if (asked && info.query.Get("resourceVersionMatch") != "NotOlderThan") {
    return InvalidListOption(
        "resourceVersionMatch",
        "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
  }
  if (!asked && info.query.Has("resourceVersionMatch") &&
      !info.query.Get("resourceVersionMatch").empty()) {
    return InvalidListOption("resourceVersionMatch",
                             "Forbidden: resourceVersionMatch is forbidden for watch unless "
                             "sendInitialEvents is provided");
  }
  const std::string& timeout = info.query.Get("timeoutSeconds");
  const bool marked = info.query.Flag("allowWatchBookmarks");
  WatchOptions options;
  options.presentation = request.presentation;
  options.selector = *selector;
  options.bookmarks = marked;
  options.bookmark_period = options_.bookmark_period;
  options.timeout = base::Seconds(
      timeout.empty() ? kDefaultWatchSeconds
                      : std::clamp<int64_t>(ToInt(timeout).value_or(kDefaultWatchSeconds), 1,
                                            kLongestWatchSeconds));

  // Without a version (or with 0) a watch begins with what is there, unless the client says that it
  // does not want it. The end of that is marked for whoever asked for bookmarks.
  const bool send_state = initial || (!asked && *from == 0);
  ListResult state;
  if (send_state || *from == 0) {
    auto rows = Select(request);
    if (!rows) return rows.failure();
    state = std::move(*rows);
    if (initial && *from > state.version) return TooLarge(*from, state.version);
    *from = state.version;
  } else {
    auto oldest = store_.OldestVersion();
    auto current = store_.Version();
    if (!oldest || !current)
      return FailureOf(oldest ? current.error() : oldest.error(), request.served->definition, "");
    if (*from < *oldest || *from > *current)
      return Fail(410, "Expired", fmt::format("too old resource version: {} ({})", *from, *oldest));
  }
  http::Response head = JsonResponse(200, "");
  auto session = std::make_shared<WatchSession>(*request.served, std::move(options), clock_);
  auto stream = responder.StartStream(std::move(head), options_.watch_buffer_limit);
  if (!stream) return true;
  session->Attach(stream);
  if (send_state && !session->SendInitial(state.objects, state.version, marked)) return true;
  auto watcher = store_.Watch({request.served->store_resource, info.ns}, *from, session);
  if (!watcher)
    session->SendError(FailureOf(watcher.error(), request.served->definition, "").status);
  return true;
}

}  // namespace apiserver
