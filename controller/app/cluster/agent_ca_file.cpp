#include "app/cluster/agent_ca_file.hpp"

#include <fmt/format.h>

#include "base/file.hpp"
#include "base/log.hpp"

namespace app {
namespace {

constexpr size_t kBytes = 1 << 20;

/// Empty: it holds certificates.
std::string FaultOf(const base::Result<std::string>& text) {
  if (!text) return text.error().message;
  return text->find("-----BEGIN CERTIFICATE-----") == std::string::npos
             ? "there is no certificate in it"
             : "";
}

}  // namespace

base::Result<std::string> AgentCaFile::Read(const std::string& path) {
  auto text = base::ReadFile(path, kBytes);
  const std::string fault = FaultOf(text);
  const std::lock_guard lock(mutex_);
  if (path_ != path) {
    path_ = path;
    good_.clear();
    said_.clear();
  }
  if (fault.empty()) {
    if (!said_.empty()) base::LogInfo("boxes.agentCAFile can be used again", {{"file", path}});
    said_.clear();
    good_ = *text;
    return text;
  }
  const bool kept = !good_.empty();
  if (said_ != fault)
    base::LogError(kept ? "boxes.agentCAFile cannot be used; what it held last stands"
                        : "boxes.agentCAFile cannot be used: no managed Pods are made",
                   {{"file", path}, {"error", fault}});
  said_ = fault;
  if (kept) return good_;
  return base::MakeError(
      base::Code::kInvalid,
      fmt::format(
          "boxes.agentCAFile `{}` of the operator's settings cannot be used ({}), so agents "
          "in Pods would not know whom to trust: put the authority's PEM there, or take "
          "that setting out",
          path, fault));
}

}  // namespace app
