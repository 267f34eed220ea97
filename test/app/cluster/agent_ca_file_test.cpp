#include "app/cluster/agent_ca_file.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include "app/cluster/pod_parts.hpp"
#include "base/file.hpp"
#include "box/pod/pod_world.hpp"
#include "support/temp_folder.hpp"

namespace {

constexpr char kFirst[] = "-----BEGIN CERTIFICATE-----\none\n-----END CERTIFICATE-----\n";
constexpr char kSecond[] = "-----BEGIN CERTIFICATE-----\ntwo\n-----END CERTIFICATE-----\n";

/// The part of a running operator that makes Pods, on a small API server.
struct Operator {
  pods::World world;
  kube::ClientConfig config{.server = "https://127.0.0.1:1"};
  app::Reviews reviews{world.api, base::SystemClock::Get()};
  fleet::HeartbeatTable table{{}, [](const meta::ObjectKey&) {}};
  std::unique_ptr<app::PodParts> parts =
      *app::PodParts::Make({config, world.api, reviews, "", table, nullptr, nullptr, nullptr, {}});
  app::Settings settings;

  explicit Operator(const std::string& ca_file) {
    settings.agent_image = "operator:1";
    settings.agent_url = "https://gateway:443";
    settings.agent_ca_file = ca_file;
    settings.command_by_runtime = world.commands;
  }
  /// Why there is no Pod as it should be; empty: there is.
  std::string Pass() {
    const auto box = parts->Maker(settings, "our own")(world.workspace, "settings.json", nullptr);
    const auto provided = box->Provide({});
    if (!provided) return provided.error().reason;
    return box->State({}).reason;
  }
  std::string GivenCa() {
    return codec::GetString(world.Pod()["metadata"]["annotations"], box::kCaAnnotation);
  }
};

}  // namespace

TEST_CASE(
    "Pods are never given another authority than that of agentCAFile, also while it is away") {
  const support::TempFolder folder;
  const std::string path = folder / "ca.pem";
  Operator first(path);
  CHECK(first.Pass() == "AgentCAUnreadable");
  CHECK(first.world.api.created.empty());
  REQUIRE(base::WriteFileAtomic(path, kFirst, 0644));
  CHECK(first.Pass() != "AgentCAUnreadable");
  first.world.Run("w-box", "agent");
  CHECK(first.Pass() == "");
  CHECK(first.GivenCa() == kFirst);
  REQUIRE(::unlink(path.c_str()) == 0);
  CHECK(first.Pass() == "");
  CHECK(first.GivenCa() == kFirst);
  // Who starts now has never seen it: what runs is left as it is.
  Operator next(path);
  next.world.api.objects = first.world.api.objects;
  CHECK(next.Pass() == "AgentCAUnreadable");
  CHECK(next.GivenCa() == kFirst);
  CHECK(next.world.api.patched.empty());
}

TEST_CASE("an agentCAFile that goes away or is spoilt leaves agents the authority that it held") {
  const support::TempFolder folder;
  const std::string path = folder / "ca.pem";
  app::AgentCaFile file;
  CHECK(file.Read(path).error().code == base::Code::kInvalid);
  CHECK(file.Read(path).error().message.find(path) != std::string::npos);
  REQUIRE(base::WriteFileAtomic(path, kFirst, 0644));
  CHECK(file.Read(path).value_or("") == kFirst);
  REQUIRE(::unlink(path.c_str()) == 0);
  CHECK(file.Read(path).value_or("") == kFirst);
  REQUIRE(base::WriteFileAtomic(path, "", 0644));
  CHECK(file.Read(path).value_or("") == kFirst);
  REQUIRE(base::WriteFileAtomic(path, kSecond, 0644));
  CHECK(file.Read(path).value_or("") == kSecond);
  // Another one is not what was asked for.
  CHECK_FALSE(file.Read(path + ".other"));
}
