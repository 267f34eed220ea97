#include "apiserver/store/store.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include "base/file.hpp"
#include "base/sha256.hpp"

namespace apiserver {
namespace {

class TempDir {
 public:
  TempDir() {
    path_ = (std::filesystem::temp_directory_path() / ("store-" + base::RandomUuid())).string();
    std::filesystem::create_directories(path_);
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& Path() const { return path_; }

 private:
  std::string path_;
};

std::unique_ptr<Store> OpenStore(const TempDir& dir, StoreOptions options = {}) {
  options.data_dir = dir.Path();
  auto store = Store::Open(options);
  REQUIRE_MESSAGE(store.has_value(), (store ? "" : store.error().message));
  return std::move(*store);
}

Write CreateOf(const std::string& name, const std::string& ns = "a",
               const std::string& resource = "things") {
  Write write;
  write.key = {resource, ns, name};
  write.uid = "uid-" + ns + "-" + name;
  write.tail = "\",\"name\":\"" + name + "\"}}";
  return write;
}

Write UpdateOf(const StoredObject& object, const std::string& marker) {
  Write write;
  write.kind = Write::Kind::kUpdate;
  write.key = object.key;
  write.expected_version = object.version;
  write.tail = "\",\"marker\":\"" + marker + "\"}}";
  return write;
}

Write DeleteOf(const StoredObject& object) {
  Write write;
  write.kind = Write::Kind::kDelete;
  write.key = object.key;
  write.expected_version = object.version;
  return write;
}

/// Collects what a watch hands over; a test waits for a count with a deadline.
class Collector final : public WatchSink {
 public:
  bool OnChange(const ChangePtr& change) override {
    std::lock_guard lock(mutex_);
    changes_.push_back(change);
    changed_.notify_all();
    return changes_.size() < refuse_after;
  }
  bool OnTick(int64_t version) override {
    std::lock_guard lock(mutex_);
    ticks.push_back(version);
    return true;
  }
  void OnEnd() override {
    std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  std::vector<ChangePtr> Wait(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(20), [&] { return changes_.size() >= count; });
    return changes_;
  }
  bool WaitEnd() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return ended_; });
  }
  size_t refuse_after = SIZE_MAX;
  std::vector<int64_t> ticks;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<ChangePtr> changes_;
  bool ended_ = false;
};

std::vector<std::string> NamesOf(const ListResult& list) {
  std::vector<std::string> names;
  for (const StoredObject& object : list.objects)
    names.push_back(object.key.ns + "/" + object.key.name);
  return names;
}

}  // namespace

TEST_CASE("an object is read back as it was written, with its version in its text") {
  TempDir dir;
  auto store = OpenStore(dir);
  auto made = store->Apply(CreateOf("x"));
  REQUIRE(made);
  CHECK(made->text == "{\"metadata\":{\"resourceVersion\":\"1\",\"name\":\"x\"}}");
  auto read = store->Get({"things", "a", "x"});
  REQUIRE(read);
  CHECK(read->text == made->text);
  CHECK(read->uid == "uid-a-x");
  CHECK(*store->HasUid("uid-a-x"));
  CHECK_FALSE(*store->HasUid("uid-a-y"));
}

TEST_CASE("a write that breaks a rule of the store is refused with its code and changes nothing") {
  TempDir dir;
  StoreOptions options;
  options.object_limit = 1000;
  auto store = OpenStore(dir, options);
  auto made = store->Apply(CreateOf("x"));
  REQUIRE(made);
  CHECK(store->Apply(CreateOf("x")).error().code == base::Code::kAlreadyExists);
  StoredObject stale = *made;
  stale.version = 77;
  CHECK(store->Apply(UpdateOf(stale, "m")).error().code == base::Code::kConflict);
  CHECK(store->Apply(DeleteOf(stale)).error().code == base::Code::kConflict);
  StoredObject absent = *made;
  absent.key.name = "y";
  CHECK(store->Apply(UpdateOf(absent, "m")).error().code == base::Code::kNotFound);
  CHECK(store->Apply(UpdateOf(*made, std::string(2000, 'm'))).error().reason == "TooLarge");
  CHECK(*store->Version() == 1);
}

TEST_CASE("versions rise over all resources and go on after a restart") {
  TempDir dir;
  {
    auto store = OpenStore(dir);
    CHECK(store->Apply(CreateOf("x"))->version == 1);
    CHECK(store->Apply(CreateOf("x", "a", "others"))->version == 2);
  }
  auto store = OpenStore(dir);
  CHECK(*store->Version() == 2);
  CHECK(store->Apply(CreateOf("y"))->version == 3);
}

TEST_CASE("of many writers with one expected version exactly one wins") {
  TempDir dir;
  auto store = OpenStore(dir);
  auto made = store->Apply(CreateOf("x"));
  std::atomic<int> won{0};
  std::atomic<int> lost{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      auto done = store->Apply(UpdateOf(*made, "m"));
      if (done)
        ++won;
      else if (done.error().code == base::Code::kConflict)
        ++lost;
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(won == 1);
  CHECK(lost == 7);
}

TEST_CASE("a list is ordered, pages by its limit, and a later page shows the first page's moment") {
  TempDir dir;
  auto store = OpenStore(dir);
  std::vector<StoredObject> made;
  for (const char* name : {"a", "b", "c", "d"}) made.push_back(*store->Apply(CreateOf(name)));
  REQUIRE(store->Apply(CreateOf("z", "b")));
  ListQuery query;
  query.resource = "things";
  query.limit = 2;
  auto first = store->List(query);
  REQUIRE(first);
  CHECK(NamesOf(*first) == std::vector<std::string>{"a/a", "a/b"});
  CHECK(first->more);
  // Meanwhile: one goes, one changes, one comes.
  REQUIRE(store->Apply(DeleteOf(made[2])));
  REQUIRE(store->Apply(UpdateOf(made[3], "changed")));
  REQUIRE(store->Apply(CreateOf("bb")));
  query.at_version = first->version;
  query.after_ns = "a";
  query.after_name = "b";
  query.limit = 0;
  auto second = store->List(query);
  REQUIRE(second);
  CHECK(NamesOf(*second) == std::vector<std::string>{"a/c", "a/d", "b/z"});
  CHECK(second->objects[1].text == made[3].text);
  CHECK(second->version == first->version);
  ListQuery one;
  one.resource = "things";
  one.ns = "a";
  one.name = "bb";
  CHECK(NamesOf(*store->List(one)) == std::vector<std::string>{"a/bb"});
  REQUIRE(store->Compact(*store->Version()));
  CHECK(store->List(query).error().code == base::Code::kGone);
}

TEST_CASE(
    "a watch delivers the past from the log and then the present, without gap or repetition") {
  TempDir dir;
  auto store = OpenStore(dir);
  auto first = store->Apply(CreateOf("x"));
  auto second = store->Apply(UpdateOf(*first, "m"));
  REQUIRE(store->Apply(CreateOf("x", "b")));
  auto sink = std::make_shared<Collector>();
  auto watcher = store->Watch({"things", "a"}, 1, sink);
  REQUIRE(watcher);
  REQUIRE(store->Apply(DeleteOf(*second)));
  const auto changes = sink->Wait(2);
  REQUIRE(changes.size() == 2);
  CHECK(changes[0]->type == ChangeType::kModified);
  CHECK(changes[0]->previous == first->text);
  CHECK(changes[1]->type == ChangeType::kDeleted);
  CHECK(changes[1]->text == ComposeText(4, TailOf(second->text)));
  store->StopWatch(*watcher);
  CHECK(store->Hub().WatcherCount() == 0);
}

TEST_CASE("watchers that start while others write see every version once and in order") {
  TempDir dir;
  auto store = OpenStore(dir);
  constexpr int kWrites = 200;
  std::vector<std::shared_ptr<Collector>> sinks;
  std::thread writer([&] {
    for (int i = 0; i < kWrites; ++i) REQUIRE(store->Apply(CreateOf("n" + std::to_string(i))));
  });
  for (int i = 0; i < 10; ++i) {
    sinks.push_back(std::make_shared<Collector>());
    REQUIRE(store->Watch({"things", ""}, 0, sinks.back()));
  }
  writer.join();
  for (const auto& sink : sinks) {
    const auto changes = sink->Wait(kWrites);
    REQUIRE(changes.size() == kWrites);
    for (int i = 0; i < kWrites; ++i) REQUIRE(changes[static_cast<size_t>(i)]->version == i + 1);
  }
}

TEST_CASE("a watch from before the log or from the future is gone") {
  TempDir dir;
  StoreOptions options;
  options.change_log_rows = 10;
  auto store = OpenStore(dir, options);
  for (int i = 0; i < 40; ++i) REQUIRE(store->Apply(CreateOf("n" + std::to_string(i))));
  auto sink = std::make_shared<Collector>();
  CHECK(store->Watch({"things", ""}, 1, sink).error().code == base::Code::kGone);
  CHECK(store->Watch({"things", ""}, 41, sink).error().code == base::Code::kGone);
  CHECK(*store->OldestVersion() >= 28);
  CHECK(store->Watch({"things", ""}, *store->OldestVersion(), sink).has_value());
}

TEST_CASE("the log is bounded by bytes too") {
  TempDir dir;
  StoreOptions options;
  options.change_log_bytes = 20'000;
  auto store = OpenStore(dir, options);
  for (int i = 0; i < 50; ++i) {
    Write write = CreateOf("n" + std::to_string(i));
    write.tail = "\",\"x\":\"" + std::string(1000, 'x') + "\"}}";
    REQUIRE(store->Apply(std::move(write)));
  }
  CHECK(*store->OldestVersion() > 25);
}

TEST_CASE("a watcher that refuses is ended and told so; the others go on") {
  TempDir dir;
  auto store = OpenStore(dir);
  auto lazy = std::make_shared<Collector>();
  lazy->refuse_after = 1;
  auto good = std::make_shared<Collector>();
  REQUIRE(store->Watch({"things", ""}, 0, lazy));
  REQUIRE(store->Watch({"things", ""}, 0, good));
  for (int i = 0; i < 3; ++i) REQUIRE(store->Apply(CreateOf("n" + std::to_string(i))));
  CHECK(lazy->WaitEnd());
  CHECK(good->Wait(3).size() == 3);
  CHECK(lazy->Wait(1).size() == 1);
}

TEST_CASE("a watcher that reads the past for too long is ended when too much waits for it") {
  WatchHub::Options options;
  options.pending_limit = 3;
  options.tick = base::Millis(0);
  WatchHub hub(options);
  auto sink = std::make_shared<Collector>();
  auto watcher = hub.Register({"things", ""}, sink);
  for (int64_t version = 1; version <= 5; ++version) {
    auto change = std::make_shared<Change>();
    change->version = version;
    change->key.resource = "things";
    hub.Publish({change}, version);
  }
  CHECK(sink->WaitEnd());
}

TEST_CASE("ticks tell live watchers the version up to which they know everything") {
  TempDir dir;
  StoreOptions options;
  options.hub.tick = base::Millis(0);
  auto store = OpenStore(dir, options);
  auto sink = std::make_shared<Collector>();
  REQUIRE(store->Watch({"things", ""}, 0, sink));
  REQUIRE(store->Apply(CreateOf("x")));
  sink->Wait(1);
  store->Hub().Tick();
  CHECK(sink->ticks == std::vector<int64_t>{1});
}

TEST_CASE("expired objects and those beyond the cap are found, oldest first") {
  TempDir dir;
  auto store = OpenStore(dir);
  for (int i = 0; i < 5; ++i) {
    Write write = CreateOf("e" + std::to_string(i), "a", "events");
    write.expires = base::WallTime(base::Millis(1000 * (i + 1)));
    REQUIRE(store->Apply(std::move(write)));
  }
  const base::WallTime now{base::Millis(2000)};
  CHECK(store->Expired(now, "events", 100, 100)->size() == 2);
  CHECK(store->Expired(now, "events", 1, 100)->size() == 4);
  CHECK(store->Expired(now, "events", 1, 3)->size() == 3);
  CHECK(store->Expired(now, "events", 1, 3)->front().key.name == "e0");
}

TEST_CASE("a second opening of a data directory is refused and names the holder") {
  TempDir dir;
  auto store = OpenStore(dir);
  StoreOptions options;
  options.data_dir = dir.Path();
  auto second = Store::Open(options);
  REQUIRE_FALSE(second);
  CHECK(second.error().reason == "DataDirectoryLocked");
  CHECK(second.error().message.find(std::to_string(getpid())) != std::string::npos);
}

TEST_CASE("a damaged, foreign or newer database is refused by name and kept byte for byte") {
  struct Row {
    const char* name;
    std::function<void(const std::string&)> spoil;
    const char* reason;
  };
  const auto overwrite = [](const std::string& path, long offset, const std::string& bytes) {
    const int fd = open(path.c_str(), O_WRONLY);
    REQUIRE(pwrite(fd, bytes.data(), bytes.size(), offset) == static_cast<ssize_t>(bytes.size()));
    close(fd);
  };
  const Row rows[] = {
      {"no database at all",
       [&](const std::string& path) { overwrite(path, 0, std::string(200, 'x')); }, "Corrupt"},
      {"a page in the middle is rubbish",
       [&](const std::string& path) {
         for (long page = 1; page < 12; ++page) overwrite(path, page * 4096, std::string(400, 'x'));
       },
       "Corrupt"},
      {"a newer schema",
       [&](const std::string& path) { overwrite(path, 60, std::string("\0\0\0\x63", 4)); },
       "NewerSchema"},
      {"another program's database",
       [&](const std::string& path) { overwrite(path, 68, std::string("\0\0\0\x01", 4)); },
       "Corrupt"},
  };
  for (const Row& row : rows) {
    CAPTURE(std::string(row.name));
    TempDir dir;
    {
      auto store = OpenStore(dir);
      for (int i = 0; i < 50; ++i) REQUIRE(store->Apply(CreateOf("n" + std::to_string(i))));
    }
    const std::string path = dir.Path() + "/store.db";
    row.spoil(path);
    const auto before = base::ReadFile(path, 64 << 20);
    StoreOptions options;
    options.data_dir = dir.Path();
    auto opened = Store::Open(options);
    REQUIRE_FALSE(opened);
    CHECK(opened.error().reason == row.reason);
    CHECK(opened.error().message.find(path) != std::string::npos);
    CHECK(*base::ReadFile(path, 64 << 20) == *before);
  }
}

TEST_CASE("a full disk refuses writes, reads go on, and writing recovers by itself") {
  TempDir dir;
  auto store = OpenStore(dir);
  auto made = store->Apply(CreateOf("x"));
  REQUIRE(made);
  REQUIRE(store->SetPageLimit(20));
  base::Error error;
  for (int i = 0; i < 100 && error.reason.empty(); ++i) {
    Write write = CreateOf("n" + std::to_string(i));
    write.tail = "\",\"x\":\"" + std::string(4000, 'x') + "\"}}";
    auto done = store->Apply(std::move(write));
    if (!done) error = done.error();
  }
  CHECK(error.code == base::Code::kUnavailable);
  CHECK(error.reason == "NoSpace");
  REQUIRE(store->Trouble());
  CHECK(store->Get({"things", "a", "x"})->text == made->text);
  const int64_t version = *store->Version();
  REQUIRE(store->SetPageLimit(100'000));
  auto again = store->Apply(CreateOf("again"));
  REQUIRE(again);
  CHECK(again->version == version + 1);
  CHECK_FALSE(store->Trouble());
}

TEST_CASE("what was acknowledged survives a kill at any moment") {
  for (int round = 0; round < 5; ++round) {
    TempDir dir;
    int pipes[2];
    REQUIRE(pipe(pipes) == 0);
    const pid_t child = fork();
    if (child == 0) {
      StoreOptions options;
      options.data_dir = dir.Path();
      auto store = Store::Open(options);
      for (int i = 0; store && i < 100'000; ++i) {
        if (!(*store)->Apply(CreateOf("n" + std::to_string(i)))) _exit(1);
        if (write(pipes[1], &i, sizeof i) != sizeof i) _exit(1);
      }
      _exit(0);
    }
    close(pipes[1]);
    int acknowledged = -1;
    for (int i = 0; i < 20 + 30 * round; ++i)
      REQUIRE(read(pipes[0], &acknowledged, sizeof acknowledged) == sizeof acknowledged);
    kill(child, SIGKILL);
    int more = 0;
    while (read(pipes[0], &more, sizeof more) == sizeof more) acknowledged = more;
    close(pipes[0]);
    int status = 0;
    waitpid(child, &status, 0);
    auto store = OpenStore(dir);
    CHECK(*store->Version() >= acknowledged + 1);
    CHECK(*store->Count("things") == *store->Version());
    CHECK(store->Get({"things", "a", "n" + std::to_string(acknowledged)}).has_value());
  }
}

TEST_CASE("all files of the data directory are private") {
  TempDir dir;
  auto store = OpenStore(dir);
  REQUIRE(store->Apply(CreateOf("x")));
  for (const auto& entry : std::filesystem::directory_iterator(dir.Path())) {
    CAPTURE(entry.path().string());
    struct stat info {};
    REQUIRE(stat(entry.path().c_str(), &info) == 0);
    CHECK((info.st_mode & 077) == 0);
  }
}

}  // namespace apiserver
