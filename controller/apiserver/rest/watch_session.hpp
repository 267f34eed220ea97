#pragma once

#include <memory>
#include <string>
#include <vector>

#include "apiserver/store/watch_hub.hpp"
#include "apiserver/wire/presentation.hpp"
#include "apiserver/wire/registry.hpp"
#include "apiserver/wire/selector.hpp"
#include "base/clock.hpp"
#include "http/server/server.hpp"

namespace apiserver {

struct WatchOptions {
  Presentation presentation;
  Selector selector;
  bool bookmarks = false;
  base::Seconds timeout{1800};
  base::Seconds bookmark_period{60};
};

/// One watch: turns changes into lines of its client's shape and selection. The stream's buffer
/// bounds what the client may leave unread.
///
///   (initial ADDED lines) -> [initial-events-end bookmark] -> changes and bookmarks -> end
///   (timeout, client gone, too slow, server stops)
class WatchSession final : public WatchSink {
 public:
  WatchSession(const Served& served, WatchOptions options, const base::Clock& clock);
  /// To be called once, before anything else.
  void Attach(std::shared_ptr<http::ResponseStream> stream);
  /// The state from which the watch starts; false if the client is gone, or takes more than a
  /// minute. Waits for it to read: not on the hub's thread. With `end_bookmark` the
  /// initial-events-end mark follows.
  bool SendInitial(const std::vector<StoredObject>& objects, int64_t version, bool end_bookmark);
  /// A line of type ERROR with that Status, then the end.
  void SendError(const codec::Json& status);

  bool OnChange(const ChangePtr& change) override;
  bool OnTick(int64_t version) override;
  void OnEnd() override;

 private:
  bool SendObject(const char* type, const std::string& text);
  bool SendBookmark(int64_t version, bool initial_end);
  base::MonoTime NextBookmark() const;
  bool Selected(const std::string& text) const;

  const Served& served_;
  const WatchOptions options_;
  const base::Clock& clock_;
  std::shared_ptr<http::ResponseStream> stream_;
  const base::MonoTime deadline_;
  base::MonoTime next_bookmark_;
  int64_t sent_ = 0;  ///< The newest version that the client knows of.
  bool columns_sent_ = false;
};

}  // namespace apiserver
