#include "app/settings/settings_file.hpp"

#include "base/file.hpp"
#include "base/file_watch.hpp"
#include "base/log.hpp"

namespace app {
namespace {

constexpr size_t kLimit = 1 << 20;
/// For what inotify cannot tell, such as a link to another folder.
constexpr base::Seconds kLongestUnread{60};

}  // namespace

base::Result<std::unique_ptr<SettingsFile>> SettingsFile::Open(std::string path,
                                                               Settings defaults) {
  std::unique_ptr<SettingsFile> file(new SettingsFile(std::move(path), std::move(defaults)));
  auto settings = LoadSettings(file->path_, file->defaults_);
  if (!settings && settings.error().code == base::Code::kNotFound) {
    file->awaited_ = true;
    settings = file->defaults_;
    base::LogInfo("there is no settings file: the defaults hold until there is",
                  {{"file", file->path_}});
  }
  if (!settings) return std::move(settings).error();
  if (!file->path_.empty() && !file->awaited_)
    file->text_ = base::ReadFile(file->path_, kLimit).value_or("");
  file->current_ = std::make_shared<const Settings>(*std::move(settings));
  return file;
}

std::shared_ptr<const Settings> SettingsFile::Current() const {
  const std::lock_guard lock(mutex_);
  return current_;
}

std::optional<std::string> SettingsFile::Problem() const {
  const std::lock_guard lock(mutex_);
  return problem_;
}

bool SettingsFile::Reload() {
  auto text = base::ReadFile(path_, kLimit);
  if (text && *text == text_) return false;
  if (awaited_ && !text && text.error().code == base::Code::kNotFound) return false;
  awaited_ = false;
  auto settings = text ? ParseSettings(*text, defaults_) : base::Result<Settings>(text.error());
  text_ = text ? std::optional(*text) : std::nullopt;
  const std::lock_guard lock(mutex_);
  if (!settings) {
    if (problem_ != settings.error().message)
      base::LogError("settings not taken, the old ones stay",
                     {{"file", path_}, {"error", settings.error().message}});
    problem_ = settings.error().message;
    return false;
  }
  problem_.reset();
  current_ = std::make_shared<const Settings>(*std::move(settings));
  return true;
}

base::Status SettingsFile::Run(const std::function<void()>& changed, std::stop_token stop) {
  if (path_.empty()) return {};
  base::FileWatch watch(path_);
  // What was written between Open and here is seen by the first look.
  do {
    if (!Reload()) continue;
    base::LogInfo("settings read again", {{"file", path_}});
    changed();
  } while (watch.Wait(kLongestUnread, stop));
  return {};
}

}  // namespace app
