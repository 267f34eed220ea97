#include "apiserver/store/change.hpp"

#include <string_view>

namespace apiserver {
namespace {

constexpr std::string_view kHead = R"({"metadata":{"resourceVersion":")";

}  // namespace

std::string ComposeText(int64_t version, const std::string& tail) {
  const std::string digits = std::to_string(version);
  std::string text;
  text.reserve(kHead.size() + digits.size() + tail.size());
  text.append(kHead).append(digits).append(tail);
  return text;
}

std::string TailOf(const std::string& text) {
  size_t at = kHead.size();
  while (at < text.size() && text[at] >= '0' && text[at] <= '9') ++at;
  return text.substr(at < text.size() ? at : text.size());
}

}  // namespace apiserver
