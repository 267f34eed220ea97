#include "core/declared_set.hpp"

#include <doctest/doctest.h>

#include "core/world.hpp"

using world::Digest;
using world::World;
using namespace std::chrono_literals;

TEST_CASE(
    "a DeclaredPlugin selects by name or by labels, in its own namespace, while it is not being "
    "deleted") {
  World w;
  w.ws.meta.labels = {{"tier", "gold"}};
  api::DeclaredPlugin d;
  d.meta.ns = "team";
  CHECK(!core::Selects(d, w.ws));
  d.spec.workspace_ref = api::LocalRef{"a"};
  CHECK(core::Selects(d, w.ws));
  d.spec.workspace_ref->name = "b";
  CHECK(!core::Selects(d, w.ws));
  d.spec.workspace_ref.reset();
  d.spec.workspace_selector = api::LabelSelector{{{"tier", "gold"}}, {}};
  CHECK(core::Selects(d, w.ws));
  d.meta.ns = "other";
  CHECK(!core::Selects(d, w.ws));
  d.meta.ns = "team";
  d.meta.deletion_time = w.now.wall;
  CHECK(!core::Selects(d, w.ws));
}

TEST_CASE("a source is looked at as often as those who declare it say, and no oftener") {
  World w;
  w.DeclareObject("p", 'a');
  w.declared[0].spec.update.interval_seconds = 86'400;
  w.Observe();
  REQUIRE(w.set.Find("p"));
  CHECK(w.set.Find("p")->interval == 24h);
  w.Declare("p", 'a');  // Inline it says nothing about that: an hour.
  w.Observe();
  CHECK(w.set.Find("p")->interval == 1h);
  w.declared[0].spec.update.interval_seconds = 60;
  w.Observe();
  CHECK(w.set.Find("p")->interval == 60s);
}

TEST_CASE(
    "equal declarations are one plugin; one character of difference is a Conflict that leaves the "
    "rest alone") {
  World w;
  w.Declare("p", 'a');
  w.DeclareObject("p", 'a');
  w.Declare("q", 'b');
  w.Observe();
  REQUIRE(w.set.plugins.size() == 2);
  CHECK(w.set.Find("p")->declarers.size() == 2);
  CHECK(w.set.Find("p")->owner.kind == "Workspace");
  CHECK(w.set.conflicts.empty());
  w.Settle(3);
  w.declared[0].spec.source += ".1";
  w.declared[0].spec.plugin_name = "p";
  w.Publish(w.declared[0].spec.source, 'c');
  w.Publish(World::Source("q"), 'd');
  w.Settle(3);
  CHECK(w.set.conflicts == std::vector<std::string>{"p"});
  CHECK(w.Condition("Conflict") == "True");
  CHECK(w.Condition("Ready") == "False");
  CHECK(w.Condition("Stalled") == "True");
  CHECK(w.Reason("p") == "Conflict");
  CHECK(w.box["p"].digest == Digest('a'));
  CHECK(w.box["q"].digest == Digest('d'));
  w.declared.clear();
  w.Settle(2);
  CHECK(w.Condition("Conflict") == "False");
  CHECK(w.Condition("Ready") == "True");
}

TEST_CASE(
    "a Platform declares its management plugin by itself; a rival is NotEntitled and disturbs "
    "nothing") {
  World w;
  w.MakePlatform();
  w.ManagementRuns();
  api::DeclaredPlugin& rival = w.DeclareObject("mgmt", 'e');
  rival.spec.source = "gitea://evil/mgmt#tag:v1";
  w.Publish("gitea://o/mgmt#tag:v1", 'f');
  w.Settle(2);
  REQUIRE(w.set.rejected.size() == 1);
  CHECK(w.set.rejected[0].reason == "NotEntitled");
  CHECK(w.set.Find("mgmt")->management);
  CHECK(w.set.Find("mgmt")->source == "gitea://o/mgmt#tag:v1");
  CHECK(w.Condition("Ready") == "True");
  CHECK(w.Condition("Conflict") == "False");
}

TEST_CASE(
    "a privileged plugin on an Agent workspace is NotEntitled and never delivered; withdrawn if it "
    "was ours") {
  World w;
  w.Declare("mgmt", 'f');
  w.Settle(3);
  CHECK(w.box.contains("mgmt"));
  w.policy.privileged = {{"mgmt", World::Source("mgmt"), {Digest('f')}, true, {}}};
  w.Settle(3);
  CHECK(w.Reason("mgmt") == "NotEntitled");
  CHECK(w.Condition("Stalled") == "True");
  CHECK(!w.box.contains("mgmt"));
  const int before = w.Count(core::StepKind::kDeliver);
  w.Settle(3);
  CHECK(w.Count(core::StepKind::kDeliver) == before);
}

TEST_CASE(
    "the bytes are checked again at delivery: an allowed source with unlisted bytes stays off the "
    "box") {
  World w;
  w.MakePlatform();
  w.Publish("gitea://o/mgmt#tag:v1", 'e');
  w.Settle(3);
  CHECK(w.Reason("mgmt") == "NotEntitled");
  CHECK(w.done.empty());
}

TEST_CASE("a declaration that cannot work says why, and nothing is done for it") {
  World w;
  w.ws.spec.plugins = {{"a", "nonsense"}, {"b", "gitea://o/b"}, {"c/d", "gitea://o/c#v1"}};
  w.Settle(2);
  CHECK(w.Reason("a") == "InvalidSource");
  CHECK(w.Reason("b") == "RefNotPinned");
  CHECK(w.Reason("c/d") == "InvalidName");
  CHECK(w.Row("c/d")->message.ends_with("set its name in spec.plugins"));
  CHECK(w.Condition("Stalled") == "True");
  CHECK(w.done.empty());
  // The remedy is where the name stands: a DeclaredPlugin has another place for it.
  w.DeclareObject("d", 'd');
  w.Declare("e", 'e');
  for (const char* name : {"d", "e"}) w.sources[World::Source(name)].manifest_name = "other";
  w.Settle(2);
  CHECK(w.Row("d")->message.ends_with("set spec.pluginName to the manifest's name"));
  CHECK(w.Row("e")->message.ends_with("set its name in spec.plugins to the manifest's name"));
  w.policy.allow_unpinned = true;
  w.Observe();
  CHECK(w.set.Find("b")->blocked_reason.empty());
}

TEST_CASE(
    "a DeclaredPlugin whose source gives no name, or one that no row may have, is its own trouble "
    "and nobody else's") {
  World w;
  w.Declare("p", 'a');
  for (const char* source : {"git+https://user:word@host/p.git#tag:v1", "local://a/b"})
    w.DeclareObject("bad", 'b').spec.source = source;
  w.DeclareObject("long", 'c').spec.source = World::Source(std::string(101, 'x'));
  w.Settle(3);
  CHECK(w.set.rejected.size() == 3);
  REQUIRE(w.ws.status.plugins.size() == 1);  // An empty or overlong name makes the status invalid.
  CHECK(w.ws.status.plugins[0].name == "p");
  CHECK(w.box.contains("p"));
  CHECK(w.Condition("Ready") == "True");

  core::DeclaredPluginObservation o;
  o.matched = {&w.ws};
  for (const api::DeclaredPlugin& declared : w.declared) {
    o.object = declared;
    const auto status = core::SummariseDeclaredPlugin(o, w.policy, w.now).status;
    const meta::Condition* ready = meta::FindCondition(status.conditions, "Ready");
    REQUIRE(ready != nullptr);
    CHECK(ready->reason == (declared.meta.name == "long" ? "InvalidName" : "InvalidSource"));
    CHECK(status.workspaces->blocked == 1);
  }
}

TEST_CASE(
    "dependencies that are missing or go in a circle block, by name; the order is dependencies "
    "first") {
  World w;
  w.DeclareObject("a", 'a').spec.depends_on = {"z"};
  w.DeclareObject("z", 'b');
  w.DeclareObject("m", 'c').spec.depends_on = {"nobody"};
  w.DeclareObject("x", 'd').spec.depends_on = {"y"};
  w.DeclareObject("y", 'e').spec.depends_on = {"x"};
  w.DeclareObject("w", 'f').spec.depends_on = {"y"};
  w.Settle(3);
  CHECK(w.Reason("m") == "MissingDependency");
  CHECK(w.Reason("x") == "DependencyCycle");
  CHECK(w.Reason("y") == "DependencyCycle");
  CHECK(w.Reason("w") == "DependencyNotReady");
  CHECK(w.box.contains("a"));
  CHECK(w.box.contains("z"));
  CHECK(w.box.size() == 2);
  std::map<std::string, size_t> at;
  for (size_t i = 0; i < w.set.plugins.size(); ++i) at[w.set.plugins[i].name] = i;
  CHECK(at["z"] < at["a"]);
}

TEST_CASE("more than 128 plugins: the installed ones stay, the others are TooManyPlugins") {
  World w;
  for (int i = 0; i < 128; ++i) w.Declare("p" + std::to_string(i), 'a');
  w.Settle(3);
  REQUIRE(w.ws.status.plugins.size() == 128);
  REQUIRE(w.Condition("Ready") == "True");
  w.DeclareObject("a-first-by-name", 'b');
  w.Settle(2);
  CHECK(w.ws.status.plugins.size() == 128);
  CHECK(w.Row("a-first-by-name") == nullptr);
  CHECK(w.Why("PluginsConverged") == "TooManyPlugins");
  CHECK(w.Condition("Stalled") == "True");
  CHECK(w.box.size() == 128);
  // Also when another plugin needs a person: that hid it once.
  w.sources[World::Source("p5")].manifest_name = "q";
  w.Settle(2);
  CHECK(w.Reason("p5") == "NameMismatch");
  CHECK(w.Why("PluginsConverged") == "TooManyPlugins");
  w.sources[World::Source("p5")].manifest_name = "p5";
  w.ws.spec.plugins.pop_back();
  w.Settle(4);
  CHECK(w.box.size() == 128);
  CHECK(w.box.contains("a-first-by-name"));
  CHECK(w.Condition("Ready") == "True");
}
