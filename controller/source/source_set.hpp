#pragma once

#include <map>
#include <memory>

#include "source/plugin_source.hpp"
#include "source/source_settings.hpp"

namespace source {

/// All sources this operator has, by scheme: itself a PluginSource. oci and git+ssh are refused
/// with reason SourceSchemeUnavailable.
base::Result<std::unique_ptr<PluginSource>> MakeSources(const SourceSettings& settings);

}  // namespace source
