#include <fmt/format.h>

#include <cmath>
#include <iterator>

#include "protocol/answer.hpp"
#include "protocol/heartbeat.hpp"

namespace protocol {
namespace {

/// Writes the members of an object in the order of the calls; what is absent or empty is left out.
class Writer {
 public:
  Writer() : out_("{") {}
  void Text(std::string_view name, std::string_view value) {
    if (!value.empty()) Raw(name, Quoted(value));
  }
  void Raw(std::string_view name, std::string_view json) {
    if (out_.size() > 1) out_ += ',';
    fmt::format_to(std::back_inserter(out_), "\"{}\":{}", name, json);
  }
  template <typename T>
  void Optional(std::string_view name, const std::optional<T>& value) {
    if (value) Raw(name, fmt::format("{}", *value));
  }
  std::string Finish() { return std::move(out_) + "}"; }

 private:
  std::string out_;
};

std::string EncodeTools(const std::vector<std::string>& tools) {
  std::string out = "[";
  for (const auto& tool : tools) {
    if (out.size() > 1) out += ',';
    out += Quoted(tool);
  }
  return out + "]";
}

std::string EncodeInventory(const std::vector<InventoryItem>& items) {
  std::string out = "[";
  for (const auto& item : items) {
    if (out.size() > 1) out += ',';
    Writer writer;
    writer.Text("name", item.name);
    writer.Text("revision", item.revision);
    writer.Text("digest", item.digest);
    writer.Raw("loaded", item.loaded ? "true" : "false");
    writer.Optional("activatedThisBoot", item.activated_this_boot);
    out += writer.Finish();
  }
  return out + "]";
}

std::string EncodeBootInstall(const BootInstall& boot_install) {
  Writer writer;
  writer.Text("state", BootInstallStateName(boot_install.state));
  writer.Text("error", boot_install.error);
  return writer.Finish();
}

void WriteHeartbeat(Writer& writer, const Heartbeat& h) {
  writer.Text("workspace", h.workspace);
  writer.Text("bootID", h.boot_id);
  writer.Raw("sequence", fmt::format("{}", h.sequence));
  if (h.time) writer.Text("time", base::FormatTime(*h.time));
  writer.Text("agentVersion", h.agent_version);
  writer.Text("runtime", h.runtime);
  writer.Optional("activeTasks", h.active_tasks);
  writer.Text("currentTask", h.current_task);
  if (h.error_rate && std::isfinite(*h.error_rate)) writer.Optional("errorRate", h.error_rate);
  writer.Text("sampleError", h.sample_error);
  writer.Optional("uptimeSeconds", h.uptime_seconds);
  if (h.monthly_spend && std::isfinite(*h.monthly_spend)) {
    writer.Optional("monthlySpend", h.monthly_spend);
  }
  writer.Optional("managementPresent", h.management_present);
  writer.Optional("modelPresent", h.model_present);
  if (h.loaded_tools) writer.Raw("loadedTools", EncodeTools(*h.loaded_tools));
  if (h.boot_install) writer.Raw("bootInstall", EncodeBootInstall(*h.boot_install));
  if (h.inventory) writer.Raw("inventory", EncodeInventory(*h.inventory));
  writer.Text("inventoryDigest", h.inventory_digest);
  writer.Text("answerTag", h.answer_tag);
}

}  // namespace

const char* BootInstallStateName(BootInstallState state) {
  switch (state) {
    case BootInstallState::kRunning:
      return "Running";
    case BootInstallState::kDone:
      return "Done";
    case BootInstallState::kFailed:
      return "Failed";
  }
  return "Failed";
}

std::string EncodeHeartbeat(const Heartbeat& heartbeat) {
  Writer writer;
  WriteHeartbeat(writer, heartbeat);
  if (!heartbeat.box_identity.empty()) {
    Writer box;
    box.Text("identity", heartbeat.box_identity);
    writer.Raw("box", box.Finish());
  }
  return writer.Finish();
}

std::string EncodeRegister(const Register& body) {
  Writer writer;
  WriteHeartbeat(writer, body.heartbeat);
  Writer box;
  box.Text("identity", body.heartbeat.box_identity);
  box.Raw("pull", body.pull ? "true" : "false");
  writer.Raw("box", box.Finish());
  writer.Text("address", body.address);
  return writer.Finish();
}

}  // namespace protocol
