#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/child_process.hpp"
#include "base/result.hpp"
#include "source/plugin_source.hpp"
#include "source/source_settings.hpp"

namespace source {

/// One run of git.
struct GitRun {
  std::vector<std::string> arguments =
      {};  ///< After the fenced options; "--" before anything that a user wrote.
  std::string repository = {};  ///< --git-dir; empty: none.
  std::string input = {};
  base::Millis deadline{30'000};
  size_t output_limit = 4 << 20;
  std::function<bool(std::string_view)> output_sink = nullptr;
  bool plain_http = false;  ///< The URL's host may be spoken to without TLS.
  const Credentials* credentials = nullptr;
};

/// The git program in its fence (see git_source.hpp). Thread safe.
class GitProgram {
 public:
  /// Prepares the work directory (left-overs of a killed process are removed) and finds git.
  static base::Result<GitProgram> Make(const SourceSettings& settings);

  /// Its stdout. Errors: by what git said, with the reasons of plugin_source.hpp; the message is
  /// git's, sanitised, redacted and cut.
  base::Result<std::string> Run(const GitRun& run, std::stop_token stop) const;
  /// A new empty folder beneath the work directory.
  base::Result<std::string> MakeScratch(std::string_view purpose) const;
  void RemoveScratch(const std::string& path) const;

 private:
  explicit GitProgram(SourceSettings settings) : settings_(std::move(settings)) {}
  base::Command MakeCommand(const GitRun& run, const std::string& secret_directory) const;

  SourceSettings settings_;
};

/// What git said on stderr as one line fit for a condition: no control bytes, no secret, at most
/// 400 bytes.
std::string SanitiseGitText(std::string_view text, const Credentials* credentials);

}  // namespace source
