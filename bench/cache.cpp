// What the cache costs: resident bytes an object, decoding from the bytes of a watch, and the
// resync scan. Objects go the way they go in the operator (kube::ReadWatchLine, codec,
// ObjectCache).
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>

#include "codec/packed_workspace.hpp"
#include "codec/resources.hpp"
#include "figure.hpp"
#include "kube/watch_stream.hpp"
#include "reconcile/dependencies.hpp"
#include "runtime/informer/informer.hpp"
#include "typical_fleet.hpp"

namespace {

std::atomic<uint64_t> allocations{0};

using bench::Print;
using bench::TypicalFleet;

[[noreturn]] void Fail(const std::string& why) {
  fmt::print(stderr, "bench_cache: {}\n", why);
  std::_Exit(1);
}

/// How to make, decode and pack objects of a kind.
template <typename T>
struct Kind {
  const char* name;
  double goal_bytes;
  std::string (TypicalFleet::*make)(size_t) const;
  base::Result<T> (*decode)(std::string_view);
  base::Result<T> (*unpack)(std::string_view, const codec::StringInterner&);
};
const Kind<api::DeclaredPlugin> kPlugins{"DeclaredPlugin", 200, &TypicalFleet::DeclaredPlugin,
                                         codec::DecodeDeclaredPlugin, codec::UnpackDeclaredPlugin};
const Kind<api::Workspace> kWorkspaces{"Workspace", 500, &TypicalFleet::Workspace,
                                       codec::DecodeWorkspace, codec::UnpackWorkspace};

template <typename T>
runtime::CacheFormat<T> FormatOf(const Kind<T>& kind, codec::StringInterner& interner) {
  runtime::CacheFormat<T> format;
  format.pack = [&interner](const T& object) { return codec::Pack(object, interner); };
  format.unpack = [&interner, unpack = kind.unpack](std::string_view bytes) {
    return unpack(bytes, interner);
  };
  format.index = [](const T& object) { return reconcile::IndexOf(object); };
  return format;
}

size_t ResidentBytes() {
  long pages = 0;
  if (FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%*d %ld", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  return static_cast<size_t>(pages) * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

/// Bytes that the process has grown by for `count` objects, and bytes that the cache itself counts.
struct Grown {
  double resident = 0;
  double counted = 0;
  double left = 0;  ///< Of `resident`, after 99 of 100 objects were deleted.
};

template <typename T>
Grown Fill(const Kind<T>& kind, size_t count) {
  const TypicalFleet fleet;
  codec::StringInterner interner;
  runtime::ObjectCache<T> cache(FormatOf(kind, interner));
  const auto put = [&](size_t number) {
    auto object = kind.decode((fleet.*kind.make)(number));
    if (!object) Fail(object.error().message);
    cache.Put(*std::move(object));
  };
  for (size_t i = 0; i < 100; ++i) put(count + i);  // Parser and buffers are not the objects'.
  const size_t before = ResidentBytes();
  for (size_t i = 0; i < count; ++i) put(i);
  Grown grown;
  grown.resident = static_cast<double>(ResidentBytes() - before);
  grown.counted = static_cast<double>(cache.Bytes());
  if (cache.Size() != count + 100) Fail("the cache does not hold all objects");
  for (size_t i = 0; i < count * 99 / 100; ++i) {
    const auto object = kind.decode((fleet.*kind.make)(i));
    if (!object || !cache.Erase(object->meta.Key())) Fail("an object cannot be deleted");
  }
  grown.left = static_cast<double>(ResidentBytes()) - static_cast<double>(before);
  return grown;
}

/// In a process of its own, so that no memory is used again.
template <typename T>
Grown FillApart(const Kind<T>& kind, size_t count) {
  int ends[2];
  if (::pipe(ends) != 0) Fail("no pipe");
  const pid_t child = ::fork();
  if (child < 0) Fail("no process");
  if (child == 0) {
    const Grown grown = Fill(kind, count);
    const bool written = ::write(ends[1], &grown, sizeof grown) == sizeof grown;
    std::_Exit(written ? 0 : 1);
  }
  ::close(ends[1]);
  Grown grown;
  const bool got = ::read(ends[0], &grown, sizeof grown) == sizeof grown;
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!got || status != 0) Fail("the measuring process failed");
  return grown;
}

template <typename T>
void MeasureMemory(const Kind<T>& kind) {
  double small = 0, large = 0;
  for (const size_t count : {10'000, 100'000, 1'000'000}) {
    const Grown grown = FillApart(kind, count);
    const double each = grown.resident / static_cast<double>(count);
    Print({fmt::format("resident per cached {}, {} objects", kind.name, count), each, "B",
           kind.goal_bytes});
    if (count == 100'000) {
      small = grown.resident;
      Print({fmt::format("of these in the cache itself (the rest: interner, allocator), {}",
                         kind.name),
             grown.counted / static_cast<double>(count), "B"});
    }
    large = grown.resident;
    if (count == 1'000'000)
      Print({fmt::format("resident after 99 % of those {}s were deleted", kind.name),
             100 * grown.left / grown.resident, "%", 20});
  }
  Print({fmt::format("memory slope of {}, 100,000 to 1,000,000", kind.name), large / small / 10,
         "x", 1.01});
}

/// Median over passes of CPU microseconds an object, from the bytes of a watch line to the struct.
template <typename T>
void MeasureDecode(const Kind<T>& kind, std::optional<double> goal) {
  constexpr size_t kLines = 3'000;
  constexpr int kPasses = 21;
  const TypicalFleet fleet;
  std::vector<std::string> lines;
  size_t bytes = 0;
  for (size_t i = 0; i < kLines; ++i) {
    lines.push_back(TypicalFleet::WatchLine((fleet.*kind.make)(i * 31)));
    bytes += lines.back().size();
  }
  std::vector<double> passes;
  for (int pass = 0; pass < kPasses; ++pass) {
    const double begin = bench::SecondsOn(CLOCK_THREAD_CPUTIME_ID);
    for (const std::string& line : lines) {
      const auto event = kube::ReadWatchLine(line);
      if (!event) Fail(event.error().message);
      const auto object = kind.decode(event->object);
      if (!object) Fail(object.error().message);
    }
    passes.push_back((bench::SecondsOn(CLOCK_THREAD_CPUTIME_ID) - begin) * 1e6 / kLines);
  }
  std::sort(passes.begin(), passes.end());
  Print({fmt::format("decode {} from watch bytes ({} B)", kind.name, bytes / kLines),
         passes[kPasses / 2], "us CPU", goal});
}

/// Lists typical objects, then watches in silence.
class QuietSource final : public runtime::ListWatch {
 public:
  explicit QuietSource(size_t count) : count_(count) {}
  base::Result<std::string> List(const runtime::ListOptions&, const runtime::ListSink& sink,
                                 std::stop_token stop) override {
    const TypicalFleet fleet;
    for (size_t i = 0; i < count_ && !stop.stop_requested(); ++i)
      if (auto taken = sink(fleet.DeclaredPlugin(i)); !taken) return taken.error();
    return std::string("99000000");
  }
  base::Status Watch(const runtime::WatchOptions&, const runtime::WatchSink&,
                     std::stop_token stop) override {
    std::mutex mutex;
    std::condition_variable_any over;
    std::unique_lock lock(mutex);
    over.wait(lock, stop, [] { return false; });
    return base::MakeError(base::Code::kCancelled, "stopped");
  }

 private:
  size_t count_;
};

double ProcessSeconds() { return bench::SecondsOn(CLOCK_PROCESS_CPUTIME_ID); }

/// CPU of an informer's continuous scan, sped up to two turns a second; with a queue also what
/// taking the key in and handing it out costs.
void MeasureResync(bool with_queue, const std::string& name) {
  constexpr size_t kObjects = 100'000;
  codec::StringInterner interner;
  QuietSource source(kObjects);
  runtime::InformerOptions options;
  options.name = "declaredplugins";
  options.streaming = false;
  options.resync = base::Millis{500};
  runtime::Informer<api::DeclaredPlugin> informer(
      options, {kPlugins.decode, FormatOf(kPlugins, interner)}, source);
  runtime::WorkQueue queue;
  std::atomic<uint64_t> visits = 0;
  informer.AddHandler([&](const runtime::ObjectEvent<api::DeclaredPlugin>& event) {
    if (event.kind != runtime::ObjectEventKind::kResync) return;
    visits.fetch_add(1, std::memory_order_relaxed);
    if (with_queue) queue.Add(event.key, event.WakePriority());
  });
  std::jthread worker([&](std::stop_token stop) {
    while (auto key = queue.Get(stop)) {
      queue.Forget(*key);
      queue.Done(*key);
    }
  });
  std::jthread running([&](std::stop_token stop) { (void)informer.Run(stop); });
  if (auto synced = informer.WaitForSync({}, base::Millis{60'000}); !synced)
    Fail(synced.error().message);
  std::this_thread::sleep_for(base::Millis{300});
  const double cpu = ProcessSeconds();
  const uint64_t visited = visits;
  std::this_thread::sleep_for(base::Millis{3'000});
  const double spent = ProcessSeconds() - cpu;
  const double count = static_cast<double>(visits - visited);
  if (count < kObjects) Fail("the scan does not move");
  Print({name, spent * 1e9 / count, "ns CPU", with_queue ? std::nullopt : std::optional(200.0)});
  running.request_stop();
  queue.ShutDown();
}

/// A million keys, each taken in once and then a second time while it waits.
void MeasureQueue() {
  constexpr size_t kKeys = 1'000'000;
  std::vector<meta::ObjectKey> keys;
  for (size_t i = 0; i < kKeys; ++i)
    keys.push_back({fmt::format("team-{}", i / 50), fmt::format("ws-{:07}", i)});
  runtime::WorkQueue queue;
  const auto each = [&](const char* name, const auto& act) {
    const double begin = bench::SecondsOn(CLOCK_THREAD_CPUTIME_ID);
    const uint64_t before = allocations;
    for (const meta::ObjectKey& key : keys) act(key);
    const double spent = bench::SecondsOn(CLOCK_THREAD_CPUTIME_ID) - begin;
    const auto made = static_cast<double>(allocations - before) / kKeys;
    Print({fmt::format("work queue of 1,000,000 keys, {}", name), spent * 1e9 / kKeys, "ns CPU"});
    return made;
  };
  each("a new key", [&](const meta::ObjectKey& key) { queue.Add(key); });
  const double again =
      each("a key that waits already", [&](const meta::ObjectKey& key) { queue.Add(key); });
  Print({"allocations for a key that waits already", again, "", 0});
  each("handing out and giving back", [&](const meta::ObjectKey&) {
    const auto key = queue.TryGet();
    if (!key) Fail("the queue has lost a key");
    queue.Forget(*key);
    queue.Done(*key);
  });
  queue.ShutDown();
}

}  // namespace

/// Counted; the array and nothrow forms end here, too.
void* operator new(size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* made = std::malloc(size == 0 ? 1 : size)) return made;
  throw std::bad_alloc();
}
void operator delete(void* made) noexcept { std::free(made); }
void operator delete(void* made, size_t) noexcept { std::free(made); }

/// `bench_cache [memory] [decode] [resync] [queue]`; all without an argument.
int main(int count, char** words) {
  const auto wanted = [&](std::string_view part) {
    return count < 2 || std::find(words + 1, words + count, part) != words + count;
  };
  if (wanted("memory")) {
    MeasureMemory(kPlugins);
    MeasureMemory(kWorkspaces);
  }
  if (wanted("decode")) {
    MeasureDecode(kPlugins, 5);
    MeasureDecode(kWorkspaces, std::nullopt);
  }
  if (wanted("resync")) {
    MeasureResync(false, "resync scan, per object");
    MeasureResync(true, "resync scan, through the work queue and out");
  }
  if (wanted("queue")) MeasureQueue();
}
