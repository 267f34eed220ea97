#include "source/resolver.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "support/plugin_tar.hpp"

using namespace support;
using source::Artifact;
using source::Credentials;
using source::FetchKey;
using source::Resolution;

namespace {

/// A real source over memory that can be told to fail, to change and to wait.
class MemorySource final : public source::PluginSource {
 public:
  base::Result<Resolution> Resolve(const core::SourceUri& uri, const std::optional<Credentials>&,
                                   std::stop_token) override {
    const std::lock_guard lock(mutex);
    ++resolves[uri.text];
    if (failure) return *failure;
    return Resolution{"main", "Branch", commit};
  }
  base::Result<Artifact> Fetch(const core::SourceUri&, const Resolution& resolution,
                               const std::optional<Credentials>&, const std::string& tar_path,
                               std::stop_token stop) override {
    std::unique_lock lock(mutex);
    ++fetches;
    changed.notify_all();
    if (!changed.wait(lock, stop, [this] { return !held; }))
      return base::MakeError(base::Code::kCancelled, "stopped");
    if (fetch_failure) return *fetch_failure;
    const auto packed = PackPlugin(SimplePlugin("hello", resolution.commit), tar_path);
    return Artifact{packed.digest, tar_path, std::filesystem::file_size(tar_path), "hello", true};
  }
  void Set(std::function<void(MemorySource&)> change) {
    const std::lock_guard lock(mutex);
    change(*this);
    changed.notify_all();
  }
  std::mutex mutex;
  std::condition_variable_any changed;
  std::map<std::string, int> resolves;
  std::optional<base::Error> failure, fetch_failure;
  std::string commit = "c1";
  int fetches = 0;
  bool held = false;
};

class ManualClock final : public base::Clock {
 public:
  base::Now Read() const override {
    const std::chrono::nanoseconds t(nanos.load());
    return {base::WallTime(std::chrono::duration_cast<base::Millis>(t)), base::MonoTime(t)};
  }
  void Advance(base::Millis by) {
    nanos += std::chrono::duration_cast<std::chrono::nanoseconds>(by).count();
  }
  std::atomic<int64_t> nanos{1'000'000'000'000};
};

struct Fixture {
  TempFolder temp;
  ManualClock clock;
  std::shared_ptr<MemorySource> memory = std::make_shared<MemorySource>();
  std::shared_ptr<source::ArtifactStore> store;
  std::mutex mutex;
  std::condition_variable woken;
  int wakes = 0;
  std::unique_ptr<source::Resolver> resolver;

  Fixture() {
    OpenStore();
    Start({.longest_wait = base::Millis(100), .jitter_seed = 1});
  }
  void OpenStore() {
    store.reset();
    auto opened = source::ArtifactStore::Open({.directory = temp / "store"});
    REQUIRE(opened);
    store = *std::move(opened);
  }
  void Start(source::Resolver::Options options) {
    resolver = std::make_unique<source::Resolver>(
        memory, store, options,
        [this](const std::string&) {
          const std::lock_guard lock(mutex);
          ++wakes;
          woken.notify_all();
        },
        clock);
  }
  static source::SourceRequest Request(const std::string& text = "git+https://h/r#main",
                                       const std::string& scope = "") {
    source::SourceRequest request;
    request.uri.text = text;
    request.uri.repository = text;
    request.scope = scope;
    return request;
  }
  /// Looks until `good` holds; the resolver's wake-ups set the pace.
  source::SourceView Await(const source::SourceRequest& request,
                           const std::function<bool(const source::SourceView&)>& good) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    for (;;) {
      auto view = resolver->Find(request);
      if (good(view)) return view;
      REQUIRE(std::chrono::steady_clock::now() < end);
      std::unique_lock lock(mutex);
      woken.wait_for(lock, std::chrono::milliseconds(20));
    }
  }
  source::SourceView AwaitBytes(const source::SourceRequest& request = Request()) {
    return Await(request, [](const auto& v) { return v.artifact.has_value() && !v.pending; });
  }
};

FetchKey Key(const std::string& commit, const std::string& scope = "") {
  return {"r", "", commit, scope};
}

source::ArtifactStore::FetchFunction Maker(const std::string& version,
                                           std::atomic<int>* calls = nullptr) {
  return [version, calls](const std::string& path, std::stop_token) -> base::Result<Artifact> {
    if (calls != nullptr) ++*calls;
    const auto packed = PackPlugin(SimplePlugin("hello", version), path);
    return Artifact{packed.digest, path, std::filesystem::file_size(path), "hello"};
  };
}

}  // namespace

TEST_CASE(
    "two hundred who ask for one commit at the same time cause one fetch and get the same bytes") {
  Fixture f;
  std::atomic<int> calls{0}, ready{0};
  std::atomic<bool> all_asked{false};
  std::vector<std::string> digests(200);
  {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < digests.size(); ++i)
      threads.emplace_back([&, i] {
        ++ready;
        auto artifact = f.store->FetchOnce(Key("c1"),
                                           [&](const std::string& path, std::stop_token stop) {
                                             all_asked.wait(false);
                                             return Maker("1", &calls)(path, stop);
                                           },
                                           {});
        if (artifact) digests[i] = artifact->digest;
      });
    while (ready < 200) std::this_thread::yield();
    all_asked = true;
    all_asked.notify_all();
  }
  CHECK(calls == 1);
  CHECK(f.store->FetchCount() == 1);
  for (const std::string& digest : digests) CHECK(digest == digests[0]);
  CHECK(digests[0].starts_with("sha256:"));
}

TEST_CASE("two hundred workspaces that look up one source cause one resolution and one fetch") {
  Fixture f;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 200; ++i) threads.emplace_back([&] { f.resolver->Find(Fixture::Request()); });
  threads.clear();
  f.AwaitBytes();
  const std::lock_guard lock(f.memory->mutex);
  CHECK(f.memory->fetches == 1);
  CHECK(f.memory->resolves.begin()->second == 1);
}

TEST_CASE("a source that is asked for while the workers have nothing to do is tried at once") {
  Fixture f;
  f.Start({.longest_wait = base::Seconds(60)});
  f.AwaitBytes();
  f.AwaitBytes(Fixture::Request("git+https://h/other#main"));  // It waits 20 s, not 60.
}

TEST_CASE("a restart of the operator fetches nothing again") {
  Fixture f;
  const auto before = f.AwaitBytes();
  f.resolver.reset();
  f.OpenStore();
  f.Start({.longest_wait = base::Millis(100)});
  const auto after = f.AwaitBytes();
  CHECK(after.artifact->digest == before.artifact->digest);
  CHECK(after.artifact->plugin_name == "hello");
  CHECK(after.artifact->reload_none);
  CHECK(f.memory->fetches == 1);
  CHECK(f.store->Find(before.artifact->digest));
}

TEST_CASE(
    "the last good revision stays while the source fails, with a growing wait that a refresh "
    "ends") {
  Fixture f;
  const auto good = f.AwaitBytes();
  f.memory->Set([](MemorySource& m) {
    m.failure = base::MakeError(base::Code::kUnavailable, "gone", "SourceUnavailable");
  });
  f.clock.Advance(base::Millis(4'000'000));
  auto view =
      f.Await(Fixture::Request(), [](const auto& v) { return v.error.has_value() && !v.pending; });
  CHECK(view.artifact->digest == good.artifact->digest);
  CHECK(view.error->reason == "SourceUnavailable");
  base::Millis last{0};
  for (int attempt = 1; attempt <= 12; ++attempt) {
    CHECK(view.attempts == attempt);
    const base::Millis wait = *view.next_attempt_time - f.clock.Read().wall;
    CHECK(wait <= base::Millis(300'000));
    CHECK(wait >=
          std::min(base::Millis(500 * (1 << std::min(attempt - 1, 9))), base::Millis(150'000)));
    last = wait;
    f.clock.Advance(wait + base::Millis(1));
    view = f.Await(Fixture::Request(),
                   [&](const auto& v) { return v.attempts == attempt + 1 && !v.pending; });
  }
  f.memory->Set([](MemorySource& m) { m.failure.reset(); });
  f.resolver->Refresh(source::SourceKeyOf(Fixture::Request().uri, ""));
  view = f.Await(Fixture::Request(), [](const auto& v) { return !v.error && !v.pending; });
  CHECK(view.attempts == 0);
}

TEST_CASE(
    "a new commit is found after the interval; if its bytes cannot be fetched the old pair stays") {
  Fixture f;
  const auto one = f.AwaitBytes();
  f.memory->Set([](MemorySource& m) {
    m.commit = "c2";
    m.fetch_failure = base::MakeError(base::Code::kInvalid, "a link", "SymlinkNotAllowed");
  });
  f.clock.Advance(base::Millis(3'000'000));
  CHECK(f.resolver->Find(Fixture::Request()).resolution->commit == "c1");
  f.clock.Advance(base::Millis(1'200'000));
  auto view =
      f.Await(Fixture::Request(), [](const auto& v) { return v.error.has_value() && !v.pending; });
  CHECK(view.error->reason == "SymlinkNotAllowed");
  CHECK(view.resolution->commit == "c1");
  CHECK(view.artifact->digest == one.artifact->digest);
  f.memory->Set([](MemorySource& m) { m.fetch_failure.reset(); });
  f.clock.Advance(base::Millis(60'000));
  view = f.Await(Fixture::Request(),
                 [](const auto& v) { return v.resolution->commit == "c2" && !v.pending; });
  CHECK(view.artifact->digest != one.artifact->digest);
  CHECK_FALSE(view.error);
}

TEST_CASE("the interval that is asked for now counts, sooner or later") {
  Fixture f;
  auto hourly = Fixture::Request(), often = Fixture::Request();
  often.interval = base::Seconds(60);
  f.AwaitBytes(hourly);
  const auto moves = [&](const std::string& commit) {
    f.memory->Set([&](MemorySource& m) { m.commit = commit; });
  };
  moves("c2");
  f.clock.Advance(base::Seconds(30));
  CHECK(f.resolver->Find(often).resolution->commit == "c1");
  f.clock.Advance(base::Seconds(70));
  f.Await(often, [](const auto& v) { return v.resolution->commit == "c2" && !v.pending; });
  // Whoever asked for it has gone, or asks for less: after a while nobody is asked so often.
  for (int i = 0; i < 30; ++i) {
    f.clock.Advance(base::Seconds(60));
    f.Await(hourly, [](const auto& v) { return !v.pending; });
  }
  const auto asked = [&] {
    const std::lock_guard lock(f.memory->mutex);
    return f.memory->resolves.begin()->second;
  };
  const int before = asked();
  for (int i = 0; i < 30; ++i) {
    f.clock.Advance(base::Seconds(60));
    f.Await(hourly, [](const auto& v) { return !v.pending; });
  }
  CHECK(asked() <= before + 1);
}

TEST_CASE("what one namespace fetched with its secret is not given to another one") {
  Fixture f;
  f.AwaitBytes(Fixture::Request("git+https://h/private#main", "team-a/git"));
  f.memory->Set([](MemorySource& m) {
    m.failure = base::MakeError(base::Code::kUnauthorized, "no", "SourceUnauthorized");
  });
  const auto view = f.Await(Fixture::Request("git+https://h/private#main", "team-b/none"),
                            [](const auto& v) { return v.error.has_value(); });
  CHECK_FALSE(view.artifact);
  CHECK_FALSE(f.store->FindByKey({"0:///git+https://h/private#main", "", "c1", "team-b/none"}));
}

TEST_CASE("stopping ends a fetch that hangs") {
  Fixture f;
  f.memory->Set([](MemorySource& m) { m.held = true; });
  f.resolver->Find(Fixture::Request());
  {
    std::unique_lock lock(f.memory->mutex);
    REQUIRE(f.memory->changed.wait_for(lock, std::chrono::seconds(20),
                                       [&] { return f.memory->fetches == 1; }));
  }
  f.resolver.reset();
  CHECK(f.wakes == 0);
}

TEST_CASE("when the one who fetches is stopped another waiter takes over") {
  Fixture f;
  std::stop_source first_stop;
  std::atomic<int> calls{0};
  const auto fetch = [&](const std::string& path, std::stop_token stop) -> base::Result<Artifact> {
    if (++calls == 1) {
      std::mutex m;
      std::condition_variable_any c;
      std::unique_lock lock(m);
      c.wait(lock, stop, [] { return false; });
      return base::MakeError(base::Code::kCancelled, "stopped");
    }
    return Maker("1")(path, stop);
  };
  std::jthread first(
      [&] { CHECK_FALSE(f.store->FetchOnce(Key("c1"), fetch, first_stop.get_token())); });
  while (calls == 0) std::this_thread::yield();
  std::jthread second([&] { CHECK(f.store->FetchOnce(Key("c1"), fetch, {})); });
  first_stop.request_stop();
  second.join();
  CHECK(calls == 2);
}

TEST_CASE("bytes are hashed again at use: a damaged file is dropped and fetched anew") {
  Fixture f;
  std::atomic<int> calls{0};
  const auto artifact = f.store->FetchOnce(Key("c1"), Maker("1", &calls), {});
  REQUIRE(artifact);
  CHECK(f.store->OpenVerified(artifact->digest)->size_bytes == artifact->size_bytes);
  std::string bytes = ReadText(artifact->path);
  bytes[600] ^= 1;
  WriteText(artifact->path, bytes);
  CHECK(f.store->OpenVerified(artifact->digest).error().reason == "ArtifactMissing");
  CHECK_FALSE(std::filesystem::exists(artifact->path));
  REQUIRE(f.store->FetchOnce(Key("c1"), Maker("1", &calls), {}));
  CHECK(calls == 2);
  CHECK(f.store->Find(artifact->digest));
  CHECK(f.store->Find("sha256:../../etc/passwd").error().reason == "DigestInvalid");
}

TEST_CASE("what makes room for others leaves nothing behind") {
  Fixture f;
  REQUIRE(f.store->FetchOnce(Key("c1"), Maker("1"), {}));
  REQUIRE(f.store->FetchOnce(Key("c1", "team-a/git"), Maker("1"), {}));
  f.resolver.reset();
  f.store.reset();
  auto small = source::ArtifactStore::Open({.directory = f.temp / "store", .max_bytes = 1});
  REQUIRE(small);
  const auto kept = (*small)->FetchOnce(Key("c2"), Maker("2"), {});
  REQUIRE(kept);
  CHECK((*small)->TotalBytes() == kept->size_bytes);
  const auto files = [&](const char* folder) {
    const std::filesystem::directory_iterator all(f.temp / folder);
    return std::distance(begin(all), end(all));
  };
  CHECK(files("store/blobs") == 1);
  CHECK(files("store/keys") == 1);
  CHECK((*small)->FindByKey(Key("c2")));
  CHECK_FALSE((*small)->FindByKey(Key("c1")));
}

TEST_CASE(
    "two sources with equal bytes share one file; a failed fetch leaves nothing behind and is not "
    "remembered") {
  Fixture f;
  const auto a = f.store->FetchOnce(Key("c1"), Maker("1"), {});
  const auto b = f.store->FetchOnce(Key("c2"), Maker("1"), {});
  CHECK(a->path == b->path);
  CHECK(f.store->TotalBytes() == a->size_bytes);
  const auto fail = [](const std::string& path, std::stop_token) -> base::Result<Artifact> {
    WriteText(path, "half");
    return base::MakeError(base::Code::kUnavailable, "cut", "SourceUnavailable");
  };
  CHECK_FALSE(f.store->FetchOnce(Key("c3"), fail, {}));
  CHECK(std::filesystem::is_empty(f.temp / "store/tmp"));
  CHECK(f.store->FetchOnce(Key("c3"), Maker("3"), {}));
}
