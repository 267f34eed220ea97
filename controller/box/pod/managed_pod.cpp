#include "box/pod/managed_pod.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/program_files.hpp"
#include "base/sha256.hpp"

namespace box {
namespace {

using codec::Json;

constexpr size_t kNameBytes = 63;
constexpr int kUser = 65532;
constexpr char kAgentFolder[] = "/opt/molecule";
constexpr char kIdentityFolder[] = "/var/run/molecule";
constexpr char kAgentVolume[] = "molecule-agent";
constexpr char kIdentityVolume[] = "molecule-identity";
constexpr char kConfigs[] = "/configs";
constexpr char kConfigsVolume[] = "molecule-configs";
constexpr char kAgentInit[] = "molecule-agent";
constexpr char kUidVariable[] = "MOLECULE_POD_UID";

base::Error Invalid(std::string message, const char* reason) {
  return base::MakeError(base::Code::kInvalid, std::move(message), reason);
}

std::string Short(const std::string& name, const std::string& suffix) {
  if (name.size() + suffix.size() <= kNameBytes) return name + suffix;
  const std::string digest = base::Hex(base::Sha256Of(name)).substr(0, 8);
  std::string head = name.substr(0, kNameBytes - suffix.size() - digest.size() - 1);
  while (!head.empty() && (head.back() == '.' || head.back() == '-')) head.pop_back();
  return head + "-" + digest + suffix;
}

Json OwnerOf(const api::Workspace& workspace) {
  return Json::array({{{"apiVersion", api::kApiVersion},
                       {"kind", "Workspace"},
                       {"name", workspace.meta.name},
                       {"uid", workspace.meta.uid},
                       {"controller", true}}});
}

Json MetaOf(const api::Workspace& workspace, const std::string& name) {
  return {{"name", name},
          {"namespace", workspace.meta.ns},
          {"labels",
           {{"app.kubernetes.io/managed-by", "workspace-operator"},
            {kWorkspaceLabel, LabelOf(workspace.meta.name)}}},
          {"ownerReferences", OwnerOf(workspace)}};
}

/// Sets what is not said yet.
void Default(Json& object, const char* name, Json value) {
  if (!object.contains(name) || object[name].is_null()) object[name] = std::move(value);
}

/// What needs privilege escalation: the API refuses a container that asks for both.
bool Escalates(const Json& security) {
  if (codec::GetBool(security, "privileged")) return true;
  const Json& add = codec::GetMember(codec::GetMember(security, "capabilities"), "add");
  return add.is_array() && std::any_of(add.begin(), add.end(), [](const Json& capability) {
           return capability == "SYS_ADMIN" || capability == "CAP_SYS_ADMIN";
         });
}

void RestrictContainer(Json& container) {
  Default(container, "securityContext", Json::object());
  Json& security = container["securityContext"];
  if (!Escalates(security)) Default(security, "allowPrivilegeEscalation", false);
  Default(security, "capabilities", Json::object());
  Default(security["capabilities"], "drop", Json::array({"ALL"}));
}

/// Restricted wherever the template says nothing.
void RestrictPod(Json& spec) {
  Default(spec, "automountServiceAccountToken", false);
  Default(spec, "securityContext", Json::object());
  Json& security = spec["securityContext"];
  Default(security, "runAsNonRoot", true);
  if (security["runAsNonRoot"] == true) {
    Default(security, "runAsUser", kUser);
    Default(security, "runAsGroup", kUser);
    Default(security, "fsGroup", kUser);
  }
  Default(security, "seccompProfile", {{"type", "RuntimeDefault"}});
  for (const char* list : {"containers", "initContainers"})
    if (spec.contains(list))
      for (Json& container : spec[list]) RestrictContainer(container);
}

Json AgentInit(const ManagedPodSettings& settings) {
  Json init{
      {"name", kAgentInit},
      {"image", settings.agent_image},
      {"command", {"workspace-operator", "install-agent", "--to", kAgentFolder}},
      {"resources",
       {{"requests", {{"cpu", "10m"}, {"memory", "32Mi"}}}, {"limits", {{"memory", "128Mi"}}}}},
      {"volumeMounts", Json::array({{{"name", kAgentVolume}, {"mountPath", kAgentFolder}}})}};
  RestrictContainer(init);
  init["securityContext"]["readOnlyRootFilesystem"] = true;
  return init;
}

Json IdentityVolume(const ManagedPodSettings& settings) {
  Json sources = Json::array(
      {{{"serviceAccountToken",
         {{"path", "token"}, {"audience", kTokenAudience}, {"expirationSeconds", 3600}}}}});
  // Through an annotation of the Pod: it can be changed while the Pod runs, and no object of its
  // own is needed.
  if (!settings.agent_ca_pem.empty())
    sources.push_back(
        {{"downwardAPI",
          {{"items", Json::array({{{"path", "ca.crt"},
                                   {"fieldRef",
                                    {{"fieldPath", fmt::format("metadata.annotations['{}']",
                                                               kCaAnnotation)}}}}})}}}});
  return {{"name", kIdentityVolume}, {"projected", {{"sources", std::move(sources)}}}};
}

/// However it is written. What most images have as a link is one path to them.
std::string Normal(const std::string& path) {
  std::string out = std::filesystem::path("/" + path).lexically_normal().string();
  while (out.size() > 1 && out.back() == '/') out.pop_back();
  return out.starts_with("/run/") ? "/var" + out : out;
}

bool MountsConfigs(const Json& container) {
  const Json& mounts = codec::GetMember(container, "volumeMounts");
  return std::any_of(mounts.begin(), mounts.end(), [](const Json& mount) {
    return Normal(codec::GetString(mount, "mountPath")) == kConfigs;
  });
}

/// The agent's arguments; the runtime's own command follows.
Json AgentCommand(const api::Workspace& workspace, const ManagedPodSettings& settings,
                  const std::vector<std::string>& runtime) {
  const std::string identity = kIdentityFolder;
  std::vector<std::string> argv = ManagedHelperArgv();
  argv.insert(argv.end(), {"agent", "--root", "/", "--operator-url", settings.agent_url,
                           "--workspace", workspace.meta.uid, "--token-file", identity + "/token",
                           "--box-identity", fmt::format("pod:$({})", kUidVariable)});
  if (!settings.agent_ca_pem.empty()) argv.insert(argv.end(), {"--ca-file", identity + "/ca.crt"});
  if (!workspace.spec.runtime.empty())
    argv.insert(argv.end(), {"--runtime", workspace.spec.runtime});
  if (const auto file = settings.settings_file_by_runtime.find(workspace.spec.runtime);
      file != settings.settings_file_by_runtime.end())
    argv.insert(argv.end(), {"--settings-file", "/configs/" + file->second});
  argv.push_back("--");
  argv.insert(argv.end(), runtime.begin(), runtime.end());
  return argv;
}

std::vector<std::string> Strings(const Json& list) {
  std::vector<std::string> out;
  if (list.is_array())
    for (const Json& item : list)
      if (item.is_string()) out.push_back(item.get<std::string>());
  return out;
}

/// What the runtime is started with: the settings' command of that runtime, else the template's.
base::Result<std::vector<std::string>> RuntimeCommand(const api::Workspace& workspace,
                                                      const Json& container,
                                                      const ManagedPodSettings& settings) {
  std::vector<std::string> command = Strings(codec::GetMember(container, "command"));
  const std::vector<std::string> arguments = Strings(codec::GetMember(container, "args"));
  if (const auto known = settings.command_by_runtime.find(workspace.spec.runtime);
      command.empty() && known != settings.command_by_runtime.end())
    command = known->second;
  if (command.empty())
    return Invalid(
        fmt::format("the command that starts runtime `{}` is not known: set runtimes.{}.command in "
                    "the operator's settings, or use spec.box.pod.templateRef with a container "
                    "that has `command`",
                    workspace.spec.runtime,
                    workspace.spec.runtime.empty() ? "NAME" : workspace.spec.runtime),
        "RuntimeCommandUnknown");
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

/// The container that the agent runs in.
base::Result<size_t> FindContainer(const Json& spec, const std::string& name) {
  const Json& containers = codec::GetMember(spec, "containers");
  if (!containers.is_array() || containers.empty())
    return Invalid("the PodTemplate has no containers", "PodTemplateInvalid");
  for (size_t i = 0; i < containers.size(); ++i)
    if (name.empty() || codec::GetString(containers[i], "name") == name) return i;
  return Invalid(
      fmt::format("the PodTemplate has no container {}; correct spec.box.pod.container", name),
      "ContainerMissing");
}

bool HasNamed(const Json& spec, const char* list, const std::string& name) {
  const Json& items = codec::GetMember(spec, list);
  return items.is_array() && std::any_of(items.begin(), items.end(), [&](const Json& item) {
           return codec::GetString(item, "name") == name;
         });
}

/// What is put into the Pod has names that the template must leave free.
base::Status CheckNames(const Json& spec, const Json& container) {
  const auto clash = [](const char* what, const char* name) {
    return Invalid(fmt::format("the PodTemplate has a {} named {}, which the operator adds itself; "
                               "rename it",
                               what, name),
                   "PodTemplateInvalid");
  };
  for (const char* list : {"containers", "initContainers"})
    if (HasNamed(spec, list, kAgentInit)) return clash("container", kAgentInit);
  for (const char* name : {kAgentVolume, kIdentityVolume})
    if (HasNamed(spec, "volumes", name)) return clash("volume", name);
  if (!MountsConfigs(container) && HasNamed(spec, "volumes", kConfigsVolume))
    return clash("volume", kConfigsVolume);
  return {};
}

/// The same of paths in the agent's container. What lies over ours hides it; below, the container
/// cannot start, since ours is read-only.
base::Status CheckPaths(const Json& container, size_t index) {
  constexpr std::pair<const char*, const char*> kFields[] = {{"volumeMounts", "mountPath"},
                                                             {"volumeDevices", "devicePath"}};
  for (const auto& [list, field] : kFields) {
    const Json& items = codec::GetMember(container, list);
    for (size_t i = 0; items.is_array() && i < items.size(); ++i) {
      const std::string path = codec::GetString(items[i], field);
      for (const char* ours : {kAgentFolder, kIdentityFolder})
        if ((Normal(path) + "/").starts_with(std::string(ours) + "/"))
          return Invalid(
              fmt::format("template.spec.containers[{}].{}[{}].{} of the PodTemplate is {}, but "
                          "the operator mounts a volume of its own at {}; choose another path",
                          index, list, i, field, path, ours),
              "PodTemplateInvalid");
    }
  }
  return {};
}

void AddVolumes(Json& spec, Json& container, const api::Workspace& workspace,
                const ManagedPodSettings& settings) {
  Json& volumes = spec["volumes"];
  if (!volumes.is_array()) volumes = Json::array();
  Json& mounts = container["volumeMounts"];
  if (!mounts.is_array()) mounts = Json::array();
  volumes.push_back({{"name", kAgentVolume}, {"emptyDir", {{"sizeLimit", "256Mi"}}}});
  volumes.push_back(IdentityVolume(settings));
  mounts.push_back({{"name", kAgentVolume}, {"mountPath", kAgentFolder}, {"readOnly", true}});
  mounts.push_back({{"name", kIdentityVolume}, {"mountPath", kIdentityFolder}, {"readOnly", true}});
  if (MountsConfigs(container)) return;
  Json configs{{"name", kConfigsVolume}};
  if (workspace.spec.box.pod->storage)
    configs["persistentVolumeClaim"] = {{"claimName", ManagedPodName(workspace.meta.name)}};
  else
    configs["emptyDir"] = Json::object();
  volumes.push_back(std::move(configs));
  mounts.push_back({{"name", kConfigsVolume}, {"mountPath", kConfigs}});
}

Json ClaimOf(const api::Workspace& workspace) {
  const api::PodStorage& storage = *workspace.spec.box.pod->storage;
  Json claim{{"apiVersion", "v1"},
             {"kind", "PersistentVolumeClaim"},
             {"metadata", MetaOf(workspace, ManagedPodName(workspace.meta.name))},
             {"spec",
              {{"accessModes", Json::array({"ReadWriteOnce"})},
               {"resources", {{"requests", {{"storage", storage.size}}}}}}}};
  if (!storage.storage_class_name.empty())
    claim["spec"]["storageClassName"] = storage.storage_class_name;
  return claim;
}

std::string ShortDigest(const Json& value) {
  return base::Hex(base::Sha256Of(codec::Dump(value))).substr(0, 16);
}

/// What a user can change by the Workspace or its template. Not the agent's image or address: an
/// upgrade of the operator is no reason to make every box anew. `container` is empty for the first
/// one, by whatever name it was asked for.
std::string InputsOf(const api::Workspace& workspace, const Json& spec, const Json& metadata,
                     const std::string& container, const std::vector<std::string>& command) {
  const Json inputs{{"spec", spec},
                    {"metadata", metadata},
                    {"container", container},
                    {"runtime", workspace.spec.runtime},
                    {"storage", workspace.spec.box.pod->storage.has_value()},
                    {"command", command}};
  return ShortDigest(inputs);
}

/// What is a digest here is told as a change alone.
struct Part {
  const char* name;
  const char* digest_of;
};
constexpr Part kParts[] = {{"image", nullptr},
                           {"templateRef", nullptr},
                           {"container", nullptr},
                           {"runtime", nullptr},
                           {"/configs", nullptr},
                           {"template", "the PodTemplate"},
                           {"command", "the runtime's command"}};

constexpr Part kAgentParts[] = {{"boxes.agentImage", nullptr}, {"boxes.agentURL", nullptr}};

template <typename Parts>
std::string DifferenceIn(const Parts& parts, const std::string& made_from, const Json& wanted) {
  const auto before = codec::ParseJson(made_from, {.reject_duplicate_keys = false});
  if (!before || !before->is_object()) return "";
  std::string out;
  for (const Part& part : parts) {
    const std::string was = codec::GetString(*before, part.name);
    const std::string now = codec::GetString(wanted, part.name);
    if (was == now) continue;
    out += out.empty() ? "" : ", ";
    if (part.digest_of != nullptr)
      out += fmt::format("{} has changed", part.digest_of);
    else
      out += fmt::format("{} is {}, not {}", part.name, was.empty() ? "not set" : was,
                         now.empty() ? "not set" : now);
  }
  return out;
}

/// The same as InputsOf, in parts that people know.
Json MadeFrom(const api::Workspace& workspace, const Json& spec, const Json& metadata,
              const Json& container, const std::vector<std::string>& command) {
  const api::PodBox& box = *workspace.spec.box.pod;
  Json out{{"image", codec::GetString(container, "image")},
           {"container", codec::GetString(container, "name")},
           {"runtime", workspace.spec.runtime},
           {"command", ShortDigest(command)}};
  out["/configs"] = MountsConfigs(container) ? "the template's"
                    : box.storage            ? "a claim"
                                             : "an emptyDir";
  if (!box.template_ref) return out;
  out["templateRef"] = box.template_ref->name;
  out["template"] = ShortDigest({{"spec", spec}, {"metadata", metadata}});
  return out;
}

/// What a Pod is made from: the template's, or one container of the image.
struct Given {
  Json spec;
  Json metadata = Json::object();
};

base::Result<Given> GivenBy(const api::PodBox& box, const Json* pod_template) {
  Given out;
  if (pod_template == nullptr) {
    out.spec["containers"] = Json::array(
        {{{"name", box.container.empty() ? "agent" : box.container}, {"image", box.image}}});
    return out;
  }
  const Json& part = codec::GetMember(*pod_template, "template");
  out.spec = codec::GetMember(part, "spec");
  out.metadata = codec::GetMember(part, "metadata");
  if (!out.spec.is_object())
    return Invalid("the PodTemplate has no template.spec", "PodTemplateInvalid");
  return out;
}

/// Ours, and beside it what the template says.
Json PodMeta(const api::Workspace& workspace, const Json& metadata,
             const ManagedPodSettings& settings, const ManagedPod& made) {
  Json meta = MetaOf(workspace, ManagedPodName(workspace.meta.name));
  for (const char* kind : {"labels", "annotations"}) {
    const Json& given = codec::GetMember(metadata, kind);
    for (const auto& [key, value] : given.items())
      if (value.is_string() && !meta[kind].contains(key)) meta[kind][key] = value;
  }
  meta["annotations"][kPodInputsAnnotation] = made.inputs;
  meta["annotations"][kMadeFromAnnotation] = codec::Dump(made.made_from);
  if (!settings.agent_ca_pem.empty()) meta["annotations"][kCaAnnotation] = settings.agent_ca_pem;
  return meta;
}

base::Status CheckSettings(const ManagedPodSettings& settings) {
  if (settings.agent_image.empty())
    return Invalid(
        "boxes.agentImage is not set in the operator's settings: without it no agent "
        "can be put into a Pod",
        "AgentImageMissing");
  if (settings.agent_url.empty())
    return Invalid(
        "boxes.agentURL is not set in the operator's settings: agents would not know "
        "where to report",
        "AgentURLMissing");
  // A Pod made without it, or with another one, would never report.
  if (!settings.agent_ca_problem.empty())
    return Invalid(settings.agent_ca_problem, "AgentCAUnreadable");
  return {};
}

}  // namespace

std::string ManagedPodName(const std::string& workspace) { return Short(workspace, "-box"); }
std::string LabelOf(const std::string& workspace) { return Short(workspace, ""); }

std::vector<std::string> ManagedHelperArgv() { return base::RunProgramArgv(kAgentFolder); }

base::Result<ManagedPod> MakeManagedPod(const api::Workspace& workspace, const Json* pod_template,
                                        const ManagedPodSettings& settings) {
  if (auto ok = CheckSettings(settings); !ok) return ok.error();
  const api::PodBox& box = *workspace.spec.box.pod;
  auto given = GivenBy(box, pod_template);
  if (!given) return std::move(given).error();
  Json& spec = given->spec;
  const auto index = FindContainer(spec, box.container);
  if (!index) return index.error();
  if (auto free = CheckNames(spec, spec["containers"][*index]); !free) return free.error();
  if (auto free = CheckPaths(spec["containers"][*index], *index); !free) return free.error();
  const auto command = RuntimeCommand(workspace, spec["containers"][*index], settings);
  if (!command) return command.error();
  if (box.storage && MountsConfigs(spec["containers"][*index]))
    return Invalid(
        "the PodTemplate mounts a volume at /configs itself, so spec.box.pod.storage would not be "
        "used: take that mount out of the PodTemplate, or make the Workspace without storage",
        "StorageUnused");
  ManagedPod out;
  Json& container = spec["containers"][*index];
  out.inputs =
      InputsOf(workspace, spec, given->metadata, *index == 0 ? "" : box.container, *command);
  out.made_from = MadeFrom(workspace, spec, given->metadata, container, *command);
  out.made_from["boxes.agentImage"] = settings.agent_image;
  out.made_from["boxes.agentURL"] = settings.agent_url;

  container["command"] = AgentCommand(workspace, settings, *command);
  container.erase("args");
  Json& env = container["env"];
  if (!env.is_array()) env = Json::array();
  // Of two with one name the later counts: the agent would not know its own Pod.
  std::erase_if(env.get_ref<Json::array_t&>(), [](const Json& variable) {
    return codec::GetString(variable, "name") == kUidVariable;
  });
  env.insert(env.begin(), Json{{"name", kUidVariable},
                               {"valueFrom", {{"fieldRef", {{"fieldPath", "metadata.uid"}}}}}});
  AddVolumes(spec, container, workspace, settings);
  RestrictPod(spec);
  Json& inits = spec["initContainers"];
  if (!inits.is_array()) inits = Json::array();
  inits.insert(inits.begin(), AgentInit(settings));
  spec["restartPolicy"] = "Always";

  out.pod = {{"apiVersion", "v1"},
             {"kind", "Pod"},
             {"metadata", PodMeta(workspace, given->metadata, settings, out)},
             {"spec", spec}};
  if (box.storage) out.claim = ClaimOf(workspace);
  return out;
}

std::string DifferenceOf(const std::string& made_from, const Json& wanted) {
  return DifferenceIn(kParts, made_from, wanted);
}

std::string ContainerIn(const std::string& made_from) {
  const auto parts = codec::ParseJson(made_from, {.reject_duplicate_keys = false});
  return parts ? codec::GetString(*parts, "container") : "";
}

std::string AgentDifferenceOf(const std::string& made_from, const Json& wanted) {
  return DifferenceIn(kAgentParts, made_from, wanted);
}

}  // namespace box
