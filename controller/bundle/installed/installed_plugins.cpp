#include "bundle/installed/installed_plugins.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "base/failpoint.hpp"
#include "base/log.hpp"
#include "base/sha256.hpp"
#include "bundle/canonical_tar.hpp"
#include "bundle/installed/install_session.hpp"
#include "bundle/installed/mcp_settings.hpp"
#include "bundle/installed/state_carry.hpp"
#include "bundle/installed/unpack.hpp"

namespace bundle {
namespace {

base::Error Invalid(std::string message, std::string reason) {
  return base::MakeError(base::Code::kInvalid, std::move(message), std::move(reason));
}

base::Result<base::UniqueFd> TakeLock(const Folder& own, base::Millis deadline) {
  base::UniqueFd fd(
      ::openat(own.Fd(), "install.lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!fd.Valid()) return base::ErrnoError(errno, "open " + own.Text() + "/install.lock");
  const auto end = std::chrono::steady_clock::now() + deadline;
  while (::flock(fd.Get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR)
      return base::ErrnoError(errno, "lock " + own.Text() + "/install.lock");
    if (std::chrono::steady_clock::now() >= end)
      return base::MakeError(base::Code::kUnavailable,
                             fmt::format("{}/install.lock is held by somebody else for {} ms",
                                         own.Text(), deadline.count()),
                             "Locked");
    ::poll(nullptr, 0, 10);
  }
  return fd;
}

base::Status CheckName(const std::string& name) {
  if (IsPluginName(name)) return {};
  return Invalid(fmt::format("`{}` cannot be a plugin's name: 1 to 63 letters, digits, . _ -",
                             Printable(name)),
                 "NameNotAllowed");
}

}  // namespace

/// One change under the lock.
struct InstalledPlugins::Session {
  const Options& options;
  const base::Clock& clock;
  BoxFolders folders;
  base::UniqueFd lock;

  static base::Result<Session> Open(const Options& options, const base::Clock& clock) {
    auto folders = BoxFolders::Make(options.configs_path, options.links_end_at);
    if (!folders) return folders.error();
    auto lock = TakeLock(folders->own, options.lock_deadline);
    if (!lock) return lock.error();
    return Session{options, clock, *std::move(folders), *std::move(lock)};
  }

  const Folder& Own() const { return folders.own; }
  const Folder& Plugins() const { return folders.plugins; }

  std::string BootId(const std::string& callers) const {
    const auto recorded = folders.configs.Read(kBootIdFile, 256);
    return recorded && !recorded->empty() ? *recorded : callers;
  }

  base::Status Merge(const McpServers& before, const McpServers& after) const {
    if (before.empty() && after.empty()) return {};
    auto text = LoadSettings(folders.configs, options.settings_file);
    if (!text) return text.error();
    auto merged = MergeMcpServers(*text, before, after);
    if (!merged) return merged.error();
    if (*merged == *text) return {};
    const auto info = folders.configs.Stat(options.settings_file);
    const base::FailpointScope point("box.settings");
    return folders.configs.WriteAtomic(options.settings_file, *merged,
                                       info ? info->st_mode & 0777 : 0644);
  }

  /// The whole truth about "nothing to do": these bytes, these settings.
  bool IsIntact(const Receipt& receipt) const {
    const auto tree = Plugins().Sub(receipt.name);
    if (!tree) return false;
    const auto digest = ListedDigest(*tree, receipt, options.limits);
    if (!digest || *digest != receipt.digest) return false;
    const auto settings = LoadSettings(folders.configs, options.settings_file);
    return receipt.mcp_servers.empty() ||
           (settings && HasMcpServers(*settings, receipt.mcp_servers));
  }

  base::Status DropStaged(const std::string& name) const {
    if (auto ok = Own().Unlink(StagedPath(name)); !ok) return ok;
    return Own().RemoveTree(StagingTree(name));
  }

  base::Status Recover(const std::string& name);
  base::Status FinishActivation(const Receipt& receipt);
  base::Status RollBack(const Receipt& receipt, const McpServers& before);
  base::Status Swap(const Receipt& receipt);
  base::Result<bool> AdoptEqualTree(const StageRequest& request);
  base::Status Unpack(const StageRequest& request, std::stop_token stop);
  base::Result<Receipt> MakeJournal(Receipt staged, const std::string& boot_id, McpServers* before);
};

/// Ends what a crash cut off: after the swap the activation is completed, before it it is
/// forgotten.
base::Status InstalledPlugins::Session::Recover(const std::string& name) {
  const auto journal = LoadReceipt(Own(), JournalPath(name), name);
  if (!journal) return Own().Unlink(JournalPath(name));
  const uint64_t visible = TreeInode(Plugins(), name);
  if (visible != 0 && visible == journal->tree_inode) {
    const auto old = LoadReceipt(Own(), ReceiptPath(name), name);
    if (auto ok = Merge(old ? old->mcp_servers : McpServers{}, journal->mcp_servers); !ok)
      return RollBack(*journal, {});
    return FinishActivation(*journal);
  }
  // Between the two renames of a file system without a swap: the old tree goes back.
  if (visible == 0 && journal->previous_inode != 0 &&
      TreeInode(Own(), PreviousTree(name)) == journal->previous_inode)
    if (auto ok = Own().Rename(PreviousTree(name), Plugins(), name); !ok) return ok;
  return Own().Unlink(JournalPath(name));
}

base::Status InstalledPlugins::Session::Swap(const Receipt& receipt) {
  const base::FailpointScope point("box.activate.swap");
  if (TreeInode(Plugins(), receipt.name) == 0) {
    if (Plugins().Stat(receipt.name))
      return Invalid(fmt::format("{}/{} is no folder; remove it", Plugins().Text(), receipt.name),
                     "LinkNotAllowed");
    return Own().Rename(StagingTree(receipt.name), Plugins(), receipt.name);
  }
  if (!options.without_exchange) {
    auto swapped = Plugins().Exchange(receipt.name, Own(), StagingTree(receipt.name));
    if (swapped || swapped.error().reason != "ExchangeUnsupported") return swapped;
  }
  if (auto ok = Own().RemoveTree(PreviousTree(receipt.name)); !ok) return ok;
  if (auto ok = Plugins().Rename(receipt.name, Own(), PreviousTree(receipt.name)); !ok) return ok;
  base::Failpoint("box.activate.between");
  return Own().Rename(StagingTree(receipt.name), Plugins(), receipt.name);
}

base::Status InstalledPlugins::Session::RollBack(const Receipt& receipt, const McpServers& before) {
  const std::string& name = receipt.name;
  if (auto ok = Merge(receipt.mcp_servers, before); !ok && ok.error().code != base::Code::kInvalid)
    return ok;
  const bool visible = TreeInode(Plugins(), name) == receipt.tree_inode;
  if (receipt.previous_inode != 0 && visible &&
      TreeInode(Own(), StagingTree(name)) == receipt.previous_inode) {
    if (auto ok = Plugins().Exchange(name, Own(), StagingTree(name)); !ok) return ok;
  } else {
    if (visible)
      if (auto ok = Plugins().Rename(name, Own(), StagingTree(name)); !ok) return ok;
    if (receipt.previous_inode != 0 &&
        TreeInode(Own(), PreviousTree(name)) == receipt.previous_inode)
      if (auto ok = Own().Rename(PreviousTree(name), Plugins(), name); !ok) return ok;
  }
  if (auto ok = Own().Unlink(JournalPath(name)); !ok) return ok;
  return Own().RemoveTree(StagingTree(name));
}

base::Status InstalledPlugins::Session::FinishActivation(const Receipt& receipt) {
  const std::string& name = receipt.name;
  {
    const base::FailpointScope point("box.activate.receipt");
    if (auto ok = Own().Rename(JournalPath(name), Own(), ReceiptPath(name)); !ok) return ok;
  }
  // What follows is tidying: its failure changes nothing about what is installed, and the next call
  // does it again.
  const base::FailpointScope point("box.activate.tidy");
  if (!receipt.reload_none) static_cast<void>(Own().Unlink(TombstonePath(name)));
  if (receipt.previous_inode != 0 &&
      TreeInode(Own(), StagingTree(name)) == receipt.previous_inode &&
      Own().RemoveTree(PreviousTree(name)))
    static_cast<void>(Own().Rename(StagingTree(name), Own(), PreviousTree(name)));
  static_cast<void>(Own().RemoveTree(StagingTree(name)));
  return {};
}

/// A tree that was on the box before us and has just these bytes gets a receipt: it is ours from
/// then on, and owes no restart.
base::Result<bool> InstalledPlugins::Session::AdoptEqualTree(const StageRequest& request) {
  const auto tree = Plugins().Sub(request.name);
  if (!tree) return false;
  const auto manifest = LoadManifest(*tree, request.name);
  if (!manifest) return false;
  auto files = CountedFiles(*tree, *manifest, options.limits);
  if (!files) return false;
  const auto digest = TarDigest(*files, options.limits, ContentOf(*tree));
  if (!digest || *digest != request.digest) return false;
  const auto settings = LoadSettings(folders.configs, options.settings_file);
  if (!manifest->mcp_servers.empty() &&
      !(settings && HasMcpServers(*settings, manifest->mcp_servers)))
    return false;
  Receipt receipt{.name = request.name,
                  .source = request.source,
                  .revision = request.revision,
                  .digest = request.digest};
  receipt.activated_time = clock.Read().wall;
  receipt.reload_none = manifest->reload_none;
  receipt.mcp_servers = manifest->mcp_servers;
  receipt.tree_inode = TreeInode(Plugins(), request.name);
  auto listed = HashFiles(*tree, *files);
  if (!listed) return listed.error();
  receipt.files = *std::move(listed);
  if (auto ok = Own().WriteAtomic(ReceiptPath(request.name), EncodeReceipt(receipt), 0644); !ok)
    return ok.error();
  return true;
}

base::Status InstalledPlugins::Session::Unpack(const StageRequest& request, std::stop_token stop) {
  if (auto ok = DropStaged(request.name); !ok) return ok;
  auto unpacked = [&]() -> base::Result<Receipt> {
    const base::FailpointScope point("box.deliver.unpack");
    auto tree = Own().Sub(StagingTree(request.name), true);
    if (!tree) return tree.error();
    return UnpackVerified(request, *tree, options.limits, stop);
  }();
  if (!unpacked) {
    static_cast<void>(Own().RemoveTree(StagingTree(request.name)));
    return unpacked.error();
  }
  const base::FailpointScope point("box.deliver.staged");
  unpacked->tree_inode = TreeInode(Own(), StagingTree(request.name));
  auto written = Own().WriteAtomic(StagedPath(request.name), EncodeReceipt(*unpacked), 0644);
  if (!written) static_cast<void>(Own().RemoveTree(StagingTree(request.name)));
  return written;
}

InstalledPlugins::InstalledPlugins(Options options, std::shared_ptr<DigestCache> cache,
                                   const base::Clock& clock)
    : options_(std::move(options)), cache_(std::move(cache)), clock_(clock) {}

base::Status InstalledPlugins::Stage(const StageRequest& request, std::stop_token stop) {
  if (auto ok = CheckName(request.name); !ok) return ok;
  auto session = Session::Open(options_, clock_);
  if (!session) return session.error();
  if (auto ok = session->Recover(request.name); !ok) return ok;
  const auto current = LoadReceipt(session->Own(), ReceiptPath(request.name), request.name);
  if (current && current->digest == request.digest && session->IsIntact(*current))
    return session->DropStaged(request.name);
  if (!current) {
    auto adopted = session->AdoptEqualTree(request);
    if (!adopted) return adopted.error();
    if (*adopted) return session->DropStaged(request.name);
  }
  const auto staged = LoadReceipt(session->Own(), StagedPath(request.name), request.name);
  if (staged && staged->digest == request.digest &&
      staged->tree_inode == TreeInode(session->Own(), StagingTree(request.name))) {
    const auto tree = session->Own().Sub(StagingTree(request.name));
    const auto digest = tree ? ListedDigest(*tree, *staged, options_.limits)
                             : base::Result<std::string>(tree.error());
    if (digest && *digest == request.digest) return {};
  }
  return session->Unpack(request, stop);
}

base::Status InstalledPlugins::Adopt(const StageRequest& request) {
  if (auto ok = CheckName(request.name); !ok) return ok;
  auto session = Session::Open(options_, clock_);
  if (!session) return session.error();
  if (auto ok = session->Recover(request.name); !ok) return ok;
  if (LoadReceipt(session->Own(), ReceiptPath(request.name), request.name)) return {};
  const base::FailpointScope point("box.adopt.receipt");
  auto adopted = session->AdoptEqualTree(request);
  if (!adopted) return adopted.error();
  return {};
}

/// The coming receipt, with everything that has to be known to finish or to undo the activation.
base::Result<Receipt> InstalledPlugins::Session::MakeJournal(Receipt staged,
                                                             const std::string& boot_id,
                                                             McpServers* before) {
  const auto current = LoadReceipt(Own(), ReceiptPath(staged.name), staged.name);
  auto tree = Own().Sub(StagingTree(staged.name));
  if (!tree) return tree.error();
  const auto digest = ListedDigest(*tree, staged, options.limits);
  if (!digest || *digest != staged.digest) {
    if (auto ok = DropStaged(staged.name); !ok) return ok.error();
    return base::MakeError(
        base::Code::kNotFound,
        fmt::format("plugin {}: its staged bytes were changed; deliver it again", staged.name),
        "NotStaged");
  }
  const auto old = Plugins().Sub(staged.name);
  if (!old && old.error().code != base::Code::kNotFound) return old.error();
  if (old) {
    const auto manifest = LoadManifest(*old, staged.name);
    if (auto ok = CarryState(*old, manifest ? manifest->state : std::vector<std::string>{}, *tree,
                             staged, options.limits);
        !ok)
      return ok.error();
    *before = current ? current->mcp_servers : manifest ? manifest->mcp_servers : McpServers{};
  } else if (current) {
    *before = current->mcp_servers;
  }
  staged.activated_boot_id = BootId(boot_id);
  staged.activated_time = clock.Read().wall;
  staged.boot_installed = options.boot_install;
  staged.previous_digest = old && current ? current->digest : "";
  staged.previous_inode = TreeInode(Plugins(), staged.name);
  return staged;
}

base::Status InstalledPlugins::Activate(const std::string& name, const std::string& boot_id) {
  if (auto ok = CheckName(name); !ok) return ok;
  auto session = Session::Open(options_, clock_);
  if (!session) return session.error();
  if (auto ok = session->Recover(name); !ok) return ok;
  const auto staged = LoadReceipt(session->Own(), StagedPath(name), name);
  const auto current = LoadReceipt(session->Own(), ReceiptPath(name), name);
  if (current && (!staged || staged->digest == current->digest) && session->IsIntact(*current))
    return session->DropStaged(name);
  if (!staged || staged->tree_inode != TreeInode(session->Own(), StagingTree(name)))
    return base::MakeError(base::Code::kNotFound,
                           fmt::format("plugin {}: nothing is staged; deliver it first", name),
                           "NotStaged");
  McpServers before;
  auto journal = session->MakeJournal(*staged, boot_id, &before);
  if (!journal) return journal.error();
  {
    const base::FailpointScope point("box.activate.journal");
    if (auto ok = session->Own().WriteAtomic(JournalPath(name), EncodeReceipt(*journal), 0644); !ok)
      return ok;
    // From here on the staging tree may be the old one: it must not be taken for complete any more.
    if (auto ok = session->Own().Unlink(StagedPath(name)); !ok) return ok;
  }
  base::Status done = session->Swap(*journal);
  if (done) done = session->Merge(before, journal->mcp_servers);
  if (done) done = session->FinishActivation(*journal);
  if (done) return done;
  if (auto back = session->RollBack(*journal, before); !back)
    base::Log(base::LogLevel::kError,
              "an activation failed and could not be undone at once; the next call tries again",
              {{"plugin", name}, {"error", back.error().message}});
  return done;
}

base::Status InstalledPlugins::Remove(const std::string& name, const std::string& boot_id) {
  if (auto ok = CheckName(name); !ok) return ok;
  auto session = Session::Open(options_, clock_);
  if (!session) return session.error();
  if (auto ok = session->Recover(name); !ok) return ok;
  const Folder& own = session->Own();
  const auto receipt = LoadReceipt(own, ReceiptPath(name), name);
  const uint64_t inode = TreeInode(session->Plugins(), name);
  if (!receipt) {
    if (!session->Plugins().Stat(name)) return own.RemoveTree(StagingTree(name));
    return Invalid(
        fmt::format("plugin {} is on the box without our receipt: it is not ours to remove", name),
        "NotOurs");
  }
  if (inode != 0 || !own.Stat(TombstonePath(name))) {
    const base::FailpointScope point("box.remove.tombstone");
    if (auto ok = own.WriteAtomic(
            TombstonePath(name),
            EncodeTombstone({name, session->BootId(boot_id), inode, clock_.Read().wall}), 0644);
        !ok)
      return ok;
  }
  if (auto ok = session->Merge(receipt->mcp_servers, {}); !ok) return ok;
  if (auto ok = session->DropStaged(name); !ok) return ok;
  if (inode != 0) {
    const base::FailpointScope point("box.remove.tree");
    if (auto ok = session->Plugins().Rename(name, own, StagingTree(name)); !ok) return ok;
  }
  if (auto ok = own.RemoveTree(PreviousTree(name)); !ok) return ok;
  if (auto ok = own.RemoveTree(StagingTree(name)); !ok) return ok;
  // Last: as long as it is there, a removal that was cut short is seen and finished.
  const base::FailpointScope point("box.remove.receipt");
  return own.Unlink(ReceiptPath(name));
}

}  // namespace bundle
