#pragma once

#include <cstddef>
#include <string>

#include "base/file.hpp"
#include "base/result.hpp"

namespace box {

/// Opens the file that an agent's output is appended to (made if it is missing, 0640); its folder
/// must exist. A link or anything else that is no regular file is kInvalid (LinkNotAllowed,
/// NameNotAllowed): whoever owns the box must not choose which of our files is written to.
/// `links_end_at`: see bundle::InstalledPlugins::Options.
base::Result<base::UniqueFd> OpenAgentLog(const std::string& path, const std::string& links_end_at);

/// Above `limit` bytes: its last `limit` bytes become `<path>.1` (what was there is replaced) and
/// the file begins anew. Its writer keeps it open for appending, so it is emptied, not renamed;
/// what is written between the copy and that is lost. Not there: nothing is done. At most `limit`
/// bytes are moved. It is emptied also when the copy fails (no space), which is the error then.
base::Status BoundAgentLog(const std::string& path, const std::string& links_end_at, size_t limit);

}  // namespace box
