#pragma once

#include <algorithm>
#include <map>
#include <string>

#include "bundle/canonical_tar.hpp"
#include "support/temp_folder.hpp"

namespace support {

using Tree = std::map<std::string, std::string>;  ///< Path to content; content that begins with
                                                  ///< "#!" is executable.

struct PackedPlugin {
  std::string digest;
  std::string tar_path;
};

/// The canonical tar of `tree` as a file. An empty digest: it was refused.
inline PackedPlugin PackPlugin(const Tree& tree, const std::string& tar_path) {
  std::vector<bundle::FileEntry> files;
  for (const auto& [path, content] : tree)
    files.push_back({path, content.size(), content.starts_with("#!")});
  auto packed = bundle::WriteTarFile(
      files, {},
      [&tree](const bundle::FileEntry& file, const bundle::ByteSink& sink) {
        return sink(tree.at(file.path));
      },
      tar_path);
  return {packed ? packed->digest : "", tar_path};
}

/// A plugin that works: manifest and one script.
inline Tree SimplePlugin(const std::string& name, const std::string& version,
                         const std::string& extra_yaml = "") {
  return {{"plugin.yaml", "name: " + name + "\nversion: \"" + version + "\"\n" + extra_yaml},
          {"bin/run.sh", "#!/bin/sh\necho " + version + "\n"}};
}

}  // namespace support
