#include "source/git_program.hpp"

#include <dirent.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>

#include "base/failpoint.hpp"
#include "base/file.hpp"
#include "base/program_files.hpp"
#include "base/sha256.hpp"
#include "bundle/folder.hpp"
#include "source/askpass.hpp"

namespace source {
namespace {

constexpr char kPath[] = "/usr/local/bin:/usr/bin:/bin";
constexpr size_t kMessageBytes = 400;

struct Verdict {
  std::string_view said;
  base::Code code;
  const char* reason;
};

/// What git and curl say (LC_ALL=C), in order of precedence.
constexpr std::array<Verdict, 28> kVerdicts{{
    // Before what git says next: that nobody has told it the user's name.
    {"cannot run", base::Code::kInternal, "GitHelperMissing"},
    {"unable to read askpass response", base::Code::kInternal, "GitHelperMissing"},
    {"Authentication failed", base::Code::kUnauthorized, "SourceUnauthorized"},
    {"could not read Username", base::Code::kUnauthorized, "SourceUnauthorized"},
    {"could not read Password", base::Code::kUnauthorized, "SourceUnauthorized"},
    {"returned error: 401", base::Code::kUnauthorized, "SourceUnauthorized"},
    {"returned error: 403", base::Code::kForbidden, "SourceUnauthorized"},
    {"returned error: 3", base::Code::kInvalid, "SourceRedirected"},
    {"Maximum (0) redirects", base::Code::kInvalid, "SourceRedirected"},
    {"redirect", base::Code::kInvalid, "SourceRedirected"},
    {"returned error: 404", base::Code::kNotFound, "SourceUnavailable"},
    {"repository not found", base::Code::kNotFound, "SourceUnavailable"},
    {"' not found", base::Code::kNotFound, "SourceUnavailable"},  // The URL is between the words.
    {"not our ref", base::Code::kNotFound, "RefNotFound"},
    {"couldn't find remote ref", base::Code::kNotFound, "RefNotFound"},
    {"did not receive expected object", base::Code::kNotFound, "RefNotFound"},
    {"Operation too slow", base::Code::kTimeout, "SourceTimeout"},
    {"timed out", base::Code::kTimeout, "SourceTimeout"},
    {"hasDotgit", base::Code::kInvalid, "NameNotAllowed"},
    {"hasDot", base::Code::kInvalid, "NameNotAllowed"},
    {"fullPathname", base::Code::kInvalid, "NameNotAllowed"},
    {"fullPathName", base::Code::kInvalid, "NameNotAllowed"},
    {"emptyName", base::Code::kInvalid, "NameNotAllowed"},
    {"duplicateEntries", base::Code::kInvalid, "NameNotAllowed"},
    {"treeNotSorted", base::Code::kInvalid, "NameNotAllowed"},
    {"fsck error", base::Code::kInvalid, "SourceDamaged"},
    {"File too large", base::Code::kInvalid, "TooLarge"},
    {"ut of memory", base::Code::kInvalid, "TooLarge"},
}};

/// What a person can do about it. Servers say "not found" of what the asker may not see.
std::string RemedyFor(const Verdict& verdict, const GitRun& run) {
  if (verdict.reason == std::string_view("GitHelperMissing"))
    return "; git cannot start a program that it needs: the operator's installation lacks it, the "
           "source and its token were not tried";
  const bool hidden = verdict.code == base::Code::kNotFound &&
                      verdict.reason == std::string_view("SourceUnavailable");
  if (!hidden && verdict.reason != std::string_view("SourceUnauthorized")) return "";
  return run.credentials ? "; check the name, and that the token of sourceSecretRef may read it"
                         : "; check the name; a private repository needs sourceSecretRef";
}

base::Error Judge(const base::CommandResult& result, const GitRun& run) {
  const std::string text = SanitiseGitText(result.error, run.credentials);
  const std::string message =
      fmt::format("git {}: {}", run.arguments[0],
                  text.empty() ? fmt::format("exit code {}", result.exit_code) : text);
  // A worker that a limit (file size, processor time, memory) has ended dies without a word of its
  // own.
  const bool silent_death = text == "fatal: fetch-pack: invalid index-pack output";
  if (silent_death || result.exit_code == 128 + SIGXFSZ ||
      result.error.find("signal 25") != std::string::npos)
    return base::MakeError(
        base::Code::kInvalid,
        fmt::format("git {}: the repository is larger than allowed", run.arguments[0]), "TooLarge");
  if (result.exit_code == 128 + SIGXCPU)
    return base::MakeError(
        base::Code::kInvalid,
        fmt::format("git {}: the repository takes more processor time than allowed",
                    run.arguments[0]),
        "TooLarge");
  for (const Verdict& verdict : kVerdicts)
    if (result.error.find(verdict.said) != std::string::npos)
      return base::MakeError(verdict.code, message + RemedyFor(verdict, run), verdict.reason);
  return base::MakeError(base::Code::kUnavailable, message, "SourceUnavailable");
}

base::Error FromRun(base::Error error) {
  if (error.code == base::Code::kTimeout) error.reason = "SourceTimeout";
  if (error.code == base::Code::kInvalid) error.reason = "TooLarge";
  if (error.code == base::Code::kNotFound)
    error = base::MakeError(base::Code::kInternal,
                            "there is no git program in " + std::string(kPath), "GitMissing");
  return error;
}

/// In the names of all scratch folders of this process: settings that are read again make another
/// GitProgram in the same work directory, and what the one before still uses is no left-over.
const std::string& OwnScratch() {
  static const std::string own = "git-" + base::RandomUuid().substr(0, 8) + "-";
  return own;
}

void Replace(std::string& text, const std::string& what) {
  if (what.size() < 4) return;  // Shorter ones would only mangle ordinary words.
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at))
    text.replace(at, what.size(), "***");
}

/// Both questions' answers in a private folder.
base::Result<std::string> WriteSecret(const GitProgram& program, const Credentials& credentials) {
  auto folder = program.MakeScratch("secret");
  if (!folder) return folder;
  for (const auto& [file, value] : {std::pair{"/username", &credentials.username},
                                    std::pair{"/password", &credentials.password}}) {
    const std::string& text =
        value->empty() && file == std::string_view("/username") ? "token" : *value;
    if (auto ok = base::WriteFileAtomic(*folder + file, text + "\n", 0600); !ok) {
      program.RemoveScratch(*folder);
      return ok.error();
    }
  }
  return folder;
}

}  // namespace

std::string SanitiseGitText(std::string_view text, const Credentials* credentials) {
  std::string out;
  bool in_escape = false;
  for (const char c : text.substr(0, 16 << 10)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == 0x1B) {
      in_escape = true;
    } else if (in_escape) {
      in_escape = !((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'));
    } else if (byte < 0x20 || byte >= 0x7F) {
      if (!out.empty() && out.back() != ' ') out += ' ';
    } else {
      out += c;
    }
  }
  if (credentials != nullptr) {
    Replace(out, credentials->password);
    Replace(out, credentials->username);
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  // The last words say why; the first ones are often progress.
  if (out.size() > kMessageBytes) out = "..." + out.substr(out.size() - kMessageBytes);
  return out;
}

base::Result<GitProgram> GitProgram::Make(const SourceSettings& settings) {
  if (settings.work_directory.empty() || settings.work_directory[0] != '/')
    return base::MakeError(base::Code::kInternal,
                           "the work directory of the sources must be an absolute path");
  if (auto ok = base::MakeDirectories(settings.work_directory, 0700); !ok) return ok.error();
  auto folder = bundle::Folder::Open(settings.work_directory);
  if (!folder) return folder.error();
  auto names = folder->List();
  if (!names) return names.error();
  for (const std::string& name : *names)
    if (name.starts_with("git-") && !name.starts_with(OwnScratch()))
      if (auto ok = folder->RemoveTree(name); !ok) return ok.error();
  if (auto ok = base::MakeDirectories(settings.work_directory + "/home", 0700); !ok)
    return ok.error();
  GitProgram program(settings);
  if (program.settings_.askpass_program.empty())
    program.settings_.askpass_program = base::OwnProgramPath();
  auto version = program.Run({.arguments = {"version"}, .repository = ""}, {});
  if (!version) return version.error();
  return program;
}

base::Result<std::string> GitProgram::MakeScratch(std::string_view purpose) const {
  std::string path = fmt::format("{}/{}{}-{}", settings_.work_directory, OwnScratch(), purpose,
                                 base::RandomUuid());
  if (::mkdir(path.c_str(), 0700) != 0) return base::ErrnoError(errno, "make folder " + path);
  return path;
}

void GitProgram::RemoveScratch(const std::string& path) const {
  const auto folder = bundle::Folder::Open(settings_.work_directory);
  if (folder)
    static_cast<void>(folder->RemoveTree(path.substr(settings_.work_directory.size() + 1)));
}

base::Command GitProgram::MakeCommand(const GitRun& run,
                                      const std::string& secret_directory) const {
  base::Command command;
  command.argv = {"git"};
  const std::string protocols = run.plain_http ? "https:http" : "https";
  std::vector<std::string> options{
      "protocol.allow=never",
      "protocol.https.allow=always",
      "http.followRedirects=false",
      "http.lowSpeedLimit=1000",
      fmt::format("http.lowSpeedTime={}", settings_.git.low_speed_seconds),
      "http.maxRequests=2",
      "credential.helper=",
      "core.hooksPath=/dev/null",
      "core.symlinks=false",
      "core.fsmonitor=false",
      "core.protectHFS=true",
      "core.protectNTFS=true",
      "transfer.fsckObjects=true",
      "fetch.fsckObjects=true",
      "fetch.fsck.zeroPaddedFilemode=ignore",
      "fetch.fsck.badTimezone=ignore",
      "fetch.fsck.missingSpaceBeforeDate=ignore",
      "transfer.unpackLimit=1",
      "fetch.unpackLimit=1",
      "transfer.bundleURI=false",
      "fetch.recurseSubmodules=false",
      "submodule.recurse=false",
      "gc.auto=0",
      "maintenance.auto=false",
      "pack.threads=1",
      "core.bigFileThreshold=1m",
      "protocol.version=2",
      "advice.detachedHead=false"};
  if (run.plain_http) options.push_back("protocol.http.allow=always");
  if (!settings_.ca_file.empty()) options.push_back("http.sslCAInfo=" + settings_.ca_file);
  for (const std::string& option : options) {
    command.argv.push_back("-c");
    command.argv.push_back(option);
  }
  if (!run.repository.empty()) command.argv.push_back("--git-dir=" + run.repository);
  command.argv.insert(command.argv.end(), run.arguments.begin(), run.arguments.end());
  command.environment = {{"PATH", kPath},
                         {"HOME", settings_.work_directory + "/home"},
                         {"LC_ALL", "C"},
                         {"GIT_CONFIG_NOSYSTEM", "1"},
                         {"GIT_CONFIG_GLOBAL", "/dev/null"},
                         {"GIT_ATTR_NOSYSTEM", "1"},
                         {"GIT_TERMINAL_PROMPT", "0"},
                         {"GIT_ALLOW_PROTOCOL", protocols},
                         {"GIT_PROTOCOL_FROM_USER", "0"},
                         {"GIT_NO_REPLACE_OBJECTS", "1"},
                         {"GIT_OPTIONAL_LOCKS", "0"},
                         {"GIT_CEILING_DIRECTORIES", settings_.work_directory}};
  if (!secret_directory.empty()) {
    command.environment["GIT_ASKPASS"] = settings_.askpass_program;
    command.environment[kSecretFolderVariable] = secret_directory;
  }
  command.working_directory = settings_.work_directory;
  command.input = run.input;
  command.deadline = run.deadline;
  command.output_limit = run.output_limit;
  command.output_sink = run.output_sink;
  command.memory_limit = settings_.git.memory_bytes;
  command.file_size_limit = settings_.git.pack_bytes;
  command.cpu_seconds_limit = settings_.git.cpu_seconds;
  return command;
}

base::Result<std::string> GitProgram::Run(const GitRun& run, std::stop_token stop) const {
  std::string secret;
  if (run.credentials != nullptr) {
    auto made = WriteSecret(*this, *run.credentials);
    if (!made) return made;
    secret = *std::move(made);
  }
  const base::FailpointScope point("source.git." + run.arguments[0]);
  auto result = base::RunCommand(MakeCommand(run, secret), stop);
  if (!secret.empty()) RemoveScratch(secret);
  if (!result) return FromRun(result.error());
  if (result->exit_code != 0) return Judge(*result, run);
  return std::move(result->output);
}

}  // namespace source
