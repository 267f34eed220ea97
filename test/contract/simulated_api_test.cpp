#include <map>
#include <random>

#include "contract/served_api.hpp"
#include "reconcile/simulation/api_store.hpp"
#include "reconcile/simulation/watch_source.hpp"

/// The simulation's API server against a served one: what it gets wrong, the simulation proves
/// wrongly.
using namespace contract;
using simulation::ApiStore;

namespace {

constexpr char kName[] = "declaredplugins";

/// The two servers, told the same; each answers in words that do not depend on which it is.
class Both {
 public:
  Both() : store_(clock_) {}

  void Create(const std::string& name, bool held) {
    Json object = api.PluginObject(name);
    if (held) object["metadata"]["finalizers"] = {"molecule.ai/test"};
    Compare("create " + name, api->Create(api.Plugins(), codec::Dump(object)),
            store_.Create(api.Plugins(), object), name);
    // A real API server stores the default of a status with the first write after the creation.
    Status(name, 0, {});
  }
  void Merge(const std::string& name, const Json& patch, const std::string& lock = "") {
    Compare("patch " + name + " " + codec::Dump(patch) + lock,
            api.Merge(api.Plugin(name), Locked(patch, lock, served_[name])),
            store_.Patch(api.Plugin(name), Locked(patch, lock, faked_[name])), name);
  }
  void Status(const std::string& name, int generation, const std::string& lock) {
    const Json patch = {{"spec", {{"source", "nobody looks at it"}}},
                        {"status", {{"observedGeneration", generation}}}};
    kube::ObjectRef door = api.Plugin(name);
    door.subresource = "status";
    Compare("status " + name + " " + std::to_string(generation) + lock,
            api->PatchStatus(api.Plugin(name), {kube::PatchType::kMerge,
                                                codec::Dump(Locked(patch, lock, served_[name]))}),
            store_.Patch(door, Locked(patch, lock, faked_[name])), name);
  }
  void Delete(const std::string& name) {
    const auto text = [](bool ok, base::Code code) {
      return ok ? std::string("ok") : std::string(base::CodeName(code));
    };
    const auto served = api->Delete(api.Plugin(name));
    const auto faked = store_.Delete(api.Plugin(name));
    REQUIRE_MESSAGE(text(served.has_value(), served ? base::Code() : served.error().code) ==
                        text(faked.has_value(), faked ? base::Code() : faked.error().code),
                    ("delete " + name));
    Read(name);
  }
  void Read(const std::string& name) {
    Compare("get " + name, api->Get(api.Plugin(name)), store_.Get(api.Plugin(name)), name);
  }
  /// "+a ~a -a" of all changes so far.
  std::string Log() {
    static constexpr const char* kSigns[] = {"+", "~", "-"};
    std::string text;
    for (const auto& change : store_.Log(kName))
      text += (text.empty() ? "" : " ") + std::string(kSigns[static_cast<int>(change.type)]) +
              change.key.name;
    return text;
  }
  ApiStore& Store() { return store_; }

  const ServedApi api;

 private:
  /// `lock`: " uid", " version" (the right ones), " old version".
  static Json Locked(Json patch, const std::string& lock, const std::vector<Json>& versions) {
    if (lock.empty() || versions.empty()) return patch;
    const Json& meta = versions.back()["metadata"];
    if (lock == " uid") patch["metadata"]["uid"] = meta["uid"];
    if (lock == " version") patch["metadata"]["resourceVersion"] = meta["resourceVersion"];
    if (lock == " old version")
      patch["metadata"]["resourceVersion"] = versions.front()["metadata"]["resourceVersion"];
    return patch;
  }
  static std::string Words(const Json& object, const std::vector<Json>& before) {
    const Json& meta = object["metadata"];
    const bool known = !before.empty();
    return fmt::format(
        "{} generation {} finalizers {} {} source {} observed {} {} {}",
        codec::GetString(meta, "name"), codec::GetInt(meta, "generation"),
        codec::GetMember(meta, "finalizers").size(),
        meta.contains("deletionTimestamp") ? "leaving" : "staying",
        codec::GetString(object["spec"], "source"),
        std::max<int64_t>(0,
                          codec::GetInt(codec::GetMember(object, "status"), "observedGeneration")),
        known && before.back()["metadata"]["uid"] == meta["uid"] ? "the same one" : "another one",
        !known ? "new"
        // A real API server answers with the version before its end.
        : meta.contains("deletionTimestamp") && codec::GetMember(meta, "finalizers").empty()
            ? "gone"
        : before.back()["metadata"]["resourceVersion"] == meta["resourceVersion"] ? "as it was"
        : std::stoll(VersionOf(before.back())) < std::stoll(VersionOf(object))    ? "newer"
                                                                                  : "older");
  }
  void Compare(const std::string& what, const base::Result<std::string>& served,
               const base::Result<Json>& faked, const std::string& name) {
    const auto words = [](const auto& answer, const Json& object, std::vector<Json>& before) {
      if (!answer) return std::string(base::CodeName(answer.error().code));
      const std::string text = Words(object, before);
      before.push_back(object);
      return text;
    };
    const Json of_served = served ? Value(codec::ParseJson(*served)) : Json();
    const std::string a = words(served, of_served, served_[name]);
    const std::string b = words(faked, faked ? *faked : Json(), faked_[name]);
    if (a != b) MESSAGE(what << ": " << MessageOf(served));
    REQUIRE_MESSAGE(a == b, what);
  }

  support::FakeClock clock_;
  ApiStore store_;
  std::map<std::string, std::vector<Json>> served_, faked_;  ///< By name: all that was answered.
};

}  // namespace

TEST_CASE("api contract: the simulated API answers random calls as a served one does") {
  for (unsigned seed = 1; seed <= 3; ++seed) {
    CAPTURE(seed);
    Both both;
    WatchLog watch(both.api.Client(), both.api.Plugins(),
                   {.resource_version = both.api.ListVersion()});
    std::mt19937 random(seed);
    // Another uid is left out: a real API server ignores it in a patch of a status and calls it
    // invalid elsewhere; the embedded one and the simulation answer with a conflict.
    const char* locks[] = {"", "", " uid", " version", " old version"};
    for (int step = 0; step < 120; ++step) {
      const std::string name(1, static_cast<char>('a' + random() % 3));
      const std::string lock = locks[random() % 5];
      switch (random() % 8) {
        case 0:
        case 1:
          both.Create(name, random() % 2 == 0);
          break;
        case 2:
          both.Merge(name, {{"spec", {{"source", ServedApi::Source(random() % 2 ? "x" : "y")}}}},
                     lock);
          break;
        case 3:  // A status by the wrong door, beside what changes.
          both.Merge(name, {{"metadata", {{"labels", {{"tag", random() % 2 ? "x" : "y"}}}}},
                            {"status", {{"observedGeneration", 99}}}});
          break;
        case 4:
        case 5:
          both.Status(name, static_cast<int>(random() % 3), lock);
          break;
        case 6:
          both.Delete(name);
          break;
        case 7:
          both.Merge(name, {{"metadata",
                             {{"finalizers", random() % 2 ? Json() : Json({"molecule.ai/x"})}}}});
          break;
      }
      both.Read(name);
    }
    const std::string log = both.Log();
    REQUIRE(watch.Await(static_cast<size_t>(std::count(log.begin(), log.end(), ' ') + 1)));
    std::string seen;
    for (char c : watch.Seen())  // Without the tags.
      seen += c;
    for (size_t at; (at = seen.find('@')) != std::string::npos;)
      seen.erase(at, std::min(seen.find(' ', at), seen.size()) - at);
    CHECK(seen == log);
  }
}

TEST_CASE("api contract: the simulated API streams its content and its marker as a served one") {
  Both both;
  both.Create("a", false);
  both.Create("b", true);
  WatchLog served(both.api.Client(), both.api.Plugins(), {.send_initial_events = true});
  REQUIRE(served.Await(3));
  simulation::WatchSource source(both.Store(), kName);
  std::stop_source stop;
  stop.request_stop();  // It ends where the live watch would begin.
  std::string faked;
  std::string version;
  const auto ended = source.Watch(
      {.resource_version = "", .send_initial_events = true},
      [&](runtime::WatchEventType type, std::string_view bytes) {
        const kube::WatchEvent event{type == runtime::WatchEventType::kAdded
                                         ? kube::EventType::kAdded
                                         : kube::EventType::kBookmark,
                                     bytes, bytes};
        const Json object = Value(codec::ParseJson(bytes));
        faked += faked.empty() ? "" : " ";
        if (event.type == kube::EventType::kAdded)
          faked += "+" + object["metadata"]["name"].get<std::string>() + "@" +
                   object["metadata"]["labels"]["tag"].get<std::string>();
        else
          faked += kube::EndsInitialEvents(event) ? "end" : "bookmark";
        version = VersionOf(object);
        return base::Status();
      },
      stop.get_token());
  CHECK(ended.error().code == base::Code::kCancelled);
  CHECK(faked == served.Seen());
  CHECK(std::stoull(version) == both.Store().Version());
  std::vector<std::string> listed;
  const auto as_of =
      source.List({},
                  [&](std::string_view bytes) {
                    listed.push_back(Value(codec::ParseJson(bytes))["metadata"]["name"]);
                    return base::Status();
                  },
                  {});
  CHECK(Value(as_of) == std::to_string(both.Store().Version()));
  CHECK(listed == std::vector<std::string>{"a", "b"});
}
