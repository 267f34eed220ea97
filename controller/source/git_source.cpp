#include "source/git_source.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/failpoint.hpp"
#include "base/file.hpp"
#include "bundle/manifest.hpp"
#include "source/git_address.hpp"
#include "source/git_program.hpp"
#include "source/git_tree.hpp"

namespace source {
namespace {

using Refs = std::map<std::string, std::string>;  ///< Full name to object id.

bool IsFullCommit(std::string_view text) {
  return (text.size() == 40 || text.size() == 64) &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

Refs ParseRefs(std::string_view text) {
  Refs out;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    const size_t tab = line.find('\t');
    if (tab != std::string_view::npos && IsFullCommit(line.substr(0, tab)))
      out.emplace(line.substr(tab + 1), line.substr(0, tab));
  }
  return out;
}

std::string FindRef(const Refs& refs, const std::string& name) {
  for (const std::string& spelling :
       {name + "^{}", name})  // An annotated tag's commit, if it is one.
    if (const auto found = refs.find(spelling); found != refs.end()) return found->second;
  return "";
}

base::Error RefError(const core::SourceUri& uri, std::string why, const char* reason) {
  return base::MakeError(
      reason == std::string_view("RefNotFound") ? base::Code::kNotFound : base::Code::kInvalid,
      fmt::format("source `{}`: {}", uri.text, why), reason);
}

class GitSource final : public PluginSource {
 public:
  GitSource(SourceSettings settings, GitProgram program)
      : settings_(std::move(settings)), program_(std::move(program)) {}

  base::Result<Resolution> Resolve(const core::SourceUri& uri,
                                   const std::optional<Credentials>& credentials,
                                   std::stop_token stop) override {
    const base::FailpointScope point("source.resolve");
    auto address = MakeGitAddress(uri, settings_);
    if (!address) return address.error();
    if (uri.ref_kind == core::RefKind::kNone && !settings_.allow_unpinned)
      return RefError(uri, "names no ref; add #tag:NAME, #sha:FULL or #branch:NAME",
                      "RefNotPinned");
    const bool commit = uri.ref_kind == core::RefKind::kCommit ||
                        (uri.ref_kind == core::RefKind::kBare && IsFullCommit(uri.ref));
    if (commit) {
      if (!IsFullCommit(uri.ref))
        return RefError(uri, "`sha:` needs all 40 (or 64) lower-case hex digits", "RefNotFound");
      return Resolution{uri.ref, "Commit", uri.ref};
    }
    auto refs = ListRefs(uri, *address, credentials, stop);
    if (!refs) return refs.error();
    return Choose(uri, *refs);
  }

  base::Result<Artifact> Fetch(const core::SourceUri& uri, const Resolution& resolution,
                               const std::optional<Credentials>& credentials,
                               const std::string& tar_path, std::stop_token stop) override {
    const base::FailpointScope point("source.fetch");
    auto address = MakeGitAddress(uri, settings_);
    if (!address) return address.error();
    if (!IsFullCommit(resolution.commit))
      return base::MakeError(base::Code::kInternal, "fetch of something that is no commit id");
    auto repository = program_.MakeScratch("fetch");
    if (!repository) return repository.error();
    auto artifact =
        FetchInto(*repository, uri, *address, resolution.commit, credentials, tar_path, stop);
    program_.RemoveScratch(*repository);
    return artifact;
  }

 private:
  base::Result<Refs> ListRefs(const core::SourceUri& uri, const GitAddress& address,
                              const std::optional<Credentials>& credentials,
                              std::stop_token stop) const {
    GitRun run{.arguments = {"ls-remote", "--quiet", "--", address.url}};
    const auto want = [&](std::string name) { run.arguments.push_back(std::move(name)); };
    if (uri.ref_kind == core::RefKind::kTag || uri.ref_kind == core::RefKind::kBare) {
      want("refs/tags/" + uri.ref);
      want("refs/tags/" + uri.ref + "^{}");
    }
    if (uri.ref_kind == core::RefKind::kBranch || uri.ref_kind == core::RefKind::kBare)
      want("refs/heads/" + uri.ref);
    if (uri.ref_kind == core::RefKind::kNone) want("HEAD");
    run.deadline = settings_.git.resolve_deadline;
    run.output_limit = settings_.git.ref_bytes;
    run.plain_http = address.plain_http;
    run.credentials = credentials ? &*credentials : nullptr;
    auto text = program_.Run(run, stop);
    if (!text) return text.error();
    return ParseRefs(*text);
  }

  static base::Result<Resolution> Choose(const core::SourceUri& uri, const Refs& refs) {
    if (uri.ref_kind == core::RefKind::kNone) {
      const std::string head = FindRef(refs, "HEAD");
      if (head.empty())
        return RefError(uri, "the repository has no HEAD; name a branch or tag", "RefNotFound");
      return Resolution{"HEAD", "Branch", head};
    }
    const std::string tag = FindRef(refs, "refs/tags/" + uri.ref);
    const auto head = refs.find("refs/heads/" + uri.ref);
    const std::string branch = head == refs.end() ? "" : head->second;
    if (uri.ref_kind == core::RefKind::kBare && !tag.empty() && !branch.empty())
      return RefError(
          uri,
          fmt::format(
              "`{0}` is a tag ({1:.12}) and a branch ({2:.12}); write #tag:{0} or #branch:{0}",
              uri.ref, tag, branch),
          "RefAmbiguous");
    if (uri.ref_kind != core::RefKind::kBranch && !tag.empty())
      return Resolution{uri.ref, "Tag", tag};
    if (uri.ref_kind != core::RefKind::kTag && !branch.empty())
      return Resolution{uri.ref, "Branch", branch};
    const char* kind = uri.ref_kind == core::RefKind::kTag      ? "tag"
                       : uri.ref_kind == core::RefKind::kBranch ? "branch"
                                                                : "tag or branch";
    return RefError(uri, fmt::format("the repository has no {} `{}`", kind, uri.ref),
                    "RefNotFound");
  }

  base::Result<std::string> Local(const std::string& repository, std::vector<std::string> arguments,
                                  std::string input, std::stop_token stop) const {
    return program_.Run({.arguments = std::move(arguments),
                         .repository = repository,
                         .input = std::move(input),
                         .deadline = settings_.git.fetch_deadline},
                        stop);
  }

  base::Result<Artifact> FetchInto(const std::string& repository, const core::SourceUri& uri,
                                   const GitAddress& address, const std::string& commit,
                                   const std::optional<Credentials>& credentials,
                                   const std::string& tar_path, std::stop_token stop) const {
    const std::string format = commit.size() == 64 ? "sha256" : "sha1";
    auto made =
        program_.Run({.arguments = {"init", "--quiet", "--bare",
                                    "--template=", "--object-format=" + format, "--", repository}},
                     stop);
    if (!made) return made.error();
    GitRun fetch{
        .arguments = {"fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules",
                      "--no-write-fetch-head", "--no-auto-maintenance", "--", address.url, commit},
        .repository = repository};
    fetch.deadline = settings_.git.fetch_deadline;
    fetch.plain_http = address.plain_http;
    fetch.credentials = credentials ? &*credentials : nullptr;
    if (auto fetched = program_.Run(fetch, stop); !fetched) return fetched.error();
    auto tree = FindTree(repository, uri, commit, stop);
    if (!tree) return tree.error();
    auto blobs = ReadTree(repository, *tree, stop);
    if (!blobs) return blobs.error();
    return WriteTar(repository, uri, *blobs, tar_path, stop);
  }

  /// The id of the plugin's folder. Both objects are asked for in one run; what the user wrote goes
  /// in by stdin, as data.
  base::Result<std::string> FindTree(const std::string& repository, const core::SourceUri& uri,
                                     const std::string& commit, std::stop_token stop) const {
    if (!uri.subpath.empty())
      if (auto ok = bundle::CheckPath(uri.subpath, settings_.limits); !ok) return ok.error();
    auto text = Local(repository, {"cat-file", "--batch-check"},
                      fmt::format("{0}\n{0}:{1}\n", commit, uri.subpath), stop);
    if (!text) return text.error();
    const size_t newline = text->find('\n');
    const std::string_view second =
        std::string_view(*text).substr(newline == std::string::npos ? text->size() : newline + 1);
    if (text->find(commit + " commit ") != 0)
      return RefError(
          uri,
          fmt::format("{:.12} is no commit (a tag of a single file or folder cannot be used)",
                      commit),
          "RefNotFound");
    const size_t space = second.find(' ');
    if (space == std::string_view::npos || !IsFullCommit(second.substr(0, space)) ||
        second.substr(space, 6) != " tree ")
      return base::MakeError(base::Code::kNotFound,
                             fmt::format("source `{}`: commit {:.12} has no folder `{}`", uri.text,
                                         commit, uri.subpath),
                             "PathNotFound");
    return std::string(second.substr(0, space));
  }

  base::Result<std::vector<GitBlob>> ReadTree(const std::string& repository,
                                              const std::string& tree, std::stop_token stop) const {
    GitTreeReader reader(settings_.limits);
    GitRun run{.arguments = {"ls-tree", "-r", "-z", "-l", "--full-tree", tree},
               .repository = repository};
    run.deadline = settings_.git.fetch_deadline;
    run.output_sink = [&reader](std::string_view bytes) { return reader.Push(bytes); };
    const auto done = program_.Run(run, stop);
    if (!done && !reader.Refused()) return done.error();
    return reader.Finish();
  }

  base::Result<Artifact> WriteTar(const std::string& repository, const core::SourceUri& uri,
                                  const std::vector<GitBlob>& blobs, const std::string& tar_path,
                                  std::stop_token stop) const {
    auto tar = bundle::TarFileWriter::Create(tar_path);
    if (!tar) return tar.error();
    GitBlobReader reader(blobs, **tar);
    GitRun run{.arguments = {"cat-file", "--batch", "--buffer"}, .repository = repository};
    for (const GitBlob& blob : blobs) run.input += blob.id + "\n";
    run.deadline = settings_.git.fetch_deadline;
    run.output_sink = [&reader](std::string_view bytes) { return reader.Push(bytes); };
    const auto done = program_.Run(run, stop);
    if (auto read = reader.Finish(); !read)
      return done || done.error().code == base::Code::kCancelled ? read.error() : done.error();
    if (!done) return done.error();
    const auto& yaml = reader.PluginYaml();
    const auto& skill = reader.SkillMd();
    auto manifest = bundle::SelectManifest(yaml ? &*yaml : nullptr, skill ? &*skill : nullptr,
                                           uri.DefaultPluginName());
    if (!manifest) return manifest.error();
    auto packed = (*tar)->Finish();
    if (!packed) return packed.error();
    return Artifact{packed->digest, tar_path, packed->size_bytes, manifest->name,
                    manifest->reload_none};
  }

  SourceSettings settings_;
  GitProgram program_;
};

}  // namespace

base::Result<std::unique_ptr<PluginSource>> MakeGitSource(const SourceSettings& settings) {
  auto program = GitProgram::Make(settings);
  if (!program) return program.error();
  return std::unique_ptr<PluginSource>(std::make_unique<GitSource>(settings, *std::move(program)));
}

}  // namespace source
