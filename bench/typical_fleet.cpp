#include "typical_fleet.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <string_view>

namespace bench {
namespace {

constexpr char kPlugin[] =
    R"({"apiVersion":"molecule.ai/v1alpha1","kind":"DeclaredPlugin","metadata":{"annotations":{)"
    R"("kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"molecule.ai/v1alpha1\",)"
    R"(\"kind\":\"DeclaredPlugin\",\"metadata\":{\"annotations\":{},\"labels\":{\"team\":\"$team$\"},)"
    R"(\"name\":\"$name$\",\"namespace\":\"$ns$\"},\"spec\":{\"pluginName\":\"$plugin$\",)"
    R"(\"source\":\"$source$\",\"workspaceRef\":{\"name\":\"$workspace$\"}}}\n"},)"
    R"("creationTimestamp":"$created$","generation":2,"labels":{"team":"$team$"},"managedFields":[)"
    R"({"apiVersion":"molecule.ai/v1alpha1","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{)"
    R"("f:annotations":{".":{},"f:kubectl.kubernetes.io/last-applied-configuration":{}},"f:labels":{)"
    R"(".":{},"f:team":{}}},"f:spec":{".":{},"f:deletionPolicy":{},"f:pluginName":{},"f:source":{},)"
    R"("f:workspaceRef":{".":{},"f:name":{}}}},"manager":"kubectl-client-side-apply",)"
    R"("operation":"Update","time":"$created$"},{"apiVersion":"molecule.ai/v1alpha1",)"
    R"("fieldsType":"FieldsV1","fieldsV1":{"f:status":{".":{},"f:conditions":{".":{},)"
    R"("k:{\"type\":\"Accepted\"}":{".":{},"f:lastTransitionTime":{},"f:observedGeneration":{},)"
    R"("f:reason":{},"f:status":{},"f:type":{}},"k:{\"type\":\"Ready\"}":{".":{},)"
    R"("f:lastTransitionTime":{},"f:message":{},"f:observedGeneration":{},"f:reason":{},)"
    R"("f:status":{},"f:type":{}}},"f:observedGeneration":{},"f:resolved":{".":{},"f:commit":{},)"
    R"("f:digest":{},"f:ref":{}}}},)"
    R"("manager":"workspace-operator","operation":"Update","subresource":"status",)"
    R"("time":"$changed$"}],"name":"$name$","namespace":"$ns$","resourceVersion":"$version$",)"
    R"("uid":"$uid$"},"spec":{"deletionPolicy":"Remove","pluginName":"$plugin$",)"
    R"("source":"$source$","suspend":false,"update":{"intervalSeconds":3600,"policy":"Track"},)"
    R"("workspaceRef":{"name":"$workspace$"}},"status":{"conditions":[)"
    R"({"lastTransitionTime":"$changed$","message":"1 of 1 matched workspaces ready, 0 pending, )"
    R"(0 failed, 0 blocked; 50 examined","observedGeneration":2,"reason":"Ready","status":"True",)"
    R"("type":"Ready"},{"lastTransitionTime":"$changed$","message":"","observedGeneration":2,)"
    R"("reason":"Idle","status":"False","type":"Reconciling"},{"lastTransitionTime":"$created$",)"
    R"("message":"","observedGeneration":2,"reason":"Idle","status":"False","type":"Stalled"},)"
    R"({"lastTransitionTime":"$created$","message":"","observedGeneration":2,"reason":"Accepted",)"
    R"("status":"True","type":"Accepted"},{"lastTransitionTime":"$changed$","message":"",)"
    R"("observedGeneration":2,"reason":"SourceResolved","status":"True","type":"SourceResolved"},)"
    R"({"lastTransitionTime":"$created$","message":"","observedGeneration":2,"reason":"NoConflict",)"
    R"("status":"False","type":"Conflict"}],"observedGeneration":2,"resolved":{"commit":"$commit$",)"
    R"("digest":"$digest$","ref":"$ref$","refKind":"Tag","resolvedTime":"$changed$",)"
    R"("sizeBytes":$size$},"workspaces":{"blocked":0,"failed":0,"matched":1,"pending":0,"ready":1}}})";

constexpr char kRow[] =
    R"({"deletionPolicy":"Remove","digest":"$digest$","installedTime":"$changed$","loaded":true,)"
    R"("name":"$plugin$","origin":"Delivered","owner":{"kind":"DeclaredPlugin","name":"$name$",)"
    R"("uid":"$uid$"},"reason":"Loaded","revision":"$commit$","source":"$source$"})";

constexpr char kWorkspace[] =
    R"({"apiVersion":"molecule.ai/v1alpha1","kind":"Workspace","metadata":{"annotations":{)"
    R"("kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"molecule.ai/v1alpha1\",)"
    R"(\"kind\":\"Workspace\",\"metadata\":{\"annotations\":{},\"labels\":{\"team\":\"$team$\"},)"
    R"(\"name\":\"$name$\",\"namespace\":\"$ns$\"},\"spec\":{\"box\":{\"pod\":{\"templateRef\":{)"
    R"(\"name\":\"standard\"}},\"type\":\"Pod\"},\"model\":\"claude-opus\",)"
    R"(\"runtime\":\"claude-code\"}}\n"},"creationTimestamp":"$created$","finalizers":[)"
    R"("molecule.ai/box-cleanup"],"generation":1,"labels":{"team":"$team$"},"managedFields":[)"
    R"({"apiVersion":"molecule.ai/v1alpha1","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{)"
    R"("f:annotations":{".":{},"f:kubectl.kubernetes.io/last-applied-configuration":{}},"f:labels":{)"
    R"(".":{},"f:team":{}}},"f:spec":{".":{},"f:box":{".":{},"f:pod":{".":{},"f:templateRef":{)"
    R"(".":{},"f:name":{}}},"f:type":{}},"f:model":{},"f:runtime":{}}},)"
    R"("manager":"kubectl-client-side-apply","operation":"Update","time":"$created$"},)"
    R"({"apiVersion":"molecule.ai/v1alpha1","fieldsType":"FieldsV1","fieldsV1":{"f:status":{".":{},)"
    R"("f:agent":{},"f:box":{},"f:conditions":{".":{},"k:{\"type\":\"Ready\"}":{".":{},)"
    R"("f:lastTransitionTime":{},"f:message":{},"f:observedGeneration":{},"f:reason":{},)"
    R"("f:status":{},"f:type":{}}},"f:observedGeneration":{},"f:plugins":{},"f:state":{}}},)"
    R"("manager":"workspace-operator","operation":"Update","subresource":"status",)"
    R"("time":"$changed$"}],"name":"$name$","namespace":"$ns$","resourceVersion":"$version$",)"
    R"("uid":"$uid$"},"spec":{"box":{"pod":{"container":"main","templateRef":{"name":"standard"}},)"
    R"("type":"Pod"},"heartbeat":{"periodSeconds":30,"timeoutSeconds":180},"kind":"Agent",)"
    R"("model":"claude-opus","provisioning":{"deadlineSeconds":900},"restart":{)"
    R"("deadlineSeconds":3600,"policy":"Immediate","recreate":"Never"},"runtime":"claude-code",)"
    R"("suspend":false},"status":{"agent":{"activeTasks":1,"bootID":"$boot$",)"
    R"("currentTask":"issue $task$: read the report","errorRate":"0.01","loadedTools":23,)"
    R"("lastTransitionTime":"$changed$","managementPresent":true,"modelPresent":true,)"
    R"("monthlySpend":"$spend$","version":"0.1.0"},"box":{"identity":"$box$",)"
    R"("observedTime":"$created$","state":"Running"},"conditions":[)"
    R"({"lastTransitionTime":"$changed$","message":"the agent reports","observedGeneration":1,)"
    R"("reason":"Ready","status":"True","type":"Ready"},{"lastTransitionTime":"$changed$",)"
    R"("message":"","observedGeneration":1,"reason":"Idle","status":"False","type":"Reconciling"},)"
    R"({"lastTransitionTime":"$created$","message":"","observedGeneration":1,"reason":"Idle",)"
    R"("status":"False","type":"Stalled"},{"lastTransitionTime":"$created$","message":"",)"
    R"("observedGeneration":1,"reason":"BoxRunning","status":"True","type":"BoxRunning"},)"
    R"({"lastTransitionTime":"$changed$","message":"","observedGeneration":1,)"
    R"("reason":"HeartbeatFresh","status":"True","type":"AgentReporting"},)"
    R"({"lastTransitionTime":"$changed$","message":"","observedGeneration":1,"reason":"Converged",)"
    R"("status":"True","type":"PluginsConverged"},{"lastTransitionTime":"$created$","message":"",)"
    R"("observedGeneration":1,"reason":"NoConflict","status":"False","type":"Conflict"}],)"
    R"("observedGeneration":1,"plugins":[$rows$],"state":"Online"}})";

/// splitmix64: spreads consecutive numbers.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// Whole seconds after a fixed day, as Kubernetes writes times.
std::string Time(uint64_t seconds) {
  using namespace std::chrono;
  const auto at = sys_days{2026y / November / 1} + std::chrono::seconds{seconds};
  const auto day = floor<days>(at);
  const year_month_day date{day};
  const hh_mm_ss clock{at - day};
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count());
}

std::string WorkspaceName(size_t workspace) { return fmt::format("ws-{:05}", workspace); }

}  // namespace

std::string HexOf(uint64_t seed, size_t digits) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex(digits, '0');
  uint64_t bits = 0;
  for (size_t i = 0; i < digits; ++i, bits >>= 4) {
    if (i % 16 == 0) bits = Mix(seed * 16 + i / 16);
    hex[i] = kDigits[bits & 15];
  }
  return hex;
}

std::string UidOf(uint64_t seed) {
  const std::string hex = HexOf(seed, 32);
  const std::string_view h = hex;
  return fmt::format("{}-{}-4{}-8{}-{}", h.substr(0, 8), h.substr(8, 4), h.substr(13, 3),
                     h.substr(17, 3), h.substr(20));
}

Template::Template(const std::string& text) {
  size_t at = 0;
  while (true) {
    const size_t begin = text.find('$', at);
    if (begin == std::string::npos) break;
    const size_t end = text.find('$', begin + 1);
    pieces_.emplace_back(text.substr(at, begin - at), text.substr(begin + 1, end - begin - 1));
    at = end + 1;
  }
  pieces_.emplace_back(text.substr(at), "");
}

std::string Template::Fill(const Values& values) const {
  std::string out;
  out.reserve(4096);
  for (const auto& [literal, place] : pieces_) {
    out += literal;
    const auto value = std::find_if(values.begin(), values.end(),
                                    [&](const auto& one) { return one.first == place; });
    if (value != values.end()) out += value->second;
  }
  return out;
}

TypicalFleet::TypicalFleet() : workspace_(kWorkspace), row_(kRow), plugin_(kPlugin) {}

Template::Values TypicalFleet::PluginValues(size_t number) const {
  const size_t workspace = number / kPluginsEach;
  const uint64_t plugin =
      (Mix(workspace) + (number % kPluginsEach) * 401) % 2000;  // Five different ones.
  const uint64_t release = Mix(number ^ 0x5eed) % 3;
  const uint64_t source = plugin * 3 + release;
  const std::string name = fmt::format("plugin-{}", plugin);
  const std::string ref = fmt::format("tag:v1.{}.0", release);
  return {{"name", fmt::format("{}-{}", WorkspaceName(workspace), name)},
          {"ns", fmt::format("team-{}", workspace / 50)},
          {"team", fmt::format("t{}", workspace / 50 % 40)},
          {"workspace", WorkspaceName(workspace)},
          {"plugin", name},
          {"source", fmt::format("gitea://plugins/{}#{}", name, ref)},
          {"ref", ref},
          {"commit", HexOf(source, 40)},
          {"digest", "sha256:" + HexOf(source + 1'000'000, 64)},
          {"size", std::to_string(20'000 + Mix(source) % 400'000)},
          {"uid", UidOf(number + 50'000'000)},
          {"version", std::to_string(1'000'000 + number)},
          {"created", Time(workspace * 7 % 1'000'000)},
          {"changed", Time(workspace * 7 % 1'000'000 + 60 + Mix(number) % 600'000)}};
}

std::string TypicalFleet::DeclaredPlugin(size_t number) const {
  return plugin_.Fill(PluginValues(number));
}

std::string TypicalFleet::Workspace(size_t number) const {
  std::string rows;
  for (size_t i = 0; i < kPluginsEach; ++i) {
    rows += i == 0 ? "" : ",";
    rows += row_.Fill(PluginValues(number * kPluginsEach + i));
  }
  const uint64_t seed = Mix(number);
  return workspace_.Fill({{"name", WorkspaceName(number)},
                          {"ns", fmt::format("team-{}", number / 50)},
                          {"team", fmt::format("t{}", number / 50 % 40)},
                          {"uid", UidOf(number + 90'000'000)},
                          {"boot", UidOf(number + 130'000'000)},
                          {"box", UidOf(number + 170'000'000)},
                          {"task", std::to_string(seed % 10'000)},
                          {"spend", fmt::format("{}.{:02}", seed % 200, seed / 200 % 100)},
                          {"version", std::to_string(30'000'000 + number)},
                          {"created", Time(number * 7 % 1'000'000)},
                          {"changed", Time(number * 7 % 1'000'000 + 60 + seed % 600'000)},
                          {"rows", rows}});
}

std::string TypicalFleet::WatchLine(const std::string& object, const char* type) {
  return fmt::format(R"({{"type":"{}","object":{}}})", type, object);
}

}  // namespace bench
