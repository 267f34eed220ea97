#include "http/server/request_parser.hpp"

#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <limits>
#include <optional>

namespace http {
namespace beast = boost::beast;

namespace {

constexpr size_t kFieldLimit = 200;

beast::string_view ToBeast(std::string_view text) { return {text.data(), text.size()}; }

/// True if every line ends with CRLF and none continues the one before it. `head` ends with an
/// empty line.
bool LinesAreStrict(std::string_view head) {
  if (head.find('\0') != std::string_view::npos) return false;
  for (size_t line = 0; line < head.size();) {
    if (line > 0 && (head[line] == ' ' || head[line] == '\t')) return false;
    const size_t end = head.find('\r', line);
    if (end == std::string_view::npos || head.substr(end, 2) != "\r\n") return false;
    if (head.substr(line, end - line).find('\n') != std::string_view::npos) return false;
    line = end + 2;
  }
  return true;
}

bool TargetBytesAreFine(std::string_view target) {
  for (const char c : target)
    if (c <= 0x20 || c == 0x7f || c == '#')
      return false;  // char is signed: this also refuses 0x80 and up.
  return !target.empty();
}

}  // namespace

/// Beast's callbacks, written straight into the owner's request.
class RequestParser::Adapter : public beast::http::basic_parser<true> {
 public:
  explicit Adapter(RequestParser& owner) : owner_(owner) {}

 private:
  using Error = boost::system::error_code;
  using Text = beast::string_view;

  void on_request_impl(beast::http::verb, Text method, Text target, int version, Error&) override {
    owner_.request_.method.assign(method.data(), method.size());
    owner_.request_.target.assign(target.data(), target.size());
    owner_.facts_.http10 = version == 10;
  }
  void on_response_impl(int, Text, int, Error&) override {}

  void on_field_impl(beast::http::field name, Text name_text, Text value, Error& error) override {
    using beast::http::field;
    if (owner_.head_done_) return;  // Trailers are read and forgotten.
    if (owner_.headers_seen_ >= kFieldLimit) {
      error = beast::http::error::header_limit;
      return;
    }
    if (name == field::host) ++owner_.hosts_;
    if (name == field::content_length) {
      ++owner_.lengths_;
      if (value.find(',') != Text::npos) ++owner_.lengths_;
    }
    if (name == field::transfer_encoding) {
      ++owner_.codings_;
      owner_.odd_coding_ = owner_.odd_coding_ || !beast::iequals(value, "chunked");
    }
    if (name == field::expect) {
      owner_.facts_.expect_continue = beast::iequals(value, "100-continue");
      owner_.odd_expectation_ = !owner_.facts_.expect_continue;
    }
    auto& headers = owner_.request_.headers;
    if (headers.size() == owner_.headers_seen_) headers.emplace_back();
    auto& [key, text] = headers[owner_.headers_seen_++];
    key.assign(name_text.data(), name_text.size());
    text.assign(value.data(), value.size());
  }
  void on_header_impl(Error&) override {}
  void on_body_init_impl(const boost::optional<uint64_t>&, Error&) override {}
  size_t on_body_impl(Text body, Error&) override { return Append(body); }
  void on_chunk_header_impl(uint64_t, Text, Error&) override {}
  size_t on_chunk_body_impl(uint64_t, Text body, Error&) override { return Append(body); }
  void on_finish_impl(Error&) override {}

  size_t Append(Text body) {
    owner_.request_.body.append(body.data(), body.size());
    return body.size();
  }

  RequestParser& owner_;
};

RequestParser::RequestParser(const Limits& limits) : limits_(limits) {}
RequestParser::~RequestParser() = default;

void RequestParser::Reset() {
  request_.body.clear();
  if (request_.body.capacity() > (64 << 10)) request_.body.shrink_to_fit();
  facts_ = {};
  headers_seen_ = 0;
  hosts_ = lengths_ = codings_ = 0;
  odd_coding_ = odd_expectation_ = head_done_ = false;
  scanned_ = 0;
}

RequestParser::Step RequestParser::Fail(int status, std::string_view problem) {
  status_ = status;
  problem_ = problem;
  return {Outcome::kError, 0};
}

RequestParser::Step RequestParser::Feed(std::string_view bytes) {
  return head_done_ ? FeedBody(bytes) : FeedHead(bytes);
}

RequestParser::Step RequestParser::FeedHead(std::string_view bytes) {
  size_t start = 0;  // RFC 9112 2.2: an empty line before the request line is skipped.
  while (start < 4 && bytes.substr(start, 2) == "\r\n") start += 2;
  const size_t from = std::max(start, scanned_ > 3 ? scanned_ - 3 : 0);
  const size_t end = bytes.find("\r\n\r\n", from);
  if (end == std::string_view::npos) {
    if (bytes.size() - start >= limits_.header) return Fail(431, "the request head is too large");
    if (bytes.find("\n\n", from) != std::string_view::npos)
      return Fail(400, "a line of the request head does not end with CRLF");
    scanned_ = bytes.size();
    return {Outcome::kNeedMore, 0};
  }
  const std::string_view head = bytes.substr(start, end + 4 - start);
  if (head.size() > limits_.header) return Fail(431, "the request head is too large");
  if (!LinesAreStrict(head)) return Fail(400, "a line of the request head is malformed");
  Reset();
  // A parser is good for one message; re-made in place to spare the allocation.
  if (adapter_) {
    std::destroy_at(adapter_.get());
    std::construct_at(adapter_.get(), *this);
  } else {
    adapter_ = std::make_unique<Adapter>(*this);
  }
  adapter_->header_limit(static_cast<uint32_t>(limits_.header + 1));
  adapter_->body_limit(std::numeric_limits<uint64_t>::max());  // JudgeHead does, by its own status.
  boost::system::error_code error;
  adapter_->put({head.data(), head.size()}, error);
  if (error == beast::http::error::header_limit) return Fail(431, "too many header fields");
  if (error == beast::http::error::bad_version) return Fail(505, "only HTTP/1.0 and HTTP/1.1");
  if (error || !adapter_->is_header_done()) return Fail(400, "the request head is malformed");
  request_.headers.resize(headers_seen_);
  facts_.keep_alive = adapter_->keep_alive();
  facts_.chunked = adapter_->chunked();
  facts_.content_length = adapter_->content_length().value_or(0);
  if (!JudgeHead()) return {Outcome::kError, 0};
  adapter_->body_limit(limits_.body);
  head_done_ = true;
  return {Outcome::kHead, end + 4};
}

bool RequestParser::JudgeHead() {
  const auto refuse = [&](int status, std::string_view problem) {
    Fail(status, problem);
    return false;
  };
  if (lengths_ > 1) return refuse(400, "more than one Content-Length");
  if (codings_ > 0 && lengths_ > 0) return refuse(400, "Content-Length beside Transfer-Encoding");
  if (codings_ > 1 || odd_coding_) return refuse(501, "the only transfer coding here is chunked");
  if (codings_ > 0 && facts_.http10) return refuse(400, "Transfer-Encoding in HTTP/1.0");
  if (hosts_ > 1 || (hosts_ == 0 && !facts_.http10))
    return refuse(400, "exactly one Host is needed");
  if (odd_expectation_) return refuse(417, "the only expectation met here is 100-continue");
  if (facts_.content_length > limits_.body) return refuse(413, "the body is too large");
  return JudgeTarget();
}

bool RequestParser::JudgeTarget() {
  std::string& target = request_.target;
  // RFC 9112 3.2.2: a server accepts the absolute form; the authority says nothing here.
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!beast::iequals(ToBeast(std::string_view(target).substr(0, scheme.size())),
                        ToBeast(scheme)))
      continue;
    const size_t path = target.find('/', scheme.size());
    target = path == std::string::npos ? "/" : target.substr(path);
  }
  if (TargetBytesAreFine(target) && target.front() == '/') return true;
  Fail(400, "the request target must be a path");
  return false;
}

RequestParser::Step RequestParser::FeedBody(std::string_view bytes) {
  size_t consumed = 0;
  boost::system::error_code error;
  while (!adapter_->is_done()) {
    consumed += adapter_->put({bytes.data() + consumed, bytes.size() - consumed}, error);
    if (error == beast::http::error::need_more) {
      // What is left is an unfinished chunk line or trailer; those are bounded as a head is.
      if (bytes.size() - consumed > limits_.header) return Fail(400, "a chunk line is too long");
      return {Outcome::kNeedMore, consumed};
    }
    if (error == beast::http::error::body_limit) return Fail(413, "the body is too large");
    if (error) return Fail(400, "the chunked body is malformed");
    if (consumed == bytes.size() && !adapter_->is_done()) return {Outcome::kNeedMore, consumed};
  }
  head_done_ = false;
  scanned_ = 0;
  return {Outcome::kDone, consumed};
}

}  // namespace http
