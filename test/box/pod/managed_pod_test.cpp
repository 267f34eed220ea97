#include "box/pod/managed_pod.hpp"

#include <doctest/doctest.h>

namespace {

using codec::Json;

api::Workspace Workspace(const std::string& name = "w1") {
  api::Workspace workspace;
  workspace.meta.ns = "team-a";
  workspace.meta.name = name;
  workspace.meta.uid = "0000-1111";
  workspace.spec.runtime = "sample";
  workspace.spec.box.type = api::BoxType::kPod;
  workspace.spec.box.pod = api::PodBox{};
  workspace.spec.box.pod->image = "agents/sample:1";
  return workspace;
}

box::ManagedPodSettings Settings() {
  return {"operator:1", "https://operator:8443", "", {{"sample", {"/bin/runtime", "--fast"}}}};
}

std::string ReasonOf(const api::Workspace& workspace, const box::ManagedPodSettings& settings,
                     const Json* pod_template = nullptr) {
  const auto made = box::MakeManagedPod(workspace, pod_template, settings);
  return made ? "" : made.error().reason;
}

Json Template(const char* spec) {
  return *codec::ParseJson(std::string(R"({"template":{"metadata":{"labels":{"team":"x",)"
                                       R"("molecule.ai/workspace":"stolen"}},"spec":)") +
                           spec + "}}");
}

const Json* FindNamed(const Json& list, const std::string& name) {
  for (const Json& item : list)
    if (item["name"] == name) return &item;
  return nullptr;
}

}  // namespace

TEST_CASE("a managed Pod is the Workspace's own, runs the agent around the runtime, and is small") {
  const auto made = box::MakeManagedPod(Workspace(), nullptr, Settings());
  REQUIRE(made);
  const Json& pod = made->pod;
  CHECK(pod["metadata"]["name"] == "w1-box");
  CHECK(pod["metadata"]["namespace"] == "team-a");
  CHECK(pod["metadata"]["ownerReferences"][0]["uid"] == "0000-1111");
  CHECK(pod["metadata"]["ownerReferences"][0]["controller"] == true);
  CHECK(pod["metadata"]["annotations"][box::kPodInputsAnnotation] == made->inputs);
  const Json& container = pod["spec"]["containers"][0];
  CHECK(container["image"] == "agents/sample:1");
  const auto& command = container["command"];
  CHECK(command.back() == "--fast");
  CHECK(command[command.size() - 2] == "/bin/runtime");
  CHECK(command[command.size() - 3] == "--");
  CHECK(codec::Dump(command).find("\"--operator-url\",\"https://operator:8443\"") !=
        std::string::npos);
  CHECK(codec::Dump(command).find("--settings-file") == std::string::npos);
  box::ManagedPodSettings other = Settings();
  other.settings_file_by_runtime["sample"] = ".sample.json";
  const auto with_file = box::MakeManagedPod(Workspace(), nullptr, other);
  CHECK(codec::Dump(with_file->pod["spec"]["containers"][0]["command"])
            .find("\"--settings-file\",\"/configs/.sample.json\"") != std::string::npos);
  CHECK(with_file->inputs == made->inputs);
  CHECK(pod["spec"]["initContainers"][0]["image"] == "operator:1");
  CHECK(FindNamed(pod["spec"]["volumes"], "molecule-configs")->contains("emptyDir"));
  CHECK_FALSE(made->claim);
  CHECK(codec::Dump(box::MakeManagedPod(Workspace(), nullptr, Settings())->pod) ==
        codec::Dump(pod));
}

TEST_CASE("a managed Pod meets the Restricted standard") {
  const Json spec = box::MakeManagedPod(Workspace(), nullptr, Settings())->pod["spec"];
  CHECK(spec["securityContext"]["runAsNonRoot"] == true);
  CHECK(spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault");
  CHECK(spec["automountServiceAccountToken"] == false);
  for (const char* list : {"containers", "initContainers"})
    for (const Json& container : spec[list]) {
      CHECK(container["securityContext"]["allowPrivilegeEscalation"] == false);
      CHECK(container["securityContext"]["capabilities"]["drop"] == Json::array({"ALL"}));
    }
}

TEST_CASE("storage asks for a claim that belongs to the Workspace") {
  auto workspace = Workspace();
  workspace.spec.box.pod->storage = api::PodStorage{"1Gi", "fast"};
  const auto made = box::MakeManagedPod(workspace, nullptr, Settings());
  REQUIRE(made);
  REQUIRE(made->claim);
  CHECK((*made->claim)["spec"]["resources"]["requests"]["storage"] == "1Gi");
  CHECK((*made->claim)["spec"]["storageClassName"] == "fast");
  CHECK((*made->claim)["metadata"]["ownerReferences"][0]["uid"] == "0000-1111");
  CHECK((*FindNamed(made->pod["spec"]["volumes"],
                    "molecule-configs"))["persistentVolumeClaim"]["claimName"] == "w1-box");
}

TEST_CASE("a template keeps what it says; the agent is wrapped around its own command") {
  auto workspace = Workspace();
  workspace.spec.box.pod->image.clear();
  workspace.spec.box.pod->template_ref = api::LocalRef{"big"};
  workspace.spec.box.pod->container = "main";
  const Json given = Template(
      R"({"nodeSelector":{"disk":"ssd"},"securityContext":{"runAsUser":7},
          "volumes":[{"name":"v","emptyDir":{}}],
          "containers":[{"name":"side","image":"s"},
                        {"name":"main","image":"m","command":["/run"],"args":["a b"],
                         "volumeMounts":[{"name":"v","mountPath":"/configs"}],
                         "env":[{"name":"X","value":"1"}]}]})");
  const auto made = box::MakeManagedPod(workspace, &given, Settings());
  REQUIRE(made);
  const Json& spec = made->pod["spec"];
  CHECK(spec["nodeSelector"]["disk"] == "ssd");
  CHECK(spec["securityContext"]["runAsUser"] == 7);
  CHECK(spec["containers"][0] == Json{{"name", "side"},
                                      {"image", "s"},
                                      {"securityContext",
                                       {{"allowPrivilegeEscalation", false},
                                        {"capabilities", {{"drop", Json::array({"ALL"})}}}}}});
  const Json& main = spec["containers"][1];
  CHECK(main["command"].back() == "a b");
  CHECK(main["command"][main["command"].size() - 2] == "/run");
  CHECK_FALSE(main.contains("args"));
  CHECK(FindNamed(main["env"], "X") != nullptr);
  CHECK(FindNamed(spec["volumes"], "molecule-configs") == nullptr);
  CHECK(made->pod["metadata"]["labels"]["team"] == "x");
  CHECK(made->pod["metadata"]["labels"][box::kWorkspaceLabel] == "w1");
}

TEST_CASE("a template's init containers and what it adds to capabilities are Restricted, too") {
  auto workspace = Workspace();
  const Json given = Template(
      R"({"initContainers":[{"name":"init","image":"i"},
                            {"name":"own","image":"o","restartPolicy":"Always",
                             "securityContext":{"capabilities":{"add":["NET_BIND_SERVICE"]}}}],
          "containers":[{"name":"main","image":"m","command":["/run"],
                         "securityContext":{"capabilities":{"drop":["KILL"]}}}]})");
  const auto made = box::MakeManagedPod(workspace, &given, Settings());
  REQUIRE(made);
  const Json& inits = made->pod["spec"]["initContainers"];
  REQUIRE(inits.size() == 3);
  for (const Json& init : inits) {
    CHECK(init["securityContext"]["allowPrivilegeEscalation"] == false);
    CHECK(init["securityContext"]["capabilities"]["drop"] == Json::array({"ALL"}));
  }
  CHECK(inits[2]["securityContext"]["capabilities"]["add"] == Json::array({"NET_BIND_SERVICE"}));
  // What the template does say stays.
  CHECK(made->pod["spec"]["containers"][0]["securityContext"]["capabilities"]["drop"] ==
        Json::array({"KILL"}));
}

TEST_CASE("what a template makes privileged may escalate: the API would refuse it otherwise") {
  const auto workspace = Workspace();
  const Json given = Template(
      R"({"initContainers":[{"name":"i","image":"i","securityContext":{"privileged":true}}],
          "containers":[{"name":"main","image":"m","command":["/run"]},
                        {"name":"s","image":"s",
                         "securityContext":{"capabilities":{"add":["CAP_SYS_ADMIN"]}}},
                        {"name":"n","image":"n",
                         "securityContext":{"privileged":false,
                                            "capabilities":{"add":["NET_ADMIN"]}}}]})");
  const auto made = box::MakeManagedPod(workspace, &given, Settings());
  REQUIRE(made);
  const Json& spec = made->pod["spec"];
  const auto escalation = [](const Json& container) {
    return container["securityContext"].value("allowPrivilegeEscalation", true);
  };
  CHECK(escalation(spec["initContainers"][1]));
  CHECK(escalation(spec["containers"][1]));
  CHECK_FALSE(escalation(spec["initContainers"][0]));
  CHECK_FALSE(escalation(spec["containers"][0]));
  CHECK_FALSE(escalation(spec["containers"][2]));
}

TEST_CASE("a template's own mount of /configs is the only one, however it is written") {
  auto workspace = Workspace();
  for (const char* path : {"/configs", "/configs/"}) {
    const Json given = Template((std::string(R"({"volumes":[{"name":"v","emptyDir":{}}],)"
                                             R"("containers":[{"name":"m","image":"i",)"
                                             R"("command":["x"],"volumeMounts":[{"name":"v",)"
                                             R"("mountPath":")") +
                                 path + "\"}]}]}")
                                    .c_str());
    workspace.spec.box.pod->storage.reset();
    const auto made = box::MakeManagedPod(workspace, &given, Settings());
    REQUIRE(made);
    CHECK(FindNamed(made->pod["spec"]["volumes"], "molecule-configs") == nullptr);
    workspace.spec.box.pod->storage = api::PodStorage{"1Gi", ""};
    CHECK(ReasonOf(workspace, Settings(), &given) == "StorageUnused");
  }
}

TEST_CASE("what is missing is named with its remedy") {
  auto settings = Settings();
  settings.agent_image.clear();
  CHECK(ReasonOf(Workspace(), settings) == "AgentImageMissing");
  settings = Settings();
  settings.agent_url.clear();
  CHECK(ReasonOf(Workspace(), settings) == "AgentURLMissing");
  settings = Settings();
  settings.agent_ca_problem = "boxes.agentCAFile is away";
  CHECK(ReasonOf(Workspace(), settings) == "AgentCAUnreadable");
  settings = Settings();
  settings.command_by_runtime.clear();
  CHECK(ReasonOf(Workspace(), settings) == "RuntimeCommandUnknown");
  const Json empty = *codec::ParseJson("{}");
  CHECK(ReasonOf(Workspace(), Settings(), &empty) == "PodTemplateInvalid");
  const Json none = Template(R"({"containers":[]})");
  CHECK(ReasonOf(Workspace(), Settings(), &none) == "PodTemplateInvalid");
  auto workspace = Workspace();
  workspace.spec.box.pod->container = "other";
  const Json one = Template(R"({"containers":[{"name":"a","image":"i","command":["x"]}]})");
  CHECK(ReasonOf(workspace, Settings(), &one) == "ContainerMissing");
}

TEST_CASE("a template that uses a name of ours is refused by that name") {
  const auto refused = [](const std::string& more) {
    const Json given = Template(
        (R"({"containers":[{"name":"a","image":"i","command":["x"])" + more + "}").c_str());
    const auto made = box::MakeManagedPod(Workspace(), &given, Settings());
    return made ? "" : made.error().reason + ": " + made.error().message;
  };
  CHECK(refused("}]") == "");
  CHECK(
      refused(R"(},{"name":"molecule-agent","image":"i"}])")
          .starts_with("PodTemplateInvalid: the PodTemplate has a container named molecule-agent"));
  CHECK(
      refused(R"(}],"initContainers":[{"name":"molecule-agent"}])").starts_with("PodTemplateInv"));
  for (const char* name : {"molecule-agent", "molecule-identity", "molecule-configs"})
    CHECK(refused(std::string(R"(}],"volumes":[{"name":")") + name + R"(","emptyDir":{}}])")
              .find(std::string("a volume named ") + name) != std::string::npos);
  CHECK(refused(R"(,"volumeMounts":[{"name":"molecule-configs","mountPath":"/configs"}]}],)"
                R"("volumes":[{"name":"molecule-configs","emptyDir":{}}])") == "");
}

TEST_CASE("a template that mounts something where we do is refused by its field") {
  const auto refused = [](const std::string& more, const std::string& side = "") {
    const Json given = Template((R"({"containers":[{"name":"s","image":"s")" + side +
                                 R"(},{"name":"a","image":"i","command":["x"],)" + more + "}]}")
                                    .c_str());
    auto workspace = Workspace();
    workspace.spec.box.pod->container = "a";
    const auto made = box::MakeManagedPod(workspace, &given, Settings());
    return made ? "" : made.error().reason + ": " + made.error().message;
  };
  const auto mounts = [](const std::string& path) {
    return R"("volumeMounts":[{"name":"u","mountPath":"/u"},{"name":"v","mountPath":")" + path +
           "\"}]";
  };
  CHECK(refused(mounts("/opt/molecule")) ==
        "PodTemplateInvalid: template.spec.containers[1].volumeMounts[1].mountPath of the "
        "PodTemplate is /opt/molecule, but the operator mounts a volume of its own at "
        "/opt/molecule; choose another path");
  for (const char* path : {"/opt/molecule/", "/opt//molecule", "/opt/molecule/bin",
                           "/var/run/x/../molecule", "/run/molecule", "run/molecule/token"}) {
    CAPTURE(path);
    CHECK(refused(mounts(path)).find(std::string("].mountPath of the PodTemplate is ") + path) !=
          std::string::npos);
  }
  CHECK(refused(R"("volumeDevices":[{"name":"v","devicePath":"/opt/molecule"}])")
            .find("volumeDevices[0].devicePath") != std::string::npos);
  for (const char* path : {"/opt", "/opt/molecules", "/var/run", "/run", "/configs/more"}) {
    CAPTURE(path);
    CHECK(refused(mounts(path)) == "");
  }
  CHECK(refused(mounts("/w"), "," + mounts("/opt/molecule")) == "");  // Another container's.
}

TEST_CASE("a template's own variable for the Pod's uid does not take the place of ours") {
  const Json given = Template(
      R"({"containers":[{"name":"a","image":"i","command":["x"],
          "env":[{"name":"X","value":"1"},{"name":"MOLECULE_POD_UID","value":"mine"}]}]})");
  const auto made = box::MakeManagedPod(Workspace(), &given, Settings());
  REQUIRE(made);
  const Json& env = made->pod["spec"]["containers"][0]["env"];
  REQUIRE(env.size() == 2);
  CHECK(env[0]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.uid");
  CHECK(env[1]["name"] == "X");
}

TEST_CASE(
    "the inputs change with what a user says, not with the operator's own version or address") {
  const auto inputs = [](const api::Workspace& w, const box::ManagedPodSettings& s) {
    return box::MakeManagedPod(w, nullptr, s)->inputs;
  };
  const std::string before = inputs(Workspace(), Settings());
  auto settings = Settings();
  settings.agent_image = "operator:2";
  settings.agent_url = "https://elsewhere";
  settings.agent_ca_pem = "pem";
  CHECK(inputs(Workspace(), settings) == before);
  settings.command_by_runtime["sample"] = {"/bin/other"};
  CHECK(inputs(Workspace(), settings) != before);
  auto workspace = Workspace();
  workspace.spec.box.pod->image = "agents/sample:2";
  CHECK(inputs(workspace, Settings()) != before);
}

TEST_CASE("the first container by its name is the same Pod, and what differs is told by name") {
  const auto settings = Settings();
  const auto made = [&](const char* container) {
    auto workspace = Workspace();
    workspace.spec.box.pod->container = container;
    return *box::MakeManagedPod(workspace, nullptr, settings);
  };
  CHECK(made("agent").inputs == made("").inputs);
  CHECK(made("other").inputs != made("").inputs);
  const Json given = Template(R"({"containers":[{"name":"a","image":"i","command":["x"]},
                                                {"name":"b","image":"j","command":["x"]}]})");
  const auto from = [&](const char* container, const Json& document) {
    auto workspace = Workspace();
    workspace.spec.box.pod->image.clear();
    workspace.spec.box.pod->container = container;
    workspace.spec.box.pod->template_ref = api::LocalRef{"big"};
    return *box::MakeManagedPod(workspace, &document, settings);
  };
  CHECK(from("a", given).inputs == from("", given).inputs);
  CHECK(from("b", given).inputs != from("", given).inputs);

  const box::ManagedPod before = made("");
  const std::string said = before.pod["metadata"]["annotations"][box::kMadeFromAnnotation];
  CHECK(box::DifferenceOf(said, before.made_from) == "");
  auto workspace = Workspace();
  workspace.spec.box.pod->image = "agents/sample:2";
  workspace.spec.box.pod->storage = api::PodStorage{"1Gi", ""};
  CHECK(box::DifferenceOf(said, box::MakeManagedPod(workspace, nullptr, settings)->made_from) ==
        "image is agents/sample:1, not agents/sample:2, /configs is an emptyDir, not a claim");
  Json grown = given;
  grown["template"]["spec"]["nodeName"] = "n";
  CHECK(box::DifferenceOf(codec::Dump(from("", given).made_from), from("", grown).made_from) ==
        "the PodTemplate has changed");
  CHECK(box::DifferenceOf("", before.made_from) == "");
}

TEST_CASE("names stay within 63 bytes and distinct") {
  const std::string longest(253, 'a');
  CHECK(box::ManagedPodName("w") == "w-box");
  CHECK(box::ManagedPodName(longest).size() <= 63);
  CHECK(box::ManagedPodName(longest) != box::ManagedPodName(longest + "b"));
  CHECK(box::LabelOf("w") == "w");
  CHECK(box::LabelOf(longest).size() <= 63);
  CHECK(box::LabelOf(std::string(50, 'a') + std::string(20, '.') + "b").find(".-") ==
        std::string::npos);
}
