#include "reconcile/dependencies.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/declared_set.hpp"

namespace reconcile {
namespace {

template <typename T>
void SortByName(std::vector<std::shared_ptr<const T>>& objects) {
  std::sort(objects.begin(), objects.end(),
            [](const auto& a, const auto& b) { return a->meta.name < b->meta.name; });
}

/// As an index value; empty: it adopts none.
std::string AdoptedPod(const api::Workspace& workspace) {
  const auto& pod = workspace.spec.box.pod;
  if (workspace.spec.box.type != api::BoxType::kPod || !pod || !pod->pod_ref) return "";
  return "pod:" + workspace.meta.ns + "/" + pod->pod_ref->name;
}

}  // namespace

runtime::Requeue Until(const Dependencies& on, base::MonoTime at) {
  const auto left = std::chrono::ceil<base::Millis>(at - on.clock->Read().mono);
  if (on.resync > base::Millis{0} && left >= on.resync) return runtime::Requeue::None();
  return runtime::Requeue::After(std::max(left, base::Millis{1}));
}

std::vector<std::string> IndexOf(const api::Workspace& workspace) {
  if (const std::string pod = AdoptedPod(workspace); !pod.empty()) return {workspace.meta.ns, pod};
  return {workspace.meta.ns};
}

bool ComesFirst(const api::Workspace& a, const api::Workspace& b) {
  const auto age = [](const api::Workspace& w) {
    return std::pair(w.meta.creation_time.value_or(base::WallTime::max()), w.meta.name);
  };
  return age(a) < age(b);
}

base::Result<std::unique_ptr<box::Box>> BoxOf(const Dependencies& on,
                                              const api::Workspace& workspace) {
  if (const std::string pod = AdoptedPod(workspace); !pod.empty())
    for (const auto& other : on.workspaces.Cache().ByIndex(pod))
      if (other->meta.uid != workspace.meta.uid && ComesFirst(*other, workspace))
        return base::MakeError(
            base::Code::kInvalid,
            fmt::format("Pod {} is the box of Workspace {} already; name another "
                        "one in spec.box.pod.podRef",
                        workspace.spec.box.pod->pod_ref->name, other->meta.name),
            kPodTaken);
  return on.make_box(workspace);
}

std::vector<std::string> IndexOf(const api::DeclaredPlugin& plugin) {
  if (plugin.spec.workspace_ref) return {plugin.meta.ns + "/" + plugin.spec.workspace_ref->name};
  return {plugin.meta.ns};
}

bool SameDeclaration(const api::DeclaredPlugin& before, const api::DeclaredPlugin& after) {
  return before.meta.uid == after.meta.uid && before.spec == after.spec &&
         before.meta.labels == after.meta.labels &&
         before.meta.annotations == after.meta.annotations &&
         before.meta.deletion_time == after.meta.deletion_time;
}

bool SameForDeclarations(const api::Workspace& before, const api::Workspace& after) {
  return before.meta.uid == after.meta.uid && before.meta.generation == after.meta.generation &&
         before.meta.labels == after.meta.labels &&
         before.meta.deletion_time == after.meta.deletion_time && before.spec == after.spec &&
         before.status == after.status;
}

std::vector<std::shared_ptr<const api::DeclaredPlugin>> DeclaredFor(
    const Dependencies& on, const api::Workspace& workspace) {
  std::vector<std::shared_ptr<const api::DeclaredPlugin>> found;
  for (const std::string& value :
       {workspace.meta.ns, workspace.meta.ns + "/" + workspace.meta.name})
    for (auto& plugin : on.plugins.Cache().ByIndex(value))
      if (core::Selects(*plugin, workspace)) found.push_back(std::move(plugin));
  SortByName(found);
  return found;
}

std::vector<meta::ObjectKey> Concerned(const Dependencies& on, const api::Workspace* before,
                                       const api::Workspace* after) {
  std::vector<meta::ObjectKey> keys;
  const bool both = before != nullptr && after != nullptr;
  if (both && SameForDeclarations(*before, *after)) return keys;
  // By labels that it has no more it was selected by others.
  if (both && before->meta.labels == after->meta.labels) before = nullptr;
  for (const api::Workspace* workspace : {after, before})
    if (workspace != nullptr)
      for (const auto& plugin : DeclaredFor(on, *workspace)) keys.push_back(plugin->meta.Key());
  return keys;
}

std::vector<std::shared_ptr<const api::Workspace>> SelectedBy(const Dependencies& on,
                                                              const api::DeclaredPlugin& plugin,
                                                              size_t* examined) {
  std::vector<std::shared_ptr<const api::Workspace>> candidates;
  if (plugin.spec.workspace_ref) {
    if (auto one = on.workspaces.Get({plugin.meta.ns, plugin.spec.workspace_ref->name}))
      candidates.push_back(std::move(one));
  } else {
    candidates = on.workspaces.Cache().ByIndex(plugin.meta.ns);
  }
  if (examined != nullptr) *examined = candidates.size();
  std::erase_if(candidates,
                [&](const auto& workspace) { return !core::Selects(plugin, *workspace); });
  SortByName(candidates);
  return candidates;
}

std::vector<meta::ObjectKey> Concerned(const Dependencies& on, const api::DeclaredPlugin* before,
                                       const api::DeclaredPlugin* after) {
  std::vector<meta::ObjectKey> keys;
  if (before != nullptr && after != nullptr && SameDeclaration(*before, *after)) return keys;
  for (const api::DeclaredPlugin* plugin : {after, before}) {
    if (plugin == nullptr) continue;
    api::DeclaredPlugin selecting = *plugin;
    selecting.meta.deletion_time.reset();
    for (const auto& workspace : SelectedBy(on, selecting, nullptr))
      keys.push_back(workspace->meta.Key());
  }
  return keys;
}

}  // namespace reconcile
