#include "runtime/informer/packed_store.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "runtime/informer/object_cache.hpp"
#include "runtime/informer/resource_version.hpp"
#include "runtime/informer/scripted_list_watch.hpp"

using namespace runtime_test;  // NOLINT: the vocabulary of these tests.
using runtime::PackedObject;
using runtime::PackedStore;
using runtime::PackedView;

TEST_CASE("identities of every shape come back as they went in") {
  PackedStore store;
  const std::string uids[] = {
      "",
      "u1",
      "6d1f0b2e-1234-4abc-9def-0123456789ab",
      "6D1F0B2E-1234-4ABC-9DEF-0123456789AB",  // Not canonical: kept as text.
      "6d1f0b2e-1234-4abc-9def-0123456789a-",
      std::string(300, 'u')};
  const std::string versions[] = {"",
                                  "0",
                                  "1",
                                  "01",
                                  "255",
                                  "256",
                                  "18446744073709551615",
                                  "18446744073709551616",
                                  "not a number",
                                  std::string(39, '9')};
  for (const auto& uid : uids) {
    for (const auto& version : versions) {
      const PackedObject object{{"ns", "name"}, uid, version, std::string("p\0q", 3), {}};
      store.Put(object);
      bool found = store.Find({"ns", "name"}, [&](const PackedView& view) {
        CHECK(view.ns == "ns");
        CHECK(view.name == "name");
        CHECK(view.uid == uid);
        CHECK(view.resource_version == version);
        CHECK(view.packed == std::string("p\0q", 3));
      });
      CHECK(found);
    }
  }
  CHECK(store.Size() == 1);
}

TEST_CASE("the same name in two namespaces and in none are three objects") {
  PackedStore store;
  for (const char* ns : {"", "a", "b"}) store.Put({{ns, "x"}, "u", "1", ns, {}});
  CHECK(store.Size() == 3);
  CHECK(store.Erase({"a", "x"}));
  CHECK_FALSE(store.Erase({"a", "x"}));
  CHECK(store.Contains({"", "x"}));
  CHECK(store.Contains({"b", "x"}));
}

TEST_CASE("the store and its index equal a plain map through random operations") {
  for (unsigned seed = 1; seed <= 10; ++seed) {
    PackedStore store;
    std::map<meta::ObjectKey, PackedObject> model;
    std::mt19937 random(seed);
    const unsigned names = seed % 2 ? 40 : 2000;
    for (int step = 0; step < 6000; ++step) {
      const unsigned n = random() % names;
      const meta::ObjectKey key{"ns" + std::to_string(n % 7), "name" + std::to_string(n)};
      // Phases of growth and of shrinking.
      if (random() % 10 < (step / 1500 % 2 ? 7u : 3u)) {
        CHECK(store.Erase(key) == (model.erase(key) == 1));
        continue;
      }
      PackedObject object{key,
                          "u" + std::to_string(random() % 9),
                          std::to_string(random() % 900),
                          std::string(random() % 60, 'x'),
                          {}};
      for (unsigned i = random() % 4; i > 0; --i) {
        object.index.push_back("i" + std::to_string(random() % 50));
      }
      store.Put(object);
      model[key] = object;
    }
    REQUIRE(store.Size() == model.size());
    size_t visited = 0;
    store.ForEach([&](const PackedView& view) {
      ++visited;
      const auto found = model.find(view.Key());
      REQUIRE(found != model.end());
      CHECK(found->second.packed == view.packed);
      CHECK(found->second.uid == view.uid);
      CHECK(found->second.resource_version == view.resource_version);
    });
    CHECK(visited == model.size());
    for (int i = 0; i < 50; ++i) {
      const std::string value = "i" + std::to_string(i);
      std::multiset<meta::ObjectKey> wanted, got;
      for (const auto& [key, object] : model) {
        for (const auto& have : object.index) {
          if (have == value) wanted.insert(key);
        }
      }
      store.FindByIndex(value, [&](const PackedView& view) { got.insert(view.Key()); });
      CHECK(got == wanted);
    }
  }
}

TEST_CASE("a mass delete gives the tables back") {
  PackedStore store;
  for (int i = 0; i < 20'000; ++i) {
    store.Put({{"ns", std::to_string(i)}, "u", "1", std::string(50, 'x'), {"w"}});
  }
  const size_t full = store.Bytes();
  for (int i = 0; i < 19'900; ++i) store.Erase({"ns", std::to_string(i)});
  CHECK(store.Size() == 100);
  CHECK(store.Bytes() < full / 20);
}

TEST_CASE("the cache materialises whole objects, finds them by index and hands out constants") {
  runtime::ObjectCache<Thing> cache(ThingFormat().cache);
  cache.Put(MakeThing("a", "u1", "5", "red", "fine"));
  cache.Put(MakeThing("b", "u2", "6", "red"));
  cache.Put(MakeThing("c", "u3", "7", "blue"));
  const auto a = cache.Get(Key("a"));
  REQUIRE(a);
  static_assert(std::is_const_v<std::remove_reference_t<decltype(*a)>>);
  CHECK(a->meta.uid == "u1");
  CHECK(a->meta.resource_version == "5");
  CHECK(a->spec == "red");
  CHECK(a->status == "fine");
  CHECK(cache.ByIndex("red").size() == 2);
  cache.Put(MakeThing("b", "u2", "8", "blue"));  // The index moves with the object.
  CHECK(cache.ByIndex("red").size() == 1);
  CHECK(cache.ByIndex("blue").size() == 2);
  CHECK(cache.ByIndex("green").empty());
  CHECK(cache.ResourceVersion(Key("b")) == "8");
  CHECK(cache.ResourceVersion(Key("z")).empty());
  CHECK(cache.Get(Key("z")) == nullptr);
  CHECK(cache.Keys().size() == 3);
}

TEST_CASE("readers run beside a writer") {
  runtime::ObjectCache<Thing> cache(ThingFormat().cache);
  cache.Put(MakeThing("stays", "u", "1", "red"));
  std::atomic<bool> done{false};
  std::vector<std::jthread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      while (!done) {
        int stays = 0;
        cache.ForEach([&](const Thing& thing) { stays += thing.meta.name == "stays"; });
        CHECK(stays >= 1);
        CHECK(cache.Get(Key("stays")) != nullptr);
        CHECK(cache.ByIndex("red").size() >= 1);
      }
    });
  }
  for (int i = 0; i < 1500; ++i) {
    cache.Put(MakeThing(std::to_string(i % 40), "u", std::to_string(i), i % 2 ? "red" : "blue"));
    if (i % 3 == 0) cache.Erase(Key(std::to_string((i * 7) % 40)));
  }
  done = true;
}

TEST_CASE("versions compare by length, then by digits, and not at all when malformed") {
  using runtime::AtLeast;
  using runtime::CompareVersions;
  const std::string big(39, '9');
  CHECK(CompareVersions("9", "10") == std::strong_ordering::less);
  CHECK(CompareVersions("10", "10") == std::strong_ordering::equal);
  CHECK(CompareVersions("1" + big, big) == std::strong_ordering::greater);
  CHECK(CompareVersions(big, big.substr(0, 38) + "8") == std::strong_ordering::greater);
  for (const char* bad : {"", "0", "01", "-1", "1a", " 1", "1.0"}) {
    CHECK_FALSE(CompareVersions(bad, "5"));
    CHECK_FALSE(AtLeast(bad, "5"));
    CHECK(AtLeast(bad, bad));
  }
}

TEST_CASE(
    "the head of an object is read whatever its other members are, and broken frames are refused") {
  const auto head = runtime::ScanHead(
      R"({"a":[1,{"b":"}]\""}],"metadata":{"labels":{"x":null},"name":"n\u0041\n","uid":7,)"
      R"("annotations":{"k8s.io/initial-events-end":"true"},"resourceVersion":"12"},"code":410})");
  REQUIRE(head);
  CHECK(head->key.name == "nA\n");
  CHECK(head->uid.empty());
  CHECK(head->resource_version == "12");
  CHECK(head->initial_events_end);
  CHECK(head->code == 410);
  const std::string good =
      R"({"metadata":{"name":"n","annotations":{"k":"v"}},"code":1,"details":{"retryAfterSeconds":3}})";
  REQUIRE(runtime::ScanHead(good));
  CHECK(runtime::ScanHead(good)->retry_after_seconds == 3);
  for (size_t cut = 0; cut < good.size(); ++cut)
    CHECK_FALSE(runtime::ScanHead(good.substr(0, cut)));
  for (const std::string& bad :
       {good + "x", std::string("[]"), std::string("{\"a\":]}"), std::string("{\"a\" 1}"),
        "{\"a\":" + std::string(200, '[') + std::string(200, ']') + "}",
        std::string("{\"a\":\"\x01\"}")}) {
    const auto refused = runtime::ScanHead(bad);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().reason == "BadFrame");
  }
}
