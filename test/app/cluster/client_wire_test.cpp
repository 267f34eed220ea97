#include <dirent.h>
#include <doctest/doctest.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "app/cluster/kube_ports.hpp"
#include "codec/json.hpp"
#include "codec/merge_patch.hpp"
#include "kube/client.hpp"
#include "kube/lease.hpp"
#include "runtime/informer/scripted_list_watch.hpp"
#include "runtime/leader_election.hpp"
#include "support/byte_server.hpp"

/// The client, and the election over it, against a server that decides on every byte.
namespace {

using runtime_test::Bookmark;
using runtime_test::Eventually;
using runtime_test::Json;
using runtime_test::Key;
using runtime_test::Thing;
using support::ByteConnection;
using support::ByteRequest;
using Clock = std::chrono::steady_clock;

std::unique_ptr<kube::Client> ClientOf(const support::ByteServer& server,
                                       kube::ClientOptions options = {}) {
  kube::ClientConfig config;
  config.server = server.Url();
  return *kube::Client::Create(config, std::move(options));
}

const kube::ObjectRef kObject{kube::kSecrets, "ns", "s"};

size_t OpenDescriptors() {
  size_t count = 0;
  DIR* folder = ::opendir("/proc/self/fd");
  while (::readdir(folder) != nullptr) ++count;
  ::closedir(folder);
  return count;
}

/// One Lease behind HTTP, with resourceVersions.
struct LeaseApi {
  LeaseApi() : server([this](ByteConnection& to, const ByteRequest& in) { Serve(to, in); }) {}
  enum class Mode { kServe, kHangOnce, kFail };

  void Serve(ByteConnection& to, const ByteRequest& in) {
    std::unique_lock lock(mutex);
    if (in.method != "GET") last_write = Clock::now();
    const Mode now = mode;
    if (mode == Mode::kHangOnce && in.method == "PATCH") mode = Mode::kServe;
    if (now == Mode::kFail) {
      lock.unlock();
      to.Answer(500, "");
      return;
    }
    if (now == Mode::kHangOnce && in.method == "PATCH") {
      lock.unlock();
      to.FallSilent();
      return;
    }
    if (in.method == "GET") {
      to.Answer(stored.empty() ? 404 : 200, stored.empty() ? "{}" : stored);
      return;
    }
    auto sent = *codec::ParseJson(in.body);
    const std::string version = std::to_string(at);
    if (in.method == "POST" ? !stored.empty()
                            : codec::GetString(sent["metadata"], "resourceVersion") != version) {
      to.Answer(409, R"({"kind":"Status","reason":")" +
                         std::string(in.method == "POST" ? "AlreadyExists" : "Conflict") +
                         R"(","code":409})");
      return;
    }
    if (in.method == "PATCH") sent = codec::ApplyMergePatch(*codec::ParseJson(stored), sent);
    sent["metadata"]["resourceVersion"] = std::to_string(++at);
    stored = codec::Dump(sent);
    ++writes;
    to.Answer(200, stored);
  }
  int Writes() {
    const std::lock_guard lock(mutex);
    return writes;
  }
  void Set(Mode next) {
    const std::lock_guard lock(mutex);
    mode = next;
  }

  std::mutex mutex;
  Mode mode = Mode::kServe;  ///< By mutex, as is all below.
  std::string stored;
  int at = 10, writes = 0;
  Clock::time_point last_write;
  support::ByteServer server;
};

/// An elector over the real client, on a thread of its own.
struct Leader {
  explicit Leader(LeaseApi& api, const std::string& identity = "me") {
    kube::ClientOptions options;
    options.max_attempts = 1;
    client = ClientOf(api.server, options);
    lock = app::MakeLeaseLock(*client, "ns", "election");
    runtime::LeaderElectionOptions how;
    how.name = "election";
    how.identity = identity;
    how.lease_duration = base::Millis{4'000};
    how.renew_deadline = base::Millis{3'000};
    how.retry_period = base::Millis{100};
    elector.emplace(how, *lock);
    elector->Contend("http://" + identity);
    thread = std::jthread([this](std::stop_token stop) {
      ended = elector->Run(stop);
      over = true;
    });
  }
  std::unique_ptr<kube::Client> client;
  std::unique_ptr<runtime::LeaseLock> lock;
  std::optional<runtime::LeaderElector> elector;
  base::Status ended;
  std::atomic<bool> over = false;
  std::jthread thread;
};

}  // namespace

TEST_CASE("wire: one renewal that hangs for ever does not lose the lease") {
  LeaseApi api;
  Leader leader(api);
  REQUIRE(Eventually([&] { return leader.elector->Leading() && api.Writes() >= 2; }));
  api.Set(LeaseApi::Mode::kHangOnce);
  REQUIRE(Eventually([&] {
    const std::lock_guard lock(api.mutex);
    return api.mode == LeaseApi::Mode::kServe;
  }));
  const int before = api.Writes();
  REQUIRE(Eventually([&] { return api.Writes() > before + 2; }));
  CHECK(leader.elector->Leading());
  CHECK_FALSE(leader.over);
}

TEST_CASE(
    "wire: a server that fails for longer than the deadline ends the leader, and no write "
    "follows") {
  LeaseApi api;
  Leader leader(api);
  REQUIRE(Eventually([&] { return leader.elector->Leading() && api.Writes() >= 2; }));
  const auto begin = Clock::now();
  api.Set(LeaseApi::Mode::kFail);
  REQUIRE(Eventually([&] { return leader.over.load(); }));
  CHECK(leader.ended.error().reason == "LeaseLost");
  CHECK_FALSE(leader.elector->Leading());
  api.Set(LeaseApi::Mode::kServe);
  leader.thread = {};
  const std::lock_guard lock(api.mutex);
  CHECK(api.last_write - begin < std::chrono::milliseconds{3'600});
  CHECK(codec::GetString((*codec::ParseJson(api.stored))["spec"], "holderIdentity") == "me");
}

TEST_CASE("wire: many candidates over the real client, and never two leaders") {
  LeaseApi api;
  std::vector<std::unique_ptr<Leader>> all;
  for (int i = 0; i < 8; ++i) all.push_back(std::make_unique<Leader>(api, "c" + std::to_string(i)));
  const auto leading = [&] {
    return std::count_if(all.begin(), all.end(),
                         [](const auto& one) { return one->elector->Leading(); });
  };
  for (int round = 0; round < 3; ++round) {
    REQUIRE(Eventually([&] { return leading() == 1; }));
    const int until = api.Writes() + 5;
    REQUIRE(Eventually([&] {
      CHECK(leading() <= 1);
      return api.Writes() >= until;
    }));
    // The leader stops in order: it gives the lease back, and another one takes it.
    for (auto& one : all)
      if (one->elector->Leading()) one->thread = {};
  }
}

TEST_CASE("wire: a write whose answer is lost is not repeated on its own") {
  std::atomic<int> writes = 0;
  support::ByteServer server([&](ByteConnection& to, const ByteRequest& in) {
    if (in.method == "GET") return void(to.Answer(200, "{}"));
    ++writes;
    to.Reset();  // It happened; nobody hears of it.
  });
  const auto client = ClientOf(server);
  const auto lost = client->Create({kube::kSecrets, "ns"}, "{}");
  REQUIRE_FALSE(lost);
  CHECK(lost.error().code == base::Code::kUnavailable);
  CHECK(writes == 1);
  CHECK(client->Get(kObject).has_value());
}

TEST_CASE(
    "wire: a write is sent once on a kept connection, too, that is closed instead of answered") {
  std::atomic<int> writes = 0;
  support::ByteServer server([&](ByteConnection& to, const ByteRequest&) {
    if (++writes == 1) return void(to.Answer(201, "{}"));
    to.Close();
  });
  const auto client = ClientOf(server);
  REQUIRE(client->Create({kube::kSecrets, "ns"}, "{}"));
  const auto lost = client->Patch(kObject, {kube::PatchType::kMerge, "{}"}, {});
  REQUIRE_FALSE(lost);
  CHECK(lost.error().code == base::Code::kUnavailable);
  CHECK(writes == 2);
}

TEST_CASE("wire: a read is tried again over a lost connection and after Retry-After") {
  std::atomic<int> asked = 0;
  support::ByteServer server([&](ByteConnection& to, const ByteRequest&) {
    switch (asked++) {
      case 0:
        return to.Reset();
      case 1:
        return void(to.Answer(503, "<html>", "Retry-After: 0\r\n"));
      case 2:
        to.Send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"cut\":");
        return to.Close();
      default:
        to.Answer(200, R"({"ok":true})");
    }
  });
  kube::ClientOptions options;
  const auto client = ClientOf(server, options);
  auto got = client->Get(kObject);
  if (!got) got = client->Get(kObject);  // Three plain attempts are all that one call has.
  REQUIRE(got);
  CHECK(*got == R"({"ok":true})");
}

TEST_CASE("wire: forty silent watches do not keep a call waiting") {
  support::ByteServer server([](ByteConnection& to, const ByteRequest& in) {
    if (!in.Has("watch=true")) return void(to.Answer(200, "{}"));
    to.BeginStream();
    to.FallSilent();
  });
  const auto client = ClientOf(server);
  std::vector<std::jthread> watches;
  std::stop_source stop;
  for (int i = 0; i < 40; ++i)
    watches.emplace_back([&] {
      kube::WatchOptions options;
      options.stop = stop.get_token();
      (void)client->Watch({kube::kSecrets, "ns"}, options,
                          [](const kube::WatchEvent&) { return base::Status(); });
    });
  REQUIRE(Eventually([&] { return server.Count("watch=true") == 40; }));
  for (int i = 0; i < 20; ++i)
    CHECK(client->PatchStatus(kObject, {kube::PatchType::kMerge, "{}"}, {}).has_value());
  stop.request_stop();
}

TEST_CASE("wire: a server that hangs in its head ends at the call's deadline, a watch stays") {
  support::ByteServer server([](ByteConnection& to, const ByteRequest& in) {
    if (!in.Has("watch=true")) return to.FallSilent();
    to.BeginStream();
    to.SendChunk("{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"1\"}}}\n");
    to.FallSilent();
  });
  const auto client = ClientOf(server);
  std::atomic<bool> ended = false, begun = false;
  std::stop_source stop;
  std::jthread watch([&] {
    kube::WatchOptions options;
    options.stop = stop.get_token();
    (void)client->Watch({kube::kSecrets, "ns"}, options, [&](const kube::WatchEvent&) {
      begun = true;
      return base::Status();
    });
    ended = true;
  });
  REQUIRE(Eventually([&] { return begun.load(); }));
  const auto late = client->Get(kObject, {.deadline = base::Millis{300}, .stop = {}});
  REQUIRE_FALSE(late);
  CHECK(late.error().code == base::Code::kTimeout);
  CHECK_FALSE(ended);
  stop.request_stop();
}

TEST_CASE(
    "wire: an own write is read back while the watch is held, and a foreign edit beneath it "
    "wakes") {
  std::mutex mutex;
  std::condition_variable changed;
  bool release = false;
  const auto line = [](const std::string& type, const std::string& object) {
    return R"({"type":")" + type + R"(","object":)" + object + "}\n";
  };
  support::ByteServer server([&](ByteConnection& to, const ByteRequest& in) {
    if (in.method == "PATCH")
      return void(to.Answer(200, Json("a", "1", "12", "theirs", "written")));
    to.BeginStream();
    to.SendChunk(line("ADDED", Json("a", "1", "5", "old")) +
                 line("BOOKMARK", Bookmark("10", true)));
    {
      std::unique_lock lock(mutex);
      changed.wait_for(lock, std::chrono::seconds{20}, [&] { return release; });
    }
    // A foreign edit of the spec, then the echo of our own write.
    to.SendChunk(line("MODIFIED", Json("a", "1", "11", "theirs")) +
                 line("MODIFIED", Json("a", "1", "12", "theirs", "written")));
    to.FallSilent();
  });
  const auto client = ClientOf(server);
  const auto source = app::MakeListWatch(*client, {"g", "v1", "things"}, "ns");
  runtime::Informer<Thing> informer(runtime_test::Quick(true), runtime_test::ThingFormat(),
                                    *source);
  std::atomic<int> woken = 0;
  informer.AddHandler([&](const runtime::ObjectEvent<Thing>&) { ++woken; });
  std::jthread run([&](std::stop_token stop) { (void)informer.Run(stop); });
  REQUIRE(Eventually([&] { return informer.HasSynced() && woken == 1; }));
  const auto answer =
      client->PatchStatus({{"g", "v1", "things"}, "ns", "a"}, {kube::PatchType::kMerge, "{}"});
  REQUIRE(answer);
  informer.ObserveWrite(*runtime_test::ThingFormat().decode(*answer));
  CHECK(informer.Get(Key("a"))->status == "written");  // The watch has not said a word.
  CHECK(informer.Get(Key("a"))->meta.resource_version == "12");
  CHECK(informer.WaitFor(Key("a"), base::Millis{10}).has_value());
  CHECK(woken == 2);  // Our answer carried the foreign spec.
  {
    const std::lock_guard lock(mutex);
    release = true;
  }
  changed.notify_all();
  REQUIRE(Eventually([&] { return informer.Stats().resource_version == "12"; }));
  CHECK(informer.Get(Key("a"))->status == "written");
  CHECK(woken >= 2);
  CHECK(informer.Stats().own_writes + informer.Stats().self_triggers <= 1);
}

TEST_CASE("wire: an outage costs few requests, no descriptors, and ends by itself") {
  std::atomic<bool> down = true;
  support::ByteServer server([&](ByteConnection& to, const ByteRequest& in) {
    if (down) return to.Reset();
    // Streams that broke three times have made it list.
    if (!in.Has("watch=true"))
      return void(to.Answer(200, R"({"metadata":{"resourceVersion":"10"},"items":[]})"));
    to.BeginStream();
    to.SendChunk(R"({"type":"BOOKMARK","object":)" + Bookmark("10", true) + "}\n");
    to.FallSilent();
  });
  const auto client = ClientOf(server);
  const auto source = app::MakeListWatch(*client, {"g", "v1", "things"}, "ns");
  auto options = runtime_test::Quick(true);
  options.backoff = {base::Millis{200}, base::Millis{1'000}, 0.0};
  runtime::Informer<Thing> informer(options, runtime_test::ThingFormat(), *source);
  std::jthread run([&](std::stop_token stop) { (void)informer.Run(stop); });
  REQUIRE(Eventually([&] { return server.Requests().size() >= 2; }));
  const size_t before = OpenDescriptors();
  const auto begin = Clock::now();
  REQUIRE(Eventually([&] { return Clock::now() - begin > std::chrono::seconds{3}; }));
  CHECK(server.Requests().size() <= 24);  // Lists are plain reads: each has three attempts.
  CHECK(OpenDescriptors() <= before + 4);
  down = false;
  CHECK(Eventually([&] { return informer.HasSynced(); }));
}

TEST_CASE("wire: a write under way at the stop is heard out, and one that is not is told as lost") {
  std::atomic<int> lost = 0, asked = 0;
  std::atomic<bool> answers = false;
  auto server =
      std::make_unique<support::ByteServer>([&](ByteConnection& to, const ByteRequest& in) {
        ++asked;
        if (in.Has("/silent")) return to.FallSilent();
        if (in.Has("/reset")) return to.Reset();
        if (in.Has("/late")) return void(to.Answer(504, "{}"));
        if (in.Has("/refused")) return void(to.Answer(409, "{}"));
        REQUIRE(Eventually([&] { return answers.load(); }));
        to.Answer(200, "{}");
      });
  kube::ClientOptions options;
  options.may_write = []() -> base::Result<base::Millis> { return base::Millis{60'000}; };
  options.write_lost = [&] { ++lost; };
  const auto write = [&](kube::Client& client, const std::string& name, std::stop_token stop) {
    return client.Patch({kube::kSecrets, "ns", name}, {kube::PatchType::kMerge, "{}"},
                        {.call = {.deadline = base::Millis{60'000}, .stop = std::move(stop)}});
  };
  const auto stop_amid = [&](kube::Client& client, const std::string& name) {
    std::stop_source stop;
    const int before = asked;
    base::Code code = base::Code::kInternal;
    std::jthread call([&] {
      const auto written = write(client, name, stop.get_token());
      code = written ? base::Code() : written.error().code;
    });
    REQUIRE(Eventually([&] { return asked > before; }));
    stop.request_stop();
    answers = true;
    call.join();
    return code;
  };
  options.stop_grace = base::Millis{60'000};
  const auto patient = ClientOf(*server, options);
  CHECK(stop_amid(*patient, "answers") == base::Code());
  CHECK(lost == 0);
  options.stop_grace = base::Millis{50};
  const auto client = ClientOf(*server, options);
  CHECK(stop_amid(*client, "silent") == base::Code::kCancelled);
  CHECK(lost == 1);
  CHECK_FALSE(write(*client, "reset", {}));
  CHECK(lost == 2);
  CHECK_FALSE(write(*client, "late", {}));  // The API server itself does not know.
  CHECK(lost == 3);
  // What was answered, what was never sent, and what only asks.
  CHECK_FALSE(write(*client, "refused", {}));
  std::stop_source over;
  over.request_stop();
  const int before = asked;
  CHECK(write(*client, "never", over.get_token()).error().code == base::Code::kCancelled);
  CHECK(asked == before);
  CHECK_FALSE(client->Get({kube::kSecrets, "ns", "reset"}));
  CHECK_FALSE(client->PostRaw("/apis/authentication.k8s.io/v1/tokenreviews/reset", "{}"));
  server.reset();
  CHECK(write(*client, "nobody", {}).error().reason == "ConnectFailed");
  CHECK(lost == 3);
}
