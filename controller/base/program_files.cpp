#include "base/program_files.hpp"

#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <filesystem>
#include <string_view>

#include "base/file.hpp"
#include "base/sha256.hpp"

namespace base {
namespace {

constexpr size_t kProgramBytes = 512u << 20;

std::string NameOf(std::string_view path) {
  const std::string_view last = path.substr(path.rfind('/') + 1);
  return last.starts_with("ld-linux") || last.starts_with("ld64") ? "lib/ld.so"
                                                                  : "lib/" + std::string(last);
}

int Collect(dl_phdr_info* info, size_t, void* data) {
  const std::string_view path = info->dlpi_name == nullptr ? "" : info->dlpi_name;
  // The program itself has no name here, and the kernel's page is no file.
  if (path.find('/') != std::string_view::npos)
    static_cast<std::vector<ProgramFile>*>(data)->push_back({NameOf(path), std::string(path)});
  return 0;
}

}  // namespace

std::string OwnProgramPath() {
  char path[PATH_MAX];
  const ssize_t n = ::readlink("/proc/self/exe", path, sizeof path);
  return n > 0 ? std::string(path, static_cast<size_t>(n)) : std::string();
}

Result<std::vector<ProgramFile>> OwnProgramFiles() {
  std::vector<ProgramFile> files{{"workspace-operator", OwnProgramPath()}};
  ::dl_iterate_phdr(Collect, &files);
  for (ProgramFile& file : files) {
    struct stat info {};
    if (::stat(file.path.c_str(), &info) != 0) return ErrnoError(errno, "look at " + file.path);
    file.size = static_cast<uint64_t>(info.st_size);
  }
  std::sort(files.begin(), files.end(),
            [](const ProgramFile& a, const ProgramFile& b) { return a.name < b.name; });
  const auto same = [](const ProgramFile& a, const ProgramFile& b) { return a.name == b.name; };
  files.erase(std::unique(files.begin(), files.end(), same), files.end());
  return files;
}

Status CopyOwnProgram(const std::string& folder) {
  auto files = OwnProgramFiles();
  if (!files) return files.error();
  if (auto made = MakeDirectories(folder + "/lib", 0755); !made) return made;
  for (const ProgramFile& file : *files) {
    const std::string target = folder + "/" + file.name;
    std::error_code error;
    std::filesystem::copy_file(file.path, target + ".new",
                               std::filesystem::copy_options::overwrite_existing, error);
    if (!error) std::filesystem::rename(target + ".new", target, error);
    if (error) return ErrnoError(error.value(), "copy " + file.path + " to " + target);
    ::chmod(target.c_str(), 0755);
  }
  return {};
}

std::vector<std::string> RunProgramArgv(const std::string& folder) {
  return {folder + "/lib/ld.so", "--library-path", folder + "/lib", folder + "/workspace-operator"};
}

std::string OwnProgramId() {
  static const std::string id = [] {
    const auto bytes = ReadFile(OwnProgramPath(), kProgramBytes);
    return bytes ? Hex(Sha256Of(*bytes)).substr(0, 16) : std::string("unknown");
  }();
  return id;
}

}  // namespace base
