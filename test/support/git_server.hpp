#pragma once

#include <poll.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/child_process.hpp"
#include "support/temp_folder.hpp"

namespace support {

/// Runs a shell script in `folder` with a fixed author and clock; returns its stdout without the
/// last newline.
inline std::string Shell(const std::string& folder, const std::string& script) {
  auto result = base::RunCommand({.argv = {"sh", "-ec", script},
                                  .environment = {{"PATH", "/usr/local/bin:/usr/bin:/bin"},
                                                  {"HOME", folder},
                                                  {"GIT_CONFIG_NOSYSTEM", "1"},
                                                  {"GIT_AUTHOR_NAME", "A"},
                                                  {"GIT_AUTHOR_EMAIL", "a@example.org"},
                                                  {"GIT_COMMITTER_NAME", "A"},
                                                  {"GIT_COMMITTER_EMAIL", "a@example.org"},
                                                  {"GIT_AUTHOR_DATE", "1700000000 +0000"},
                                                  {"GIT_COMMITTER_DATE", "1700000000 +0000"}},
                                  .working_directory = folder,
                                  .input = ""});
  if (!result || result->exit_code != 0)
    throw std::runtime_error("script failed: " + (result ? result->error : result.error().message));
  std::string out = result->output;
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

/// The program git_http_server.py over the bare repositories in Root().
class GitServer {
 public:
  explicit GitServer(const std::string& password = "s3cret-token",
                     const std::string& address = "127.0.0.1")
      : address_(address) {
    std::filesystem::create_directories(folder_ / "repos");
    auto started = base::ChildProcess::Start(
        {.argv = {"python3", std::string(WO_SOURCE_DIR) + "/test/support/git_http_server.py",
                  "--root", Root(), "--password", password, "--address", address},
         .environment = {{"PATH", "/usr/local/bin:/usr/bin:/bin"}},
         .working_directory = "",
         .input = ""},
        folder_ / "log");
    if (!started) throw std::runtime_error(started.error().message);
    process_ = *std::move(started);
    for (int i = 0; i < 2000 && port_.empty(); ++i) {
      const std::string log = Log();
      if (log.starts_with("port ") && log.find('\n') != std::string::npos)
        port_ = log.substr(5, log.find('\n') - 5);
      else
        ::poll(nullptr, 0, 10);
    }
    if (port_.empty()) throw std::runtime_error("the git server did not start: " + Log());
  }
  std::string Host() const {
    const bool v6 = address_.find(':') != std::string::npos;
    return (v6 ? "[" + address_ + "]:" : address_ + ":") + port_;
  }
  std::string Root() const { return folder_ / "repos"; }
  std::string Log() const { return ReadText(folder_ / "log"); }
  size_t Count(const std::string& text) const {
    const std::string log = Log();
    size_t n = 0;
    for (size_t at = log.find(text); at != std::string::npos; at = log.find(text, at + 1)) ++n;
    return n;
  }
  /// A bare repository NAME.git made by running `script` in a working copy of it, with `git commit`
  /// and so on. Returns the last line of output.
  std::string MakeRepository(const std::string& name, const std::string& script) {
    std::filesystem::create_directories(folder_ / ("work-" + name));
    const std::string out =
        Shell(folder_ / ("work-" + name),
              "git init -q -b main . && git config core.protectNTFS false && " + script);
    Shell(folder_.Path(), "git clone -q --bare work-" + name + " repos/" + name +
                              ".git && git -C repos/" + name +
                              ".git config uploadpack.allowAnySHA1InWant true");
    return out.substr(out.rfind('\n') == std::string::npos ? 0 : out.rfind('\n') + 1);
  }
  /// More commits in the working copy, then pushed with all refs (forced).
  std::string Change(const std::string& name, const std::string& script) {
    const std::string out = Shell(folder_ / ("work-" + name), script);
    Shell(folder_ / ("work-" + name), "git push -q -f --mirror ../repos/" + name + ".git");
    return out.substr(out.rfind('\n') == std::string::npos ? 0 : out.rfind('\n') + 1);
  }

 private:
  const std::string address_;
  TempFolder folder_;
  std::string port_;
  std::unique_ptr<base::ChildProcess> process_;
};

}  // namespace support
