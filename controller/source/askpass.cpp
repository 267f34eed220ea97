#include "source/askpass.hpp"

#include <unistd.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "base/file.hpp"

namespace source {
namespace {

constexpr size_t kAnswerBytes = 64 << 10;

bool Print(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
    if (n <= 0) return false;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

}  // namespace

std::optional<int> AnswerGit(int argc, const char* const* argv) {
  const char* folder = std::getenv(kSecretFolderVariable);
  if (folder == nullptr || argc != 2) return std::nullopt;
  const char* name = std::string_view(argv[1]).starts_with("Username") ? "/username" : "/password";
  const auto answer = base::ReadFile(std::string(folder) + name, kAnswerBytes);
  return answer && Print(*answer) ? 0 : 1;
}

}  // namespace source
