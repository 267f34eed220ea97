#pragma once

#include <memory>

#include "source/plugin_source.hpp"
#include "source/source_settings.hpp"

namespace source {

/// git+https, git+http, gitea and github through the git program, fenced: no shell, empty
/// environment, own HOME, https only (http for hosts the admin names), no redirects, no hooks, no
/// submodules, no checkout, limits on time, memory, files, entries, names; the token goes through
/// an askpass program that reads a 0600 file. kInternal if the work directory cannot be prepared or
/// there is no git program.
base::Result<std::unique_ptr<PluginSource>> MakeGitSource(const SourceSettings& settings);

}  // namespace source
