#pragma once

#include <string>
#include <vector>

#include "base/clock.hpp"
#include "bundle/limits.hpp"

namespace source {

/// Bounds of one run of the git program.
struct GitLimits {
  base::Millis resolve_deadline{30'000};
  base::Millis fetch_deadline{300'000};
  int low_speed_seconds = 20;             ///< Under 1 kB/s for this long ends it.
  uint64_t memory_bytes = 2048ull << 20;  ///< Address space of the child.
  uint64_t pack_bytes = 512ull << 20;     ///< Size of any file it writes.
  uint64_t cpu_seconds = 120;
  size_t ref_bytes = 4 << 20;  ///< Of a ref list.
};

/// What the admin allows; built by app/ from the operator's settings.
struct SourceSettings {
  std::string work_directory;  ///< Scratch space of our own; wiped of left-overs at start.
  std::string gitea_base_url;  ///< e.g. https://gitea.example.org; empty: gitea:// is refused.
  std::string github_base_url = "https://github.com";
  std::vector<std::string> allowed_hosts;  ///< host or host:port for git+https; "*" any. Hosts of
                                           ///< base URLs are allowed anyway.
  std::vector<std::string>
      plain_http_hosts;  ///< host or host:port where http without TLS is allowed (implies allowed).
  bool allow_unpinned = false;  ///< Sources without a ref (HEAD) are accepted.
  std::string local_root;       ///< Folder of local:// sources; empty: refused.
  std::string ca_file;          ///< PEM; empty: the system's.
  std::string askpass_program;  ///< What git asks for user and password (askpass.hpp); empty: this
                                ///< program.
  bundle::Limits limits;
  GitLimits git;
};

}  // namespace source
