#include "bundle/installed/unpack.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>

#include "base/sha256.hpp"
#include "bundle/canonical_tar.hpp"
#include "bundle/manifest.hpp"

namespace bundle {
namespace {

/// Keeps the manifest's text; writes nothing.
class Judge final : public TarVisitor {
 public:
  base::Status OnFile(const FileEntry& file) override {
    target_ = file.path == kManifestFile ? &yaml_ : file.path == kSkillFile ? &skill_ : nullptr;
    if (target_ != nullptr) target_->emplace();
    return {};
  }
  base::Status OnBytes(std::string_view bytes) override {
    if (target_ != nullptr && (*target_)->size() <= Limits{}.manifest_bytes)
      (*target_)->append(bytes);
    return {};
  }
  base::Result<Manifest> Read(const std::string& name) const {
    return SelectManifest(yaml_ ? &*yaml_ : nullptr, skill_ ? &*skill_ : nullptr, name);
  }

 private:
  std::optional<std::string> yaml_, skill_;
  std::optional<std::string>* target_ = nullptr;
};

class Writer final : public TarVisitor {
 public:
  explicit Writer(const Folder& tree) : tree_(tree) {}
  base::Status OnFile(const FileEntry& file) override {
    EndFile();
    auto fd = tree_.Create(file.path, file.executable ? 0755 : 0644);
    if (!fd) return fd.error();
    fd_ = *std::move(fd);
    hash_ = base::Sha256();
    files_.push_back({file.path, file.size, file.executable, ""});
    return {};
  }
  base::Status OnBytes(std::string_view bytes) override {
    hash_.Update(bytes);
    while (!bytes.empty()) {
      const ssize_t n = ::write(fd_.Get(), bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0)
        return base::ErrnoError(errno,
                                fmt::format("write {}/{}", tree_.Text(), files_.back().path));
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return {};
  }
  void EndFile() {
    if (files_.empty() || !fd_.Valid()) return;
    files_.back().sha256 = base::Hex(hash_.Finish());
    fd_.Reset();
  }
  std::vector<ReceiptFile> TakeFiles() { return std::move(files_); }

 private:
  const Folder& tree_;
  base::UniqueFd fd_;
  base::Sha256 hash_;
  std::vector<ReceiptFile> files_;
};

base::Status ReadTar(int fd, const StageRequest& request, TarVisitor& visitor, const Limits& limits,
                     std::stop_token stop) {
  if (::lseek(fd, 0, SEEK_SET) != 0) return base::ErrnoError(errno, "read " + request.tar_path);
  TarReader reader(visitor, limits);
  char buffer[65536];
  for (;;) {
    if (stop.stop_requested())
      return base::MakeError(base::Code::kCancelled,
                             fmt::format("plugin {}: unpacking stopped", request.name));
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return base::ErrnoError(errno, "read " + request.tar_path);
    if (n == 0) break;
    if (auto ok = reader.Push({buffer, static_cast<size_t>(n)}); !ok) return ok;
  }
  const auto digest = reader.Finish();
  if (!digest) return digest.error();
  if (base::DigestText(*digest) != request.digest)
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("plugin {}: its archive has the digest {}, not {}",
                                       request.name, base::DigestText(*digest), request.digest),
                           "DigestMismatch");
  return {};
}

}  // namespace

base::Result<Receipt> UnpackVerified(const StageRequest& request, const Folder& tree,
                                     const Limits& limits, std::stop_token stop) {
  const base::UniqueFd fd(::open(request.tar_path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.Valid()) return base::ErrnoError(errno, "open " + request.tar_path);
  Judge judge;
  if (auto ok = ReadTar(fd.Get(), request, judge, limits, stop); !ok) return ok.error();
  const auto manifest = judge.Read(request.name);
  if (!manifest) return manifest.error();
  if (manifest->name != request.name)
    return base::MakeError(
        base::Code::kInvalid,
        fmt::format("plugin {}: its manifest says the name `{}`; declare it under that name",
                    request.name, manifest->name),
        "NameMismatch");
  Writer writer(tree);
  if (auto ok = ReadTar(fd.Get(), request, writer, limits, stop); !ok) return ok.error();
  writer.EndFile();
  // One flush for all files and folders of the tree.
  if (::syncfs(tree.Fd()) != 0) return base::ErrnoError(errno, "flush " + tree.Text());
  Receipt receipt{.name = request.name,
                  .source = request.source,
                  .revision = request.revision,
                  .digest = request.digest};
  receipt.files = writer.TakeFiles();
  receipt.reload_none = manifest->reload_none;
  receipt.mcp_servers = manifest->mcp_servers;
  return receipt;
}

base::Result<std::vector<ReceiptFile>> HashFiles(const Folder& tree,
                                                 const std::vector<FileEntry>& files) {
  std::vector<ReceiptFile> out;
  const ContentReader read = ContentOf(tree);
  for (const FileEntry& file : files) {
    base::Sha256 hash;
    auto ok = read(file, [&hash](std::string_view bytes) {
      hash.Update(bytes);
      return base::Status{};
    });
    if (!ok) return ok.error();
    out.push_back({file.path, file.size, file.executable, base::Hex(hash.Finish())});
  }
  return out;
}

}  // namespace bundle
