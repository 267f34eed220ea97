#pragma once

#include <memory>

#include "source/plugin_source.hpp"
#include "source/source_settings.hpp"

namespace source {

/// local://name: a folder beneath the admin's local root. Its commit is the digest of its content.
std::unique_ptr<PluginSource> MakeLocalSource(const SourceSettings& settings);

}  // namespace source
