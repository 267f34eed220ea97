#include "source/resolver.hpp"

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "base/log.hpp"
#include "base/sha256.hpp"
#include "base/thread_name.hpp"

namespace source {
namespace {

using base::MonoTime;

bool IsLasting(base::Code code) {
  return code == base::Code::kInvalid || code == base::Code::kForbidden ||
         code == base::Code::kUnauthorized || code == base::Code::kNotFound;
}

struct Entry {
  SourceRequest request;
  SourceView view;
  MonoTime due{};  ///< When the next attempt is to start.
  MonoTime looked_at{};
  MonoTime interval_asked_at{};  ///< When somebody last asked for this interval, or a shorter one.
  bool running = false;
  bool again = false;  ///< Asked for while an attempt was running.
  bool bytes_wanted = false;
};

bool SameCredentials(const std::optional<Credentials>& a, const std::optional<Credentials>& b) {
  if (a.has_value() != b.has_value()) return false;
  return !a || (a->username == b->username && base::ConstantTimeEqual(a->password, b->password));
}

bool SameView(const SourceView& a, const SourceView& b) {
  const auto commit = [](const SourceView& v) {
    return v.resolution ? v.resolution->commit + v.resolution->ref_kind : std::string();
  };
  const auto digest = [](const SourceView& v) {
    return v.artifact ? v.artifact->digest : std::string();
  };
  const auto error = [](const SourceView& v) {
    return v.error ? v.error->reason + v.error->message : std::string();
  };
  return commit(a) == commit(b) && digest(a) == digest(b) && error(a) == error(b);
}

}  // namespace

std::string SourceKeyOf(const core::SourceUri& uri, const std::string& scope) {
  return uri.text + "\n" + scope;
}

struct Resolver::State {
  State(std::shared_ptr<PluginSource> s, std::shared_ptr<ArtifactStore> a, Options o, Wake w,
        const base::Clock& c)
      : source(std::move(s)),
        store(std::move(a)),
        options(o),
        wake(std::move(w)),
        clock(c),
        random(o.jitter_seed != 0 ? o.jitter_seed : std::random_device{}()) {}

  void Work(std::stop_token stop);
  /// Runs what is due, with `lock` (of `mutex`) given back meanwhile; else says when something will
  /// be.
  bool RunDue(std::unique_lock<std::mutex>& lock, const std::stop_token& stop,
              std::optional<MonoTime>* next);
  /// The due entry that waits longest; else when the next one will be due.
  std::map<std::string, Entry>::iterator TakeDue(MonoTime now, std::optional<MonoTime>* next);
  void Attempt(const std::string& key, SourceRequest request, std::stop_token stop);
  void Settle(Entry& entry, SourceView fresh, base::Now now);
  base::Millis AgreeOnInterval(Entry& entry, base::Millis asked, MonoTime now) const;
  bool IsIdle(const Entry& entry, MonoTime now) const {
    return now - entry.looked_at > std::max(options.idle_after, 3 * entry.request.interval);
  }
  base::Millis Random(base::Millis from, base::Millis to) {
    return base::Millis(
        std::uniform_int_distribution<int64_t>(from.count(), std::max(from, to).count())(random));
  }
  void DropOldest();
  /// Something may be due: the workers look again.
  void Stir() {
    ++changes;
    changed.notify_all();
  }

  std::shared_ptr<PluginSource> source;
  std::shared_ptr<ArtifactStore> store;
  Options options;
  Wake wake;
  const base::Clock& clock;
  std::mutex mutex;
  std::condition_variable_any changed;
  uint64_t changes = 0;  ///< Of what is due; a wait ends when it has moved on.
  std::map<std::string, Entry> entries;
  std::mt19937_64 random;
  std::vector<std::jthread> workers;
};

std::map<std::string, Entry>::iterator Resolver::State::TakeDue(MonoTime now,
                                                                std::optional<MonoTime>* next) {
  auto best = entries.end();
  for (auto it = entries.begin(); it != entries.end(); ++it) {
    const Entry& entry = it->second;
    if (entry.running || (!entry.view.pending && IsIdle(entry, now))) continue;
    if (best == entries.end() || entry.due < best->second.due) best = it;
  }
  if (best == entries.end() || best->second.due <= now) return best;
  *next = best->second.due;
  return entries.end();
}

void Resolver::State::Work(std::stop_token stop) {
  base::NameThread("source");
  std::unique_lock lock(mutex);
  while (!stop.stop_requested()) {
    std::optional<MonoTime> next;
    if (RunDue(lock, stop, &next)) continue;
    const std::chrono::nanoseconds longest = options.longest_wait;
    const auto wait = next ? std::min(*next - clock.Read().mono, longest) : longest;
    changed.wait_for(lock, stop, std::max(wait, std::chrono::nanoseconds(0)),
                     [this, seen = changes] { return changes != seen; });
  }
}

bool Resolver::State::RunDue(std::unique_lock<std::mutex>& lock, const std::stop_token& stop,
                             std::optional<MonoTime>* next) {
  const auto due = TakeDue(clock.Read().mono, next);
  if (due == entries.end()) return false;
  due->second.running = true;
  due->second.view.pending = true;
  const std::string key = due->first;
  SourceRequest request = due->second.request;
  request.want_bytes = due->second.bytes_wanted;
  lock.unlock();
  Attempt(key, std::move(request), stop);
  lock.lock();
  return true;
}

void Resolver::State::Attempt(const std::string& key, SourceRequest request, std::stop_token stop) {
  std::shared_ptr<PluginSource> from;
  {
    const std::lock_guard lock(mutex);
    from = source;
  }
  SourceView fresh;
  auto resolution = from->Resolve(request.uri, request.credentials, stop);
  if (!resolution) {
    fresh.error = resolution.error();
  } else {
    fresh.resolution = *resolution;
    if (request.want_bytes) {
      auto artifact = store->FetchOnce(
          MakeFetchKey(request.uri, resolution->commit, request.scope),
          [&](const std::string& path, std::stop_token fetch_stop) {
            return from->Fetch(request.uri, *resolution, request.credentials, path, fetch_stop);
          },
          stop);
      if (artifact)
        fresh.artifact = *std::move(artifact);
      else
        fresh.error = artifact.error();
    }
  }
  bool tell = false;
  {
    const std::lock_guard lock(mutex);
    const auto found = entries.find(key);
    if (found == entries.end() || stop.stop_requested()) return;
    Entry& entry = found->second;
    const SourceView before = entry.view;
    Settle(entry, std::move(fresh), clock.Read());
    tell = !SameView(before, entry.view);
    Stir();
  }
  if (tell && wake) wake(key);
}

void Resolver::State::Settle(Entry& entry, SourceView fresh, base::Now now) {
  SourceView& view = entry.view;
  if (fresh.resolution) {
    const bool moved = !view.resolution || view.resolution->commit != fresh.resolution->commit;
    // The bytes always belong to the resolution beside them: a new commit whose fetch failed does
    // not displace a good pair.
    if (!moved || fresh.artifact || !view.artifact) {
      view.resolution = fresh.resolution;
      if (moved || fresh.artifact) view.artifact = fresh.artifact;
    }
    view.resolved_time = now.wall;
  }
  view.error = std::move(fresh.error);
  base::Millis wait{};
  if (view.error) {
    ++view.attempts;
    const base::Millis first =
        IsLasting(view.error->code) ? options.slow_backoff : options.min_backoff;
    const base::Millis ceiling =
        std::min(options.max_backoff, first * (int64_t{1} << std::min(view.attempts - 1, 20)));
    wait = view.error->retry_after.value_or(Random(ceiling / 2, ceiling));
    view.next_attempt_time = now.wall + wait;
  } else {
    view.attempts = 0;
    view.next_attempt_time.reset();
    wait = entry.request.interval + Random(base::Millis(0), entry.request.interval / 10);
  }
  entry.running = false;
  entry.due = entry.again ? now.mono : now.mono + wait;
  view.pending = entry.again;
  entry.again = false;
}

/// The shortest that is asked for, as long as it is: whoever asked may be gone, or edited since.
base::Millis Resolver::State::AgreeOnInterval(Entry& entry, base::Millis asked,
                                              MonoTime now) const {
  const base::Millis before = entry.request.interval;
  asked = std::max(asked, base::Millis(1));
  if (asked > before && now - entry.interval_asked_at <= std::max(options.idle_after, 3 * before))
    return before;
  entry.interval_asked_at = now;
  if (asked < before && !entry.view.error) entry.due = std::min(entry.due, now + asked);
  return asked;
}

void Resolver::State::DropOldest() {
  auto oldest = entries.end();
  for (auto it = entries.begin(); it != entries.end(); ++it)
    if (!it->second.running &&
        (oldest == entries.end() || it->second.looked_at < oldest->second.looked_at))
      oldest = it;
  if (oldest != entries.end()) entries.erase(oldest);
}

Resolver::Resolver(std::shared_ptr<PluginSource> source, std::shared_ptr<ArtifactStore> store,
                   Options options, Wake wake, const base::Clock& clock)
    : state_(std::make_unique<State>(std::move(source), std::move(store), options, std::move(wake),
                                     clock)) {
  for (size_t i = 0; i < options.workers; ++i)
    state_->workers.emplace_back(
        [state = state_.get()](std::stop_token stop) { state->Work(stop); });
}

Resolver::~Resolver() {
  for (std::jthread& worker : state_->workers) worker.request_stop();
  state_->workers.clear();
}

bool Resolver::RunDue(std::stop_token stop) {
  std::unique_lock lock(state_->mutex);
  std::optional<MonoTime> next;
  return state_->RunDue(lock, stop, &next);
}

std::optional<MonoTime> Resolver::NextDue() const {
  const std::lock_guard lock(state_->mutex);
  const MonoTime now = state_->clock.Read().mono;
  std::optional<MonoTime> next;
  return state_->TakeDue(now, &next) == state_->entries.end() ? next : now;
}

SourceView Resolver::Find(const SourceRequest& request) {
  State& s = *state_;
  const std::string key = SourceKeyOf(request.uri, request.scope);
  const std::lock_guard lock(s.mutex);
  const MonoTime now = s.clock.Read().mono;
  if (!s.entries.contains(key) && s.entries.size() >= s.options.max_sources) s.DropOldest();
  const auto [place, fresh] = s.entries.try_emplace(key);
  Entry& entry = place->second;
  const bool idle = !fresh && s.IsIdle(entry, now);
  const bool other_secret =
      !fresh && !SameCredentials(entry.request.credentials, request.credentials);
  if (fresh || idle) entry.request.interval = request.interval;
  const base::Millis interval = s.AgreeOnInterval(entry, request.interval, now);
  const bool bytes_missing = request.want_bytes && !entry.bytes_wanted;
  entry.request = request;
  entry.request.interval = interval;
  entry.bytes_wanted = entry.bytes_wanted || request.want_bytes;
  entry.looked_at = now;
  // Its file may have been evicted: then the bytes are wanted again.
  if (entry.view.artifact && !s.store->FindByKey(MakeFetchKey(
                                 request.uri, entry.view.resolution->commit, request.scope))) {
    entry.view.artifact.reset();
    entry.due = now;
  }
  if (fresh || other_secret || bytes_missing) {
    entry.due = now;
    entry.again = entry.running;
  }
  if (entry.due <= now || entry.running) entry.view.pending = true;
  if (entry.due <= now && !entry.running) s.Stir();
  return entry.view;
}

void Resolver::Refresh(const std::string& source_key) {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->entries.find(source_key);
  if (found == state_->entries.end()) return;
  Entry& entry = found->second;
  entry.view.attempts = 0;
  entry.view.pending = true;
  entry.due = state_->clock.Read().mono;
  entry.again = entry.running;
  state_->Stir();
}

void Resolver::SetSource(std::shared_ptr<PluginSource> source) {
  const std::lock_guard lock(state_->mutex);
  state_->source = std::move(source);
  const MonoTime now = state_->clock.Read().mono;
  for (auto& [key, entry] : state_->entries) {
    entry.due = now;
    entry.again = entry.running;
  }
  state_->Stir();
}

}  // namespace source
