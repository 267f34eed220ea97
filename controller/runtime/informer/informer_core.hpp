#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "meta/object.hpp"
#include "runtime/backoff.hpp"
#include "runtime/informer/list_watch.hpp"
#include "runtime/informer/packed_store.hpp"

/// The part of Informer<T> that does not depend on T. Use informer.hpp.
namespace runtime {

class Metrics;

struct InformerOptions {
  std::string name;       ///< Plural of the kind, for logs and metrics.
  bool streaming = true;  ///< Start by a watch with sendInitialEvents; false: by paged lists.
  int page_size = 500;
  base::Millis resync{
      300'000};  ///< Every object once in this time (+-10 %), as a continuous scan; 0: never.
  base::Millis liveness{
      90'000};  ///< A watch without a byte for this long is broken (bookmarks come every 60 s).
  base::Millis marker_limit{120'000};  ///< From one object of the initial stream to the next, or to
                                       ///< its end marker; a watch may lag by a minute.
  int marker_attempts = 3;      ///< Failed initial streams before this informer lists instead.
  int watch_timeout_min = 180;  ///< Seconds; timeoutSeconds is uniform between the two.
  int watch_timeout_max = 230;
  BackoffOptions backoff{base::Millis{800}, base::Millis{30'000}, 1.0};
  base::Millis healthy{120'000};  ///< A watch that lasted this long resets the back-off.
  int server_errors = 3;          ///< Broken watches in a row, without an event, before a list.
  size_t quarantine_limit = 1000;
  const base::Clock* clock = &base::SystemClock::Get();
  Metrics* metrics = nullptr;
  uint64_t jitter_seed = 0;
};

enum class ObjectEventKind {
  kAdded,
  kUpdated,
  kDeleted,
  kResync,  ///< Nothing happened: the turn of this object in the continuous scan.
};

struct InformerStats {
  size_t objects = 0;
  bool synced = false;
  bool listing = false;          ///< Demoted to lists, or told so.
  std::string resource_version;  ///< Last processed, bookmarks included.
  std::string last_error;        ///< Empty when the last attempt went well.
  base::Millis since_contact{};  ///< Since the last byte, event or answer.
  uint64_t lists = 0, watches = 0, events = 0, bookmarks = 0, relists = 0;
  uint64_t own_writes = 0;     ///< Echoes that woke nobody.
  uint64_t self_triggers = 0;  ///< Echoes of writes that nobody had begun, before ObserveWrite.
  uint64_t quarantined_total = 0;
  uint64_t handler_failures = 0;
  size_t quarantined = 0;  ///< Now.
};

/// An object that could not be decoded.
struct Quarantined {
  meta::ObjectKey key;
  std::string resource_version;
  std::string error;
};

/// What the core knows of T.
struct ErasedFormat {
  struct Decoded {
    PackedObject packed;
    std::shared_ptr<const void> object;
  };
  std::function<base::Result<Decoded>(std::string_view bytes)> decode;
  std::function<std::shared_ptr<const void>(const PackedView&)> unpack;
  std::function<std::vector<std::string>(const void*)> index;
  /// True if nothing but status (and resourceVersion) differs.
  std::function<bool(const void* a, const void* b)> same_but_status;
};

struct ErasedEvent {
  ObjectEventKind kind;
  const meta::ObjectKey& key;
  std::shared_ptr<const void> object;
  std::shared_ptr<const void> old_object;
  bool initial = false;
  bool final_state_unknown = false;
};

class InformerCore {
 public:
  using Handler = std::function<void(const ErasedEvent&)>;
  InformerCore(InformerOptions options, ErasedFormat format, PackedStore& store, ListWatch& source);
  ~InformerCore();
  InformerCore(const InformerCore&) = delete;
  InformerCore& operator=(const InformerCore&) = delete;

  void AddHandler(Handler handler);
  base::Status Run(std::stop_token stop);
  bool HasSynced() const;
  base::Status WaitForSync(std::stop_token stop, base::Millis limit) const;
  void BeginWrite(const meta::ObjectKey& key);
  void EndWrite(const meta::ObjectKey& key);
  void ObserveWrite(ErasedFormat::Decoded written);
  void ObserveVersion(const meta::ObjectKey& key, const std::string& resource_version);
  void ObserveDelete(const meta::ObjectKey& key, const std::string& uid);
  base::Status WaitFor(const meta::ObjectKey& key, base::Millis limit, std::stop_token stop) const;
  void OnSelfTrigger(std::function<void(const meta::ObjectKey&)> call);
  std::string LastVersion() const;
  std::vector<Quarantined> Quarantine() const;
  InformerStats Stats() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace runtime
