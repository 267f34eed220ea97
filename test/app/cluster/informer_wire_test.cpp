#include <doctest/doctest.h>

#include <atomic>
#include <deque>
#include <set>

#include "app/cluster/kube_ports.hpp"
#include "kube/client.hpp"
#include "runtime/informer/scripted_list_watch.hpp"
#include "support/byte_server.hpp"

/// The informer over the real client, against a server that decides on every byte.
namespace {

using runtime_test::Bookmark;
using runtime_test::Eventually;
using runtime_test::Json;
using runtime_test::Key;
using runtime_test::StatusJson;
using runtime_test::Strings;
using runtime_test::Thing;
using support::ByteConnection;
using support::ByteRequest;

using Step = std::function<void(ByteConnection&, const ByteRequest&)>;

std::string Line(const std::string& type, const std::string& object) {
  return R"({"type":")" + type + R"(","object":)" + object + "}\n";
}
std::string Page(const std::string& version, const Strings& items, const std::string& more = "") {
  std::string text = R"({"kind":"ThingList","metadata":{"resourceVersion":")" + version + "\"";
  if (!more.empty()) text += R"(,"continue":")" + more + "\"";
  text += "},\"items\":[";
  for (size_t i = 0; i < items.size(); ++i) text += (i ? "," : "") + items[i];
  return text + "]}";
}
Step Answers(int status, std::string body, std::string headers = "") {
  return [=](ByteConnection& to, const ByteRequest&) { to.Answer(status, body, headers); };
}
/// A stream of these lines that then stays open, silent.
Step Streams(std::string lines) {
  return [=](ByteConnection& to, const ByteRequest&) {
    to.BeginStream();
    if (!lines.empty()) to.SendChunk(lines);  // An empty chunk would end the stream.
    to.FallSilent();
  };
}
/// A stream of these lines that ends in order.
Step StreamsAndEnds(std::string lines) {
  return [=](ByteConnection& to, const ByteRequest&) {
    to.BeginStream();
    if (!lines.empty()) to.SendChunk(lines);
    to.EndStream();
  };
}
std::string Initial(const std::string& version, const Strings& objects) {
  std::string lines;
  for (const auto& object : objects) lines += Line("ADDED", object);
  return lines + Line("BOOKMARK", Bookmark(version, true));
}

/// A server with a script for lists and one for watches, and an informer that runs against it.
struct World {
  explicit World(runtime::InformerOptions options = runtime_test::Quick(true),
                 const std::string& selector = "")
      : server([this](ByteConnection& to, const ByteRequest& request) { Serve(to, request); }) {
    kube::ClientConfig config;
    config.server = server.Url();
    client = *kube::Client::Create(config, client_options());
    source = app::MakeListWatch(*client, {"g", "v1", "things"}, "ns", selector);
    informer.emplace(std::move(options), runtime_test::ThingFormat(), *source);
    informer->AddHandler([this](const runtime::ObjectEvent<Thing>& event) {
      const std::lock_guard lock(mutex);
      static constexpr const char* kSigns[] = {"+", "~", "-", "="};
      told.push_back(kSigns[static_cast<int>(event.kind)] + event.key.name);
    });
  }
  ~World() {
    thread = {};
    informer.reset();
  }
  static kube::ClientOptions client_options() {
    kube::ClientOptions options;
    options.line_limit = 64 << 10;
    return options;
  }
  void OnList(Step step) {
    const std::lock_guard lock(mutex);
    lists.push_back(std::move(step));
  }
  void OnWatch(Step step) {
    const std::lock_guard lock(mutex);
    watches.push_back(std::move(step));
  }
  void Start() {
    thread = std::jthread([this](std::stop_token stop) { (void)informer->Run(stop); });
  }
  std::string Content() const {
    Strings all;
    informer->Cache().ForEach([&](const Thing& thing) {
      all.push_back(thing.meta.name + "@" + thing.meta.resource_version);
    });
    std::sort(all.begin(), all.end());
    std::string text;
    for (const auto& one : all) text += (text.empty() ? "" : " ") + one;
    return text;
  }
  bool Await(const std::string& content) const {
    return Eventually([&] { return informer->HasSynced() && Content() == content; });
  }
  Strings Told() {
    const std::lock_guard lock(mutex);
    return told;
  }
  /// The queries of all requests that watch (or list), in order.
  Strings Queries(bool watch) const {
    Strings queries;
    for (const auto& request : server.Requests())
      if ((request.find("watch=true") != std::string::npos) == watch)
        queries.push_back(request.substr(request.find('?') + 1));
    return queries;
  }
  bool AwaitWatches(size_t count) const {
    return Eventually([&] { return Queries(true).size() >= count; });
  }

  std::mutex mutex;
  std::deque<Step> lists, watches;  ///< By mutex.
  Strings told;                     ///< By mutex.
  support::ByteServer server;
  std::unique_ptr<kube::Client> client;
  std::unique_ptr<runtime::ListWatch> source;
  std::optional<runtime::Informer<Thing>> informer;
  std::jthread thread;

 private:
  /// Past the end of the script everything is silent.
  void Serve(ByteConnection& to, const ByteRequest& request) {
    Step step;
    {
      const std::lock_guard lock(mutex);
      auto& script = request.Has("watch=true") ? watches : lists;
      if (!script.empty()) {
        step = std::move(script.front());
        script.pop_front();
      }
    }
    if (step) return step(to, request);
    to.FallSilent();
  }
};

bool Has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("wire: a refused initial stream makes one list, whatever the refusal") {
  for (const int code : {400, 404, 405, 422}) {
    CAPTURE(code);
    World world;
    world.OnWatch(Answers(code, StatusJson(code, "Invalid")));
    world.OnList(Answers(200, Page("7", {Json("a", "1", "5")})));
    world.OnWatch(Streams(""));
    world.Start();
    REQUIRE(world.Await("a@5"));
    REQUIRE(world.AwaitWatches(2));
    const auto watches = world.Queries(true);
    CHECK(Has(watches[0], "sendInitialEvents=true"));
    CHECK(Has(watches[0], "allowWatchBookmarks=true"));
    CHECK(Has(watches[0], "resourceVersionMatch=NotOlderThan"));
    CHECK_FALSE(Has(watches[0], "resourceVersion="));
    CHECK(Has(watches[1], "resourceVersion=7"));
    CHECK_FALSE(Has(watches[1], "sendInitialEvents"));
    const auto lists = world.Queries(false);
    REQUIRE(lists.size() == 1);
    CHECK(lists[0] == "limit=500");
  }
}

TEST_CASE("wire: the initial stream ends at its marker alone and goes on on the same connection") {
  const std::string not_yet =
      R"({"metadata":{"resourceVersion":"20","annotations":{"k8s.io/initial-events-end":"false"}}})";
  World world;
  world.OnWatch([&](ByteConnection& to, const ByteRequest&) {
    to.BeginStream();
    to.SendChunk(Line("ADDED", Json("a", "1", "9")) + Line("BOOKMARK", Bookmark("20")) +
                 Line("BOOKMARK", not_yet) + Line("ADDED", Json("b", "2", "3")) +
                 Line("ADDED", Json("c", "3", "8")));
    REQUIRE(Eventually([&] { return world.informer->Stats().events == 3; }));
    CHECK_FALSE(world.informer->HasSynced());
    to.SendChunk(Line("BOOKMARK", Bookmark("21", true)));
    to.SendChunk(Line("MODIFIED", Json("b", "2", "22")));
    to.FallSilent();
  });
  world.Start();
  REQUIRE(world.Await("a@9 b@22 c@8"));
  CHECK(world.server.Requests().size() == 1);
}

TEST_CASE("wire: each watch asks for a time of its own within the range, the initial stream too") {
  auto options = runtime_test::Quick(true);
  options.watch_timeout_min = 100;
  options.watch_timeout_max = 119;
  World world(options);
  world.OnWatch(StreamsAndEnds(Initial("7", {Json("a", "1", "5")})));
  for (int i = 8; i < 28; ++i)
    world.OnWatch(StreamsAndEnds(Line("BOOKMARK", Bookmark(std::to_string(i)))));
  world.Start();
  REQUIRE(world.AwaitWatches(22));
  std::set<int> asked;
  for (const auto& query : world.Queries(true)) {
    const size_t at = query.find("timeoutSeconds=");
    REQUIRE(at != std::string::npos);
    const int seconds = std::stoi(query.substr(at + 15));
    CHECK(seconds >= 100);
    CHECK(seconds <= 119);
    asked.insert(seconds);
  }
  CHECK(asked.size() >= 6);
}

TEST_CASE("wire: a selection is asked for by every request, and what leaves it is gone") {
  for (const bool streaming : {true, false}) {
    CAPTURE(streaming);
    World world(runtime_test::Quick(streaming), "app in (x,y)");
    const auto first = Page("7", {Json("a", "1", "5")}, "t1");
    if (streaming) world.OnWatch(StreamsAndEnds(Initial("7", {Json("a", "1", "5")})));
    if (!streaming) world.OnList(Answers(200, first));
    if (!streaming) world.OnList(Answers(200, Page("7", {Json("b", "2", "6")})));
    world.OnWatch(StreamsAndEnds(Line("DELETED", Json("a", "1", "8"))));  // Relabelled.
    world.OnWatch(StreamsAndEnds(Line("ERROR", StatusJson(410, "Expired"))));
    if (streaming) world.OnWatch(Streams(Initial("30", {Json("c", "3", "29")})));
    if (!streaming) world.OnList(Answers(200, Page("30", {Json("c", "3", "29")})));
    if (!streaming) world.OnWatch(Streams(""));
    world.Start();
    REQUIRE(world.Await("c@29"));
    REQUIRE(world.AwaitWatches(streaming ? 4 : 3));
    const auto told = world.Told();
    CHECK(std::count(told.begin(), told.end(), "-a") == 1);
    for (const bool watch : {true, false})
      for (const auto& query : world.Queries(watch)) {
        CAPTURE(query);
        CHECK(Has(query, "labelSelector=app%20in%20%28x%2Cy%29"));
      }
    CHECK(world.Queries(false).size() == (streaming ? 0 : 3));
    for (const auto& request : world.server.Requests())
      CHECK(Has(request, "GET /apis/g/v1/namespaces/ns/things?"));
  }
}

TEST_CASE("wire: bytes may be cut anywhere") {
  // Inside of escapes, of a UTF-8 sequence, of numbers, of the line's end and of chunk heads.
  const std::string odd = "q\\\"\\\\\\u00e9\\ud83d\\ude00\xc3\xa9\xf0\x9f\x98\x80 -1.5e+3";
  const std::string lines = Line("ADDED", Json("a", "1", "5", odd)) +
                            Line("BOOKMARK", Bookmark("6", true)) +
                            Line("MODIFIED", Json("a", "1", "12345", odd));
  for (const size_t size : {1u, 2u, 3u, 7u}) {
    CAPTURE(size);
    World world;
    world.OnWatch([&](ByteConnection& to, const ByteRequest&) {
      std::string bytes =
          "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
      // Chunks of 5 bytes, in packets of `size`.
      for (size_t at = 0; at < lines.size(); at += 5)
        bytes += ByteConnection::Chunk(lines.substr(at, 5));
      to.SendSplit(bytes, size);
      to.FallSilent();
    });
    world.Start();
    REQUIRE(world.Await("a@12345"));
    // The test's decoder shows each \u escape as a question mark.
    CHECK(world.informer->Get(Key("a"))->spec == "q\"\\???\xc3\xa9\xf0\x9f\x98\x80 -1.5e+3");
    CHECK(world.server.Requests().size() == 1);
  }
}

TEST_CASE("wire: pages follow their continuation, and one that expired makes one whole list") {
  auto options = runtime_test::Quick(false);
  World world(options);
  world.OnList(Answers(200, Page("7", {Json("a", "1", "1")}, "t1")));
  world.OnList(Answers(200, Page("7", {Json("b", "2", "2")}, "t2")));
  world.OnList(Answers(410, StatusJson(410, "Expired")));
  world.OnList(
      Answers(200, Page("9", {Json("a", "1", "1"), Json("b", "2", "2"), Json("c", "3", "3")})));
  world.OnWatch(Streams(""));
  world.Start();
  REQUIRE(world.Await("a@1 b@2 c@3"));
  const auto lists = world.Queries(false);
  REQUIRE(lists.size() == 4);
  CHECK(lists[0] == "limit=500");
  CHECK(Has(lists[1], "continue=t1"));
  CHECK(Has(lists[2], "continue=t2"));
  for (int i : {1, 2}) CHECK_FALSE(Has(lists[i], "resourceVersion"));
  CHECK_FALSE(Has(lists[3], "limit="));
  CHECK_FALSE(Has(lists[3], "continue="));
}

TEST_CASE("wire: a page that fails publishes nothing") {
  auto options = runtime_test::Quick(false);
  World world(options);
  world.OnList(Answers(200, Page("7", {Json("a", "1", "1"), Json("b", "2", "2")})));
  world.OnWatch(StreamsAndEnds(Line("ERROR", StatusJson(410, "Expired"))));
  std::atomic<bool> half = false;
  world.OnList(Answers(200, Page("9", {Json("c", "3", "3")}, "t1")));
  world.OnList([&](ByteConnection& to, const ByteRequest&) {
    half = world.Content() == "a@1 b@2";
    to.Answer(400, StatusJson(400, "BadRequest"));
  });
  world.Start();
  REQUIRE(Eventually([&] { return half.load(); }));
  REQUIRE(Eventually([&] { return world.Queries(false).size() >= 4; }));
  CHECK(world.Content() == "a@1 b@2");
}

TEST_CASE("wire: 410 in its four forms makes a list and is not shown as trouble") {
  const std::string first = Initial("7", {Json("a", "1", "5")});
  const std::vector<Step> forms = {Answers(410, StatusJson(410, "Expired")),
                                   Answers(410, StatusJson(410, "Gone")),
                                   StreamsAndEnds(Line("ERROR", StatusJson(410, "Expired"))),
                                   StreamsAndEnds(Line("ERROR", StatusJson(410, "Gone")))};
  for (size_t i = 0; i < forms.size(); ++i) {
    CAPTURE(i);
    World world;
    world.OnWatch(StreamsAndEnds(first));
    world.OnWatch(forms[i]);
    world.OnWatch(Streams(Initial("30", {Json("b", "2", "29")})));
    world.Start();
    REQUIRE(world.Await("b@29"));
    const auto queries = world.Queries(true);
    REQUIRE(queries.size() == 3);
    CHECK(Has(queries[1], "resourceVersion=7"));
    CHECK(Has(queries[2], "sendInitialEvents=true"));
    CHECK(world.informer->Stats().last_error.empty());
    CHECK(world.Told() == Strings{"+a", "+b", "-a"});
  }
}

TEST_CASE("wire: a busy or refusing server is asked again from the same version, without a list") {
  const std::vector<Step> refusals = {
      Answers(429, StatusJson(429, "TooManyRequests"), "Retry-After: 0\r\n"),
      StreamsAndEnds(Line("ERROR", StatusJson(429, "TooManyRequests"))),
      Answers(503, "<html>try later</html>"),
      [](ByteConnection& to, const ByteRequest&) { to.Reset(); }};
  for (size_t i = 0; i < refusals.size(); ++i) {
    CAPTURE(i);
    World world;
    world.OnWatch(StreamsAndEnds(Initial("7", {Json("a", "1", "5")})));
    world.OnWatch(refusals[i]);
    world.OnWatch(Streams(Line("MODIFIED", Json("a", "1", "8"))));
    world.Start();
    REQUIRE(world.Await("a@8"));
    const auto queries = world.Queries(true);
    REQUIRE(queries.size() == 3);
    CHECK(Has(queries[1], "resourceVersion=7"));
    CHECK(Has(queries[2], "resourceVersion=7"));
    CHECK(world.Queries(false).empty());
  }
}

TEST_CASE("wire: no error of a stream ends the informer") {
  for (const std::string& error :
       {StatusJson(403, "Forbidden"), StatusJson(418, "Teapot"), std::string(R"({"code":"x"})"),
        std::string(R"({})"), StatusJson(500, "InternalError")}) {
    CAPTURE(error);
    World world;
    world.OnWatch(StreamsAndEnds(Initial("7", {Json("a", "1", "5")})));
    for (int i = 0; i < 3; ++i) world.OnWatch(StreamsAndEnds(Line("ERROR", error)));
    for (int i = 0; i < 6; ++i)
      world.OnWatch([](ByteConnection& to, const ByteRequest& request) {
        if (!request.Has("sendInitialEvents")) return void(to.Answer(500, ""));
        to.BeginStream();
        to.SendChunk(Initial("30", {Json("b", "2", "29")}));
        to.FallSilent();
      });
    world.Start();
    CHECK(world.Await("b@29"));
  }
}

TEST_CASE("wire: the version advances with every kind of event") {
  World world;
  world.OnWatch(StreamsAndEnds(Initial("7", {Json("a", "1", "5")})));
  world.OnWatch(StreamsAndEnds(Line("ADDED", Json("b", "2", "8"))));
  world.OnWatch(StreamsAndEnds(Line("MODIFIED", Json("b", "2", "9"))));
  world.OnWatch(StreamsAndEnds(Line("DELETED", Json("b", "2", "10"))));
  world.OnWatch(StreamsAndEnds(Line("BOOKMARK", Bookmark("11"))));
  world.OnWatch(Streams(""));
  world.Start();
  REQUIRE(world.AwaitWatches(6));
  const auto queries = world.Queries(true);
  for (int i = 1; i < 6; ++i)
    CHECK(Has(queries[i], "resourceVersion=" + std::to_string(6 + i) + "&"));
  CHECK(world.Queries(false).empty());
  CHECK(world.Content() == "a@5");
}

TEST_CASE("wire: a half-open connection is left after the time without a byte") {
  auto options = runtime_test::Quick(true);
  options.liveness = base::Millis{400};
  World world(options);
  world.OnWatch(Streams(Initial("7", {Json("a", "1", "5")})));  // And then nothing.
  world.OnWatch(Streams(Line("MODIFIED", Json("a", "1", "8"))));
  world.Start();
  REQUIRE(world.Await("a@8"));
  CHECK(Has(world.Queries(true)[1], "resourceVersion=7"));
  CHECK(world.Queries(false).empty());
}

TEST_CASE("wire: a version that is answered empty at once is not asked for in a loop") {
  auto options = runtime_test::Quick(true);
  options.backoff = {base::Millis{20}, base::Millis{200}, 0.0};
  World world(options);
  world.OnWatch(StreamsAndEnds(Initial("7", {Json("a", "1", "5")})));
  for (int i = 0; i < 50; ++i)
    world.OnWatch([](ByteConnection& to, const ByteRequest& request) {
      to.BeginStream();
      if (request.Has("sendInitialEvents")) to.SendChunk(Initial("7", {Json("a", "1", "5")}));
      to.EndStream();
    });
  const auto begin = std::chrono::steady_clock::now();
  world.Start();
  REQUIRE(world.AwaitWatches(10));
  // Every second watch is a failure; steps of 20, 40, 80, 160 ms are the least that they take.
  CHECK(std::chrono::steady_clock::now() - begin >= std::chrono::milliseconds{300});
}

TEST_CASE("wire: an object of wrong types is set aside and the others flow") {
  World world;
  Strings objects;
  for (int i = 1; i <= 20; ++i)
    objects.push_back(
        Json("o" + std::to_string(i), std::to_string(i), std::to_string(i), i == 7 ? "BAD" : "s"));
  world.OnWatch(Streams(Initial("30", objects) + Line("MODIFIED", Json("o7", "7", "31"))));
  world.Start();
  REQUIRE(Eventually([&] { return world.informer->Cache().Size() == 20; }));
  CHECK(world.informer->Stats().quarantined_total == 1);
  CHECK(world.informer->Quarantine().empty());  // Mended by its next version.
}

TEST_CASE("wire: broken framing backs off and never spins") {
  const std::vector<std::string> broken = {R"({"type":"MODIFIED","object":{"metadata":)"
                                           "\n",
                                           std::string("\0\0\0\n", 4), std::string(100'000, 'x'),
                                           "[]\n", "{\"type\":\"NONSENSE\",\"object\":{}}\n"};
  for (const std::string& bytes : broken) {
    CAPTURE(bytes.substr(0, 40));
    auto options = runtime_test::Quick(true);
    options.backoff = {base::Millis{20}, base::Millis{20}, 0.0};
    World world(options);
    world.OnWatch(StreamsAndEnds(Initial("7", {Json("a", "1", "5")})));
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 3; ++i) world.OnWatch(StreamsAndEnds(bytes));
    world.OnWatch(Streams(Initial("30", {Json("a", "1", "5"), Json("b", "2", "29")})));
    world.Start();
    REQUIRE(world.Await("a@5 b@29"));
    CHECK(std::chrono::steady_clock::now() - begin >= std::chrono::milliseconds{60});
    CHECK(world.server.Requests().size() == 5);
  }
}

TEST_CASE("wire: a connection that breaks inside of an event goes on behind the last whole one") {
  const std::string whole = Line("MODIFIED", Json("a", "1", "8"));
  const std::string half = Line("MODIFIED", Json("a", "1", "9"));
  const std::vector<std::function<void(ByteConnection&)>> cuts = {
      [](ByteConnection& to) { to.Close(); }, [](ByteConnection& to) { to.Reset(); },
      [](ByteConnection& to) { to.EndStream(); }};
  for (size_t i = 0; i < cuts.size(); ++i) {
    CAPTURE(i);
    World world;
    world.OnWatch(StreamsAndEnds(Initial("7", {Json("a", "1", "5")})));
    world.OnWatch([&](ByteConnection& to, const ByteRequest&) {
      to.BeginStream();
      to.SendChunk(whole);
      // A reset overtakes what was sent: the event must have arrived before it.
      REQUIRE(Eventually([&] { return world.Content() == "a@8"; }));
      to.SendChunk(half.substr(0, half.size() / 2));
      cuts[i](to);
    });
    world.OnWatch(Streams(half));
    world.Start();
    REQUIRE(world.Await("a@9"));
    const auto queries = world.Queries(true);
    REQUIRE(queries.size() == 3);
    CHECK(Has(queries[2], "resourceVersion=8"));
    CHECK(world.Queries(false).empty());
  }
}

TEST_CASE("wire: an initial stream that is cut leaves nothing and resumes from nothing") {
  World world;
  world.OnWatch([](ByteConnection& to, const ByteRequest&) {
    to.BeginStream();
    to.SendChunk(Line("ADDED", Json("a", "1", "9")) + Line("ADDED", Json("b", "2", "5")));
    to.Close();
  });
  world.OnWatch(Streams(Initial("21", {Json("a", "1", "9")})));
  world.Start();
  REQUIRE(world.Await("a@9"));
  CHECK_FALSE(Has(world.Queries(true)[1], "resourceVersion="));
  CHECK(world.Told() == Strings{"+a"});
}

TEST_CASE("wire: a marker that never comes demotes to lists") {
  auto options = runtime_test::Quick(true);
  options.marker_limit = base::Millis{200};
  options.marker_attempts = 2;
  World world(options);
  for (int i = 0; i < 2; ++i) world.OnWatch(Streams(Line("ADDED", Json("a", "1", "9"))));
  world.OnList(Answers(200, Page("12", {Json("a", "1", "9")})));
  world.OnWatch(Streams(""));
  world.Start();
  REQUIRE(world.Await("a@9"));
  CHECK(world.informer->Stats().listing);
}

TEST_CASE("wire: objects without end and without a marker demote to lists, too") {
  auto options = runtime_test::Quick(true);
  options.marker_limit = base::Millis{100};
  options.marker_attempts = 1;
  World world(options);
  world.OnWatch([](ByteConnection& to, const ByteRequest&) {
    to.BeginStream();
    for (int i = 0; to.SendChunk(Line("ADDED", Json("a", "1", std::to_string(9 + i)))); ++i)
      to.StaySilent(20);
  });
  world.OnList(Answers(200, Page("500", {Json("a", "1", "499")})));
  world.OnWatch(Streams(""));
  world.Start();
  REQUIRE(world.Await("a@499"));
  CHECK(world.informer->Stats().listing);
}

TEST_CASE("wire: a list after an outage tells what vanished and what was made anew") {
  World world;
  world.OnWatch(StreamsAndEnds(Initial("7", {Json("a", "1", "5"), Json("b", "2", "6")})));
  world.OnWatch(Answers(410, StatusJson(410, "Expired")));
  // a was deleted and made again; b is gone.
  world.OnWatch(Streams(Initial("30", {Json("a", "100", "29")})));
  world.Start();
  REQUIRE(world.Await("a@29"));
  REQUIRE(Eventually([&] { return world.Told().size() == 5; }));
  auto told = world.Told();
  CHECK(Strings(told.begin() + 2, told.end()) == Strings{"-a", "+a", "-b"});
}

TEST_CASE("wire: stopping cuts a silent watch at once, a hundred times without a leak") {
  World world;
  std::atomic<int> open = 0;
  for (int i = 0; i < 100; ++i)
    world.OnWatch([&](ByteConnection& to, const ByteRequest&) {
      ++open;
      to.BeginStream();
      to.SendChunk(Initial("7", {Json("a", "1", "5")}));
      to.FallSilent();
      --open;
    });
  for (int i = 0; i < 100; ++i) {
    world.Start();
    REQUIRE(Eventually([&] { return open == 1; }));
    const auto begin = std::chrono::steady_clock::now();
    world.thread = {};
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds{2});
    REQUIRE(Eventually([&] { return open == 0; }));  // The socket is gone.
  }
}
