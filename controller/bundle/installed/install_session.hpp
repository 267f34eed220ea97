#pragma once

#include <optional>
#include <string>

#include "base/clock.hpp"
#include "bundle/folder.hpp"
#include "bundle/installed/installed_plugins.hpp"
#include "bundle/installed/receipt.hpp"
#include "bundle/manifest.hpp"

namespace bundle {

/// The open folders of one box. For installed_plugins.cpp and installed_probe.cpp only.
struct BoxFolders {
  Folder configs;
  Folder plugins;
  Folder own;

  /// Opens them; makes what is missing. kUnavailable if the folder above `configs` is not there.
  static base::Result<BoxFolders> Make(const std::string& configs_path,
                                       const std::string& links_end_at = "");
};

/// The folder above `configs`, and the name of `configs` in it: a link there would lead out of the
/// box. `links_end_at`: see InstalledPlugins::Options.
base::Result<Folder> OpenConfigs(const std::string& configs_path, bool make,
                                 const std::string& links_end_at = "");

std::string ReceiptPath(
    const std::string& name);  ///< Relative to configs/.molecule, as are the next ones.
std::string JournalPath(const std::string& name);
std::string StagedPath(const std::string& name);  ///< The receipt of a complete staged tree.
std::string StagingTree(const std::string& name);
std::string PreviousTree(const std::string& name);
std::string TombstonePath(const std::string& name);

/// Inode of a folder entry; 0 if it is not there or no folder.
uint64_t TreeInode(const Folder& folder, const std::string& path);
/// Reads and parses a receipt-like file; nothing if it is not there or damaged (a damaged receipt
/// is no receipt).
std::optional<Receipt> LoadReceipt(const Folder& own, const std::string& path,
                                   const std::string& name);
/// The receipt in force: the journal's if its swap has happened, else the stored one.
std::optional<Receipt> CurrentReceipt(const Folder& own, const Folder& plugins,
                                      const std::string& name);
/// The manifest of a tree on disk.
base::Result<Manifest> LoadManifest(const Folder& tree, const std::string& name);
/// The runtime's settings; empty if there are none.
base::Result<std::string> LoadSettings(const Folder& configs, const std::string& settings_file);

/// Digest over the listed files as they are now. If one is missing or has another size or mode: a
/// digest of that fact, equal to no tar's.
base::Result<std::string> ListedDigest(const Folder& tree, const Receipt& receipt,
                                       const Limits& limits);
/// Files that count when there is no receipt: all but the manifest's `state[]` and caches of
/// interpreters.
base::Result<std::vector<FileEntry>> CountedFiles(const Folder& tree, const Manifest& manifest,
                                                  const Limits& limits);

}  // namespace bundle
