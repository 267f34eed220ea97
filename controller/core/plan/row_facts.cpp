#include "core/plan/row_facts.hpp"

#include "core/reasons.hpp"

namespace core {
namespace {

using State = ResolutionView::State;

/// What somebody has asked for and has not got yet.
std::optional<Revision> Consented(const Facts& f) {
  const bool counts = f.row != nullptr && !f.row->approved_digest.empty() &&
                      f.plugin.update != api::UpdatePolicy::kTrack &&
                      f.row->source == f.plugin.source;
  if (!counts) return std::nullopt;
  return Revision{f.row->source, f.row->approved_revision, f.row->approved_digest};
}

}  // namespace

bool Facts::WasConverged() const {
  return Installed() && row->loaded && row->attempts == 0 && row->reason == reason::kLoaded;
}

bool Facts::Holds() const {
  return plugin.update == api::UpdatePolicy::kPin &&
         observation.workspace.spec.box.type == api::BoxType::kExternal;
}

Facts FactsOf(const DesiredPlugin& plugin, const WorkspaceObservation& observation) {
  return {plugin, observation, FindPlugin(observation.probe, plugin.name),
          FindRow(observation, plugin.name), ReconcileRequested(observation)};
}

Difference Compare(const Facts& f) {
  const ResolutionView& wanted = f.plugin.resolution;
  if (!wanted.digest.empty() && !f.BaseDigest().empty())
    return f.BaseDigest() == wanted.digest ? Difference::kNone : Difference::kDiffers;
  if (!wanted.commit.empty() && f.view.has_receipt && !f.view.revision.empty())
    return f.view.revision == wanted.commit ? Difference::kNone : Difference::kDiffers;
  return Difference::kUnknown;
}

std::string DriftKey(const PluginView& view) {
  if (view.has_receipt && !view.receipt_digest.empty() && !view.digest.empty() &&
      view.digest != view.receipt_digest)
    return view.digest;
  if (!view.mcp_merged) return "mcp:" + view.digest;
  return "";
}

std::optional<Revision> Approved(const Facts& f) {
  if (auto consented = Consented(f)) return consented;
  const bool pinned = f.plugin.update != api::UpdatePolicy::kTrack;
  // What an image has brought may have a digest and no revision: nobody could ask for it again.
  if (!pinned || f.row == nullptr || f.row->digest.empty() || f.row->revision.empty() ||
      f.row->source != f.plugin.source)
    return std::nullopt;
  return Revision{f.row->source, f.row->revision, f.row->digest};
}

std::optional<Revision> Owed(const Facts& f) {
  auto owed =
      f.observation.workspace.spec.box.type == api::BoxType::kExternal ? Approved(f) : Consented(f);
  return owed && owed->digest != f.BaseDigest() ? owed : std::nullopt;
}

bool IsGone(const Facts& f, const Revision& revision) {
  const auto& known = f.plugin.put_back;
  if (!known || known->digest == revision.digest) return false;
  return known->state == State::kFetched || (known->state == State::kFailed && known->error &&
                                             known->error->reason == reason::kRevisionGone);
}

}  // namespace core
