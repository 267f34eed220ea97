#pragma once

#include <doctest/doctest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "box/box.hpp"
#include "bundle/installed/installed_plugins.hpp"
#include "support/plugin_tar.hpp"

namespace contract {

/// One real box under test and how to change the world around it. A box type joins the suite by
/// making one of these.
struct BoxUnderTest {
  std::string type;
  std::unique_ptr<box::Box> box;
  bool reachable = true;  ///< False: the operator can only observe it (External).
  std::function<void()> start_agent, stop_agent;  ///< The runtime starts and stops.
  std::function<void()> make_unreachable;         ///< From then on the box cannot be reached.
  std::function<void(const std::string& path, const std::string& text)>
      write;  ///< A file in the box, relative to /configs.
  std::function<std::string(const std::string& path)> read;
  std::function<std::vector<std::string>()>
      restarts;  ///< Expected boot ids of the restarts asked for so far.
};

/// The world around a box that is a folder of this machine: its agent is who holds the lock.
inline void UseFolder(BoxUnderTest& box, const std::string& root) {
  auto lock = std::make_shared<std::optional<bundle::AgentLock>>();
  box.start_agent = [=] {
    auto taken = bundle::AgentLock::Acquire(root + "/configs");
    REQUIRE(taken);
    lock->emplace(*std::move(taken));
  };
  box.stop_agent = [=] { lock->reset(); };
  box.make_unreachable = [=] { std::filesystem::rename(root, root + ".away"); };
  box.write = [=](const std::string& path, const std::string& text) {
    support::WriteText(root + "/configs/" + path, text);
  };
  box.read = [=](const std::string& path) { return support::ReadText(root + "/configs/" + path); };
}

using MakeBoxUnderTest = std::function<BoxUnderTest(const support::TempFolder&)>;

namespace detail {

inline box::Delivery Pack(const support::TempFolder& temp, const std::string& name,
                          const std::string& version, const std::string& extra = "") {
  const auto packed = support::PackPlugin(support::SimplePlugin(name, version, extra),
                                          temp / (name + version + ".tar"));
  return {name, "rev-" + version, packed.digest, "git+https://h/" + name + "#tag:v" + version,
          packed.tar_path};
}

inline box::PluginProbe ProbeOne(box::Box& box, const std::string& name) {
  auto report = box.Probe({name}, {}, {});
  REQUIRE_MESSAGE(report, (report ? "" : report.error().message));
  return report->plugins.at(0);
}

inline void Install(box::Box& box, const box::Delivery& delivery, const std::string& boot) {
  auto delivered = box.Deliver({delivery}, {});
  REQUIRE_MESSAGE(delivered, (delivered ? "" : delivered.error().message));
  REQUIRE_MESSAGE(delivered->at(0).status,
                  (delivered->at(0).status ? "" : delivered->at(0).status.error().message));
  auto active = box.Activate({{delivery.name}, boot}, {});
  REQUIRE(active);
  REQUIRE_MESSAGE(active->at(0).status,
                  (active->at(0).status ? "" : active->at(0).status.error().message));
}

inline void CheckState(const MakeBoxUnderTest& make) {
  support::TempFolder temp;
  BoxUnderTest t = make(temp);
  if (!t.reachable) {
    const auto report = t.box->State({});
    CHECK(report.state == box::BoxState::kUnknown);
    CHECK(report.cause != "");
    return;
  }
  t.start_agent();
  const auto running = t.box->State({});
  CHECK(running.state == box::BoxState::kRunning);
  CHECK(running.identity != "");
  t.stop_agent();
  const auto stopped = t.box->State({});
  CHECK(stopped.state == box::BoxState::kStopped);
  CHECK(stopped.cause != "");
  CHECK(stopped.identity == running.identity);
  t.make_unreachable();
  const auto unknown = t.box->State({});
  CHECK(unknown.state == box::BoxState::kUnknown);
  CHECK(unknown.cause != "");
  CHECK(unknown.identity == "");
  const auto probe = t.box->Probe({"hello"}, {}, {});
  REQUIRE_FALSE(probe);
  CHECK((probe.error().code == base::Code::kUnavailable ||
         probe.error().code == base::Code::kTimeout));
}

inline void CheckDelivery(const MakeBoxUnderTest& make) {
  support::TempFolder temp;
  BoxUnderTest t = make(temp);
  const auto one = Pack(temp, "hello", "1");
  CHECK(ProbeOne(*t.box, "hello").presence == box::Presence::kAbsent);
  // One stream; a bad plugin in it does not stop the good one, and nothing becomes visible.
  auto bad = Pack(temp, "broken", "1");
  bad.digest = "sha256:" + std::string(64, '0');
  const auto results = t.box->Deliver({bad, one}, {});
  REQUIRE(results);
  REQUIRE(results->size() == 2);
  CHECK(results->at(0).status.error().reason == "DigestMismatch");
  CHECK(results->at(1).status);
  CHECK(ProbeOne(*t.box, "hello").presence == box::Presence::kAbsent);
  REQUIRE(t.box->Activate({{"hello"}, "boot-1"}, {}));
  const auto probe = ProbeOne(*t.box, "hello");
  CHECK(probe.presence == box::Presence::kPresent);
  CHECK(probe.has_receipt);
  CHECK(probe.digest == one.digest);
  CHECK(probe.receipt_digest == one.digest);
  CHECK(probe.revision == "rev-1");
  CHECK(probe.activated_boot_id == "boot-1");
  CHECK(t.read("plugins/hello/plugin.yaml").find("hello") != std::string::npos);
  // Repeating changes nothing: the debt's boot id stays the first one's.
  Install(*t.box, one, "boot-2");
  CHECK(ProbeOne(*t.box, "hello").activated_boot_id == "boot-1");
  const auto two = Pack(temp, "hello", "2");
  Install(*t.box, two, "boot-2");
  CHECK(ProbeOne(*t.box, "hello").digest == two.digest);
  CHECK(ProbeOne(*t.box, "hello").activated_boot_id == "boot-2");
}

inline void CheckProbe(const MakeBoxUnderTest& make) {
  support::TempFolder temp;
  BoxUnderTest t = make(temp);
  Install(*t.box, Pack(temp, "hello", "1"), "boot-1");
  Install(*t.box, Pack(temp, "quiet", "1", "reload: none\n"), "boot-1");
  t.write("plugins/theirs/plugin.yaml", "name: theirs\n");
  t.write("plugins/cut/plugin.yaml", "");
  const auto report = t.box->Probe({"theirs", "missing", "cut", "hello"}, {}, {});
  REQUIRE(report);
  REQUIRE(report->plugins.size() ==
          5);  // Those asked for, in that order, then what has our receipt.
  CHECK(report->plugins[0].name == "theirs");
  CHECK(report->plugins[0].presence == box::Presence::kPresent);
  CHECK_FALSE(report->plugins[0].has_receipt);
  CHECK(report->plugins[1].presence == box::Presence::kAbsent);
  CHECK(report->plugins[2].presence == box::Presence::kAbsent);
  CHECK(report->plugins[3].name == "hello");
  CHECK(report->plugins[4].name == "quiet");
  CHECK(report->plugins[4].reload_none);
  // A changed listed file is a difference; a file made at run time is none.
  t.write("plugins/hello/made-at-run-time", "x");
  CHECK(ProbeOne(*t.box, "hello").digest == report->plugins[3].digest);
  t.write("plugins/hello/bin/run.sh", "#!changed");
  const auto drifted = ProbeOne(*t.box, "hello");
  CHECK(drifted.presence == box::Presence::kPresent);
  CHECK(drifted.digest != drifted.receipt_digest);
}

/// A box that brought its plugins along without receipts (in its image, say).
inline void CheckRecording(const MakeBoxUnderTest& make) {
  support::TempFolder temp;
  BoxUnderTest t = make(temp);
  const auto tree = [](const std::string& name) {
    return support::Tree{{"plugin.yaml", "name: " + name + "\nversion: \"1\"\n"}};
  };
  for (const std::string name : {"same", "other", "unasked"})
    t.write("plugins/" + name + "/plugin.yaml", tree(name).at("plugin.yaml"));
  const auto packed = support::PackPlugin(tree("same"), temp / "same.tar");
  const box::Delivery same{"same", "rev-1", packed.digest, "git+https://h/same#tag:v1", ""};
  const auto report =
      t.box->Probe({"same", "other", "missing", "unasked"},
                   {same, Pack(temp, "other", "2"), Pack(temp, "missing", "1")}, {});
  REQUIRE_MESSAGE(report, (report ? "" : report.error().message));
  REQUIRE(report->plugins.size() == 4);
  CHECK(report->plugins[0].has_receipt);
  CHECK(report->plugins[0].receipt_digest == same.digest);
  CHECK(report->plugins[0].revision == same.revision);
  CHECK(report->plugins[0].activated_boot_id == "");  // It owes no restart.
  CHECK(report->plugins[1].presence == box::Presence::kPresent);
  CHECK_FALSE(report->plugins[1].has_receipt);
  CHECK(report->plugins[2].presence == box::Presence::kAbsent);
  CHECK(report->plugins[3].presence == box::Presence::kPresent);
  CHECK_FALSE(report->plugins[3].has_receipt);
  CHECK(ProbeOne(*t.box, "same").has_receipt);
}

inline void CheckRemoval(const MakeBoxUnderTest& make) {
  support::TempFolder temp;
  BoxUnderTest t = make(temp);
  Install(*t.box, Pack(temp, "hello", "1"), "boot-1");
  t.write("plugins/theirs/plugin.yaml", "name: theirs\n");
  for (int repeat = 0; repeat < 2; ++repeat) {
    const auto results = t.box->Remove({"theirs", "hello", "missing"}, "boot-1", {});
    REQUIRE(results);
    CHECK_FALSE(results->at(0).status);
    CHECK(results->at(1).status);
    CHECK(results->at(2).status);
  }
  CHECK(t.read("plugins/theirs/plugin.yaml") == "name: theirs\n");
  auto report = t.box->Probe({"hello"}, {}, {});
  REQUIRE(report);
  CHECK(report->plugins[0].presence == box::Presence::kAbsent);
  REQUIRE(report->removals.size() == 1);
  CHECK(report->removals[0].name == "hello");
  CHECK(report->removals[0].removed_boot_id == "boot-1");
  REQUIRE(t.box->ClearRemovals("boot-1", {}));
  CHECK(t.box->Probe({}, {}, {})->removals.size() == 1);
  REQUIRE(t.box->ClearRemovals("boot-2", {}));
  CHECK(t.box->Probe({}, {}, {})->removals.empty());
}

inline void CheckRest(const MakeBoxUnderTest& make) {
  support::TempFolder temp;
  BoxUnderTest t = make(temp);
  REQUIRE(t.box->Restart("boot-1", {}));
  CHECK(t.restarts() == std::vector<std::string>{"boot-1"});
  if (!t.reachable) return;
  REQUIRE(t.box->WriteToken("token-1", {}));
  REQUIRE(t.box->WriteToken("token-1", {}));
  CHECK(t.read(".molecule/token") == "token-1");
  for (int i = 0; i < 2; ++i) CHECK(t.box->WriteToken("", {}));
  CHECK(t.read(".molecule/token") == "");
  std::stop_source stop;
  stop.request_stop();
  CHECK(t.box->Probe({"hello"}, {}, stop.get_token()).error().code == base::Code::kCancelled);
  CHECK(t.box->Deliver({Pack(temp, "hello", "1")}, stop.get_token()).error().code ==
        base::Code::kCancelled);
  CHECK(t.box->Activate({{"hello"}, "b"}, stop.get_token()).error().code == base::Code::kCancelled);
  CHECK(t.box->Remove({"hello"}, "b", stop.get_token()).error().code == base::Code::kCancelled);
}

inline void CheckUnreachable(const MakeBoxUnderTest& make) {
  support::TempFolder temp;
  BoxUnderTest t = make(temp);
  const auto hint = [](const base::Error& error) {
    return error.code == base::Code::kInvalid &&
           error.message.find("/download") != std::string::npos;
  };
  CHECK(hint(t.box->Deliver({Pack(temp, "hello", "1")}, {}).error()));
  CHECK(hint(t.box->Activate({{"hello"}, "b"}, {}).error()));
  CHECK(hint(t.box->Remove({"hello"}, "b", {}).error()));
  CHECK(hint(t.box->WriteToken("t", {}).error()));
}

}  // namespace detail

/// What every box must do, whatever it is. Each box type's test calls this once.
inline void RunBoxContract(const MakeBoxUnderTest& make) {
  bool reachable = true;
  {
    support::TempFolder temp;
    const BoxUnderTest t = make(temp);
    CAPTURE(t.type);
    reachable = t.reachable;
  }
  detail::CheckState(make);
  detail::CheckRest(make);
  if (!reachable) return detail::CheckUnreachable(make);
  detail::CheckDelivery(make);
  detail::CheckProbe(make);
  detail::CheckRecording(make);
  detail::CheckRemoval(make);
}

}  // namespace contract
