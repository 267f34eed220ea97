#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "app/settings/settings.hpp"
#include "base/clock.hpp"

namespace app {

/// The settings as last read well. A changed file is read again; bad content, or none where there
/// was some, keeps the old settings and says so. A file that has never been there is no fault: the
/// defaults hold until it appears. Thread safe.
class SettingsFile {
 public:
  static base::Result<std::unique_ptr<SettingsFile>> Open(std::string path, Settings defaults);
  std::shared_ptr<const Settings> Current() const;
  /// Why the file's present content is not used, or nothing.
  std::optional<std::string> Problem() const;
  /// Reads the file again when it changes, until `stop`; `changed` is called after new settings
  /// were taken. Ends at once if there is no file.
  base::Status Run(const std::function<void()>& changed, std::stop_token stop);

 private:
  SettingsFile(std::string path, Settings defaults)
      : path_(std::move(path)), defaults_(std::move(defaults)) {}
  bool Reload();

  const std::string path_;
  const Settings defaults_;
  /// As last read, nothing when it could not be; only the watching thread and Open touch these.
  std::optional<std::string> text_;
  bool awaited_ = false;  ///< It has never been there.
  mutable std::mutex mutex_;
  std::shared_ptr<const Settings> current_;
  std::optional<std::string> problem_;
};

}  // namespace app
