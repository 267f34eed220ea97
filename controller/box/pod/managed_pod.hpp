#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "api/workspace.hpp"
#include "base/result.hpp"
#include "codec/json.hpp"

namespace box {

inline constexpr char kWorkspaceLabel[] = "molecule.ai/workspace";        ///< On Pods; see LabelOf.
inline constexpr char kPodInputsAnnotation[] = "molecule.ai/pod-inputs";  ///< Digest of the inputs.
/// On Pods: the inputs that are wanted instead of theirs, and since when; where that waits.
inline constexpr char kOutdatedAnnotation[] = "molecule.ai/pod-outdated";
/// On Pods: what they were made from, for people.
inline constexpr char kMadeFromAnnotation[] = "molecule.ai/pod-made-from";
/// On Pods: whom the agent trusts, as a file in the container.
inline constexpr char kCaAnnotation[] = "molecule.ai/operator-ca";
inline constexpr char kTokenAudience[] = "workspace-operator.molecule.ai";

/// What the operator's settings say about the Pods that it makes.
struct ManagedPodSettings {
  std::string agent_image;   ///< Holds this program: the init container copies it from there.
  std::string agent_url;     ///< Where agents report, as seen from Pods.
  std::string agent_ca_pem;  ///< Whom they trust there; empty: the system's roots of their image.
  std::map<std::string, std::vector<std::string>> command_by_runtime;
  std::map<std::string, std::string> settings_file_by_runtime =
      {};                             ///< Relative to /configs; none: settings.json.
  std::string agent_ca_problem = {};  ///< Why agent_ca_pem is not known now; empty: it is.
};

/// The objects of a managed Pod box.
struct ManagedPod {
  codec::Json pod;
  std::optional<codec::Json> claim;  ///< PersistentVolumeClaim, with spec.box.pod.storage.
  std::string inputs;                ///< Of what users can change; also in the Pod's annotation.
  codec::Json made_from;             ///< The same by name, in kMadeFromAnnotation.
};

/// "<workspace>-box"; long names are cut and made distinct by a digest. At most 63 bytes.
std::string ManagedPodName(const std::string& workspace);
/// The value of kWorkspaceLabel: the workspace's name, cut likewise where it is over 63 bytes.
std::string LabelOf(const std::string& workspace);
/// How the program is started in a managed Pod's container.
std::vector<std::string> ManagedHelperArgv();

/// The Pod of a workspace with `image`, or with `templateRef` and that PodTemplate's document: it
/// meets the Restricted Pod Security Standard wherever the template does not say otherwise; an init
/// container copies this program into it; the container starts the agent, which starts the runtime.
/// Pure: equal inputs give equal objects. Errors: kInvalid with reason AgentImageMissing,
/// AgentURLMissing, AgentCAUnreadable, RuntimeCommandUnknown, ContainerMissing, PodTemplateInvalid
/// or StorageUnused, naming the remedy.
base::Result<ManagedPod> MakeManagedPod(const api::Workspace& workspace,
                                        const codec::Json* pod_template,
                                        const ManagedPodSettings& settings);

/// In words, how a Pod with this kMadeFromAnnotation differs from what is wanted: "image is a:1,
/// not a:2". Empty: it does not, or the annotation is missing or unreadable.
std::string DifferenceOf(const std::string& made_from, const codec::Json& wanted);
/// The same of what the operator's settings say about agents, which is no part of the inputs.
std::string AgentDifferenceOf(const std::string& made_from, const codec::Json& wanted);
/// The name of the agent's container in a kMadeFromAnnotation; empty: missing or unreadable.
std::string ContainerIn(const std::string& made_from);

}  // namespace box
