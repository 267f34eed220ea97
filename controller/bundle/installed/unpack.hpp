#pragma once

#include <stop_token>
#include <vector>

#include "base/result.hpp"
#include "bundle/folder.hpp"
#include "bundle/installed/installed_plugins.hpp"
#include "bundle/installed/receipt.hpp"

namespace bundle {

/// Reads the tar twice: once to verify the digest and judge every entry, before anything is
/// written; then to write the files beneath `tree` (empty before), flushed to disk. Returns the
/// receipt of that tree, without boot id and time. Errors: DigestMismatch, NameMismatch,
/// NotCanonical, CheckTree's and the manifest's reasons, NoSpace.
base::Result<Receipt> UnpackVerified(const StageRequest& request, const Folder& tree,
                                     const Limits& limits, std::stop_token stop);

/// SHA-256 of each file.
base::Result<std::vector<ReceiptFile>> HashFiles(const Folder& tree,
                                                 const std::vector<FileEntry>& files);

}  // namespace bundle
