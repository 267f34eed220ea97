#include "source/git_tree.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "bundle/manifest.hpp"

namespace source {
namespace {

constexpr size_t kLongestEntry = 70'000;  // Git itself takes names of 64 KiB.

base::Error Refuse(std::string_view path, std::string_view why, const char* reason) {
  return base::MakeError(
      base::Code::kInvalid,
      fmt::format("path `{}` in the repository {}", bundle::Printable(path), why), reason);
}

std::string_view TakeWord(std::string_view& text) {
  const size_t start = text.find_first_not_of(' ');
  if (start == std::string_view::npos) return {};
  const size_t end = text.find(' ', start);
  const std::string_view word =
      text.substr(start, end == std::string_view::npos ? end : end - start);
  text = end == std::string_view::npos ? std::string_view{} : text.substr(end);
  return word;
}

}  // namespace

/// `<mode> SP <type> SP <id> SP <size padded> TAB <path>`
base::Status GitTreeReader::TakeEntry(std::string_view entry) {
  const size_t tab = entry.find('\t');
  if (tab == std::string_view::npos)
    return base::MakeError(base::Code::kInternal, "git ls-tree printed an entry without a path");
  const std::string_view path = entry.substr(tab + 1);
  std::string_view head = entry.substr(0, tab);
  const std::string_view mode = TakeWord(head), type = TakeWord(head), id = TakeWord(head),
                         size_text = TakeWord(head);
  if (mode == "120000")
    return Refuse(path, "is a symbolic link; plugins may not hold links", "SymlinkNotAllowed");
  if (mode == "160000" || type == "commit")
    return Refuse(path, "is a submodule; plugins may not hold submodules", "SubmoduleNotAllowed");
  if (type != "blob" || !mode.starts_with("100"))
    return Refuse(path, fmt::format("has the mode {}", mode), "NameNotAllowed");
  if (blobs_.size() >= limits_.entries)
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("the plugin has more than {} files", limits_.entries),
                           "TooManyEntries");
  GitBlob blob;
  const auto [end, problem] =
      std::from_chars(size_text.data(), size_text.data() + size_text.size(), blob.file.size);
  if (problem != std::errc() || end != size_text.data() + size_text.size())
    return base::MakeError(base::Code::kInternal, "git ls-tree printed no size");
  blob.file.path = path;
  blob.file.executable = mode == "100755";
  blob.id = id;
  if (auto ok = bundle::CheckPath(path, limits_); !ok) return ok;
  if (blob.file.size > limits_.file_bytes)
    return Refuse(
        path,
        fmt::format("has {} bytes, at most {} are allowed", blob.file.size, limits_.file_bytes),
        "TooLarge");
  blobs_.push_back(std::move(blob));
  return {};
}

bool GitTreeReader::Push(std::string_view bytes) {
  while (!bytes.empty() && !problem_) {
    const size_t end = bytes.find('\0');
    rest_ += bytes.substr(0, end);
    if (rest_.size() > kLongestEntry)
      problem_ = Refuse(rest_.substr(0, 200), "is too long", "NameNotAllowed");
    if (end == std::string_view::npos || problem_) break;
    if (auto ok = TakeEntry(rest_); !ok) problem_ = ok.error();
    rest_.clear();
    bytes.remove_prefix(end + 1);
  }
  return !problem_;
}

base::Result<std::vector<GitBlob>> GitTreeReader::Finish() {
  if (problem_) return *problem_;
  if (!rest_.empty())
    return base::MakeError(base::Code::kInternal, "git ls-tree ended within an entry");
  std::sort(blobs_.begin(), blobs_.end(),
            [](const GitBlob& a, const GitBlob& b) { return a.file.path < b.file.path; });
  std::vector<bundle::FileEntry> files;
  for (const GitBlob& blob : blobs_) files.push_back(blob.file);
  if (auto ok = bundle::CheckTree(files, limits_); !ok) return ok.error();
  return std::move(blobs_);
}

base::Status GitBlobReader::StartBlob() {
  const GitBlob& blob = blobs_[next_];
  if (header_ != fmt::format("{} blob {}", blob.id, blob.file.size))
    return base::MakeError(base::Code::kInternal,
                           fmt::format("git cat-file answered something else than the blob of `{}`",
                                       bundle::Printable(blob.file.path)));
  header_.clear();
  kept_ = blob.file.path == bundle::kManifestFile ? &yaml_
          : blob.file.path == bundle::kSkillFile  ? &skill_
                                                  : nullptr;
  if (kept_ != nullptr) kept_->emplace();
  left_ = blob.file.size;
  in_content_ = true;
  return tar_.Begin(blob.file);
}

base::Status GitBlobReader::Take(std::string_view& bytes) {
  if (!in_content_) {
    if (next_ >= blobs_.size())
      return base::MakeError(base::Code::kInternal, "git cat-file printed more than was asked for");
    const size_t end = bytes.find('\n');
    header_ += bytes.substr(0, end);
    bytes.remove_prefix(end == std::string_view::npos ? bytes.size() : end + 1);
    if (header_.size() > 256)
      return base::MakeError(base::Code::kInternal, "git cat-file printed an endless header");
    return end == std::string_view::npos ? base::Status{} : StartBlob();
  }
  if (left_ == 0) {  // The newline after the content.
    bytes.remove_prefix(1);
    in_content_ = false;
    ++next_;
    return {};
  }
  const std::string_view piece =
      bytes.substr(0, static_cast<size_t>(std::min<uint64_t>(left_, bytes.size())));
  bytes.remove_prefix(piece.size());
  left_ -= piece.size();
  if (kept_ != nullptr && (*kept_)->size() <= bundle::Limits{}.manifest_bytes)
    (*kept_)->append(piece);
  return tar_.Write(piece);
}

bool GitBlobReader::Push(std::string_view bytes) {
  while (!bytes.empty() && !problem_)
    if (auto ok = Take(bytes); !ok) problem_ = ok.error();
  return !problem_;
}

base::Status GitBlobReader::Finish() const {
  if (problem_) return *problem_;
  if (next_ != blobs_.size())
    return base::MakeError(base::Code::kInternal,
                           fmt::format("git cat-file gave {} of {} blobs", next_, blobs_.size()));
  return {};
}

}  // namespace source
