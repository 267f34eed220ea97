#include "bundle/tree_check.hpp"

#include <fmt/format.h>

#include <cctype>
#include <map>

#include "bundle/unicode.hpp"

namespace bundle {
namespace {

base::Error Refuse(std::string_view path, std::string_view why,
                   std::string reason = "NameNotAllowed") {
  return base::MakeError(base::Code::kInvalid, fmt::format("path `{}`: {}", Printable(path), why),
                         std::move(reason));
}

base::Status CheckSegment(std::string_view path, std::string_view segment, const Limits& limits) {
  if (segment.empty())
    return Refuse(path, "has an empty segment (leading, trailing or double slash)");
  if (segment == "." || segment == "..") return Refuse(path, "has a segment `.` or `..`");
  if (segment.size() > limits.name_bytes)
    return Refuse(path, fmt::format("has a segment over {} bytes", limits.name_bytes));
  for (std::string_view rest = segment; !rest.empty();) {
    const auto c = TakeCodePoint(rest);
    if (!c) return Refuse(path, "is not valid UTF-8");
    if (IsInvisible(*c))
      return Refuse(path, fmt::format("has the control or invisible character U+{:04X}",
                                      static_cast<uint32_t>(*c)));
    if (*c == '\\') return Refuse(path, "has a backslash");
    if (IsDecomposed(*c)) return Refuse(path, "is not in composed form (NFC); rename it");
  }
  if (FoldCase(segment) == ".git") return Refuse(path, "has a segment `.git`");
  return {};
}

/// Remembers each prefix by its folded spelling, to find names that are one on a file system that
/// ignores case.
class Names {
 public:
  base::Status Add(std::string_view path) {
    for (size_t end = path.find('/');; end = path.find('/', end + 1)) {
      const bool is_file = end == std::string_view::npos;
      const std::string_view prefix = path.substr(0, end);
      const auto [place, fresh] =
          seen_.try_emplace(FoldCase(prefix), Seen{std::string(prefix), is_file});
      if (!fresh) {
        if (place->second.spelling != prefix)
          return Refuse(path, fmt::format("collides with `{}` where case is ignored; rename one",
                                          Printable(place->second.spelling)));
        if (is_file || place->second.is_file)
          return Refuse(path, "is there twice, or as a file and as a folder");
      }
      if (is_file) return {};
    }
  }

 private:
  struct Seen {
    std::string spelling;
    bool is_file;
  };
  std::map<std::string, Seen, std::less<>> seen_;
};

}  // namespace

std::string Printable(std::string_view text) {
  constexpr size_t kMost = 120;
  std::string out;
  while (!text.empty() && out.size() < kMost) {
    const std::string_view before = text;
    const auto c = TakeCodePoint(text);
    if (c && !IsInvisible(*c)) {
      out += before.substr(0, before.size() - text.size());
    } else if (c) {
      for (const char byte : before.substr(0, before.size() - text.size()))
        out += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[0]));
      text.remove_prefix(1);
    }
  }
  return text.empty() ? out : out + "...";
}

base::Status CheckPath(std::string_view path, const Limits& limits) {
  if (path.empty()) return Refuse(path, "is empty");
  if (path.size() > limits.path_bytes)
    return Refuse(path, fmt::format("is over {} bytes", limits.path_bytes));
  if (path[0] == '/') return Refuse(path, "is absolute");
  size_t depth = 0;
  for (std::string_view rest = path;;) {
    const size_t slash = rest.find('/');
    if (++depth > limits.depth)
      return Refuse(path, fmt::format("is deeper than {} levels", limits.depth), "TooDeep");
    if (auto ok = CheckSegment(path, rest.substr(0, slash), limits); !ok) return ok;
    if (slash == std::string_view::npos) return {};
    rest = rest.substr(slash + 1);
  }
}

base::Status CheckTree(const std::vector<FileEntry>& files, const Limits& limits) {
  if (files.size() > limits.entries)
    return base::MakeError(
        base::Code::kInvalid,
        fmt::format("{} files, at most {} are allowed", files.size(), limits.entries),
        "TooManyEntries");
  Names names;
  uint64_t total = 0;
  for (const FileEntry& file : files) {
    if (auto ok = CheckPath(file.path, limits); !ok) return ok;
    if (auto ok = names.Add(file.path); !ok) return ok;
    if (file.size > limits.file_bytes)
      return Refuse(
          file.path,
          fmt::format("has {} bytes, at most {} are allowed", file.size, limits.file_bytes),
          "TooLarge");
    total += file.size;
    if (total > limits.total_bytes)
      return base::MakeError(
          base::Code::kInvalid,
          fmt::format("the files have more than {} bytes together", limits.total_bytes),
          "TooLarge");
  }
  return {};
}

bool IsPluginName(std::string_view name) {
  const auto alnum = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
  if (name.empty() || name.size() > 63 || !alnum(name.front()) || !alnum(name.back())) return false;
  for (const char c : name)
    if (!alnum(c) && c != '.' && c != '_' && c != '-') return false;
  return true;
}

}  // namespace bundle
