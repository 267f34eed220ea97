#pragma once

#include <stop_token>
#include <string>

#include "base/result.hpp"

namespace app {

struct EmbeddedOptions {
  std::string data_dir;
  std::string settings_path;
  uint16_t api_port = 0;    ///< 0: the one of the last start, else any free one.
  uint16_t http_port = 0;   ///< The same.
  std::string crds_folder;  ///< Instead of the built-in CRDs.
  int workers = 4;
};

/// Serves the Kubernetes API from SQLite and runs the operator against it until `stop`. Prints on
/// stdout, one fact a line, how to talk to it; the last line of the start begins with "ready".
base::Status RunEmbedded(const EmbeddedOptions& options, std::stop_token stop);

}  // namespace app
