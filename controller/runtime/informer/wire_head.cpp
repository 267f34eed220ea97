#include "runtime/informer/wire_head.hpp"

#include <charconv>
#include <functional>

namespace runtime {
namespace {

constexpr int kMaxDepth = 128;

/// A cursor over JSON text. Every method is false on malformed input; nothing recurses without a
/// bound.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  void Space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) {
      ++at_;
    }
  }
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool Take(char c) {
    Space();
    if (Peek() != c) return false;
    ++at_;
    return true;
  }
  bool AtEnd() {
    Space();
    return at_ == text_.size();
  }

  /// A string; `out` may be null.
  bool String(std::string* out) {
    if (!Take('"')) return false;
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '"') return ++at_, true;
      if (static_cast<unsigned char>(c) < 0x20) return false;
      if (c != '\\') {
        if (out != nullptr) out->push_back(c);
      } else if (!Escape(out)) {
        return false;
      }
    }
    return false;
  }

  /// Any value, without keeping it.
  bool Skip() {
    std::string open;
    do {
      Space();
      const char c = Peek();
      if (c == '"') {
        if (!String(nullptr)) return false;
      } else if (c == '{' || c == '[') {
        if (open.size() >= kMaxDepth) return false;
        open.push_back(c == '{' ? '}' : ']');
        ++at_;
      } else if (c == '}' || c == ']') {
        if (open.empty() || open.back() != c) return false;
        open.pop_back();
        ++at_;
      } else if (c == ',' || c == ':') {
        if (open.empty()) return false;
        ++at_;
      } else if (!Scalar()) {
        return false;
      }
    } while (!open.empty());
    return true;
  }

  bool Integer(int64_t* out) {
    Space();
    const auto end = std::from_chars(text_.data() + at_, text_.data() + text_.size(), *out);
    if (end.ec != std::errc()) return false;
    at_ = static_cast<size_t>(end.ptr - text_.data());
    return true;
  }

  /// The members of an object. `member` consumes the value and is false on malformed input.
  bool Object(const std::function<bool(const std::string& name)>& member) {
    if (!Take('{')) return false;
    if (Take('}')) return true;
    do {
      std::string name;
      if (!String(&name) || !Take(':')) return false;
      Space();
      if (!member(name)) return false;
    } while (Take(','));
    return Take('}');
  }

  bool StringOrSkip(std::string* out) {
    if (Peek() != '"') return Skip();
    out->clear();
    return String(out);
  }
  bool IntegerOrSkip(int64_t* out) {
    const char c = Peek();
    return c == '-' || (c >= '0' && c <= '9') ? Integer(out) : Skip();
  }
  bool ObjectOrSkip(const std::function<bool(const std::string& name)>& member) {
    return Peek() == '{' ? Object(member) : Skip();
  }

 private:
  bool Escape(std::string* out) {
    if (++at_ >= text_.size()) return false;
    static constexpr std::string_view kFrom = "\"\\/bfnrt";
    static constexpr std::string_view kTo = "\"\\/\b\f\n\r\t";
    if (const size_t i = kFrom.find(text_[at_]); i != std::string_view::npos) {
      if (out != nullptr) out->push_back(kTo[i]);
      return true;
    }
    if (text_[at_] != 'u' || text_.size() - at_ < 5) return false;
    unsigned code = 0;
    const char* hex = text_.data() + at_ + 1;
    if (std::from_chars(hex, hex + 4, code, 16).ptr != hex + 4) return false;
    at_ += 4;
    // Names never need this and messages are only shown: what is not ASCII becomes a question mark.
    if (out != nullptr) out->push_back(code >= 0x20 && code < 0x7f ? static_cast<char>(code) : '?');
    return true;
  }

  /// A number, true, false or null, by its alphabet.
  bool Scalar() {
    const size_t start = at_;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      const bool part = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-' || c == '+' ||
                        c == '.' || c == 'E';
      if (!part) break;
      ++at_;
    }
    return at_ > start;
  }

  std::string_view text_;
  size_t at_ = 0;
};

bool ReadMetadata(Scanner& in, WireHead* head) {
  return in.ObjectOrSkip([&](const std::string& name) {
    if (name == "namespace") return in.StringOrSkip(&head->key.ns);
    if (name == "name") return in.StringOrSkip(&head->key.name);
    if (name == "uid") return in.StringOrSkip(&head->uid);
    if (name == "resourceVersion") return in.StringOrSkip(&head->resource_version);
    if (name != "annotations") return in.Skip();
    return in.ObjectOrSkip([&](const std::string& annotation) {
      std::string value;
      if (!in.StringOrSkip(&value)) return false;
      if (annotation == "k8s.io/initial-events-end") head->initial_events_end = value == "true";
      return true;
    });
  });
}

bool ReadDetails(Scanner& in, WireHead* head) {
  return in.ObjectOrSkip([&](const std::string& name) {
    if (name != "retryAfterSeconds") return in.Skip();
    int64_t seconds = 0;
    if (!in.IntegerOrSkip(&seconds)) return false;
    if (seconds > 0) head->retry_after_seconds = seconds;
    return true;
  });
}

base::Code CodeOf(int64_t http) {
  switch (http) {
    case 401:
      return base::Code::kUnauthorized;
    case 403:
      return base::Code::kForbidden;
    case 404:
      return base::Code::kNotFound;
    case 408:
    case 504:
      return base::Code::kTimeout;
    case 409:
      return base::Code::kConflict;
    case 410:
      return base::Code::kGone;
    case 429:
    case 502:
    case 503:
      return base::Code::kUnavailable;
    default:
      return http >= 400 && http < 500 ? base::Code::kInvalid : base::Code::kInternal;
  }
}

}  // namespace

base::Result<WireHead> ScanHead(std::string_view json) {
  WireHead head;
  Scanner in(json);
  const bool ok = in.Object([&](const std::string& name) {
    if (name == "metadata") return ReadMetadata(in, &head);
    if (name == "details") return ReadDetails(in, &head);
    if (name == "code") return in.IntegerOrSkip(&head.code);
    if (name == "reason") return in.StringOrSkip(&head.reason);
    if (name == "message") return in.StringOrSkip(&head.message);
    return in.Skip();
  });
  if (ok && in.AtEnd()) return head;
  return base::MakeError(base::Code::kInvalid, "bytes from the watch are no JSON object",
                         "BadFrame");
}

base::Error StatusError(const WireHead& status) {
  base::Code code = CodeOf(status.code);
  if (status.reason == "Expired" || status.reason == "Gone") code = base::Code::kGone;
  base::Error error = base::MakeError(
      code,
      "the watch reported " + std::to_string(status.code) + ": " + status.message.substr(0, 512),
      status.reason);
  if (status.retry_after_seconds) {
    error.retry_after = std::chrono::seconds{std::min<int64_t>(*status.retry_after_seconds, 3600)};
  }
  return error;
}

}  // namespace runtime
