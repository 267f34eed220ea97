#pragma once

#include <optional>
#include <string>

#include "core/plan/row_decision.hpp"

/// Private to plan/: what bears on the decision about one declared plugin.
namespace core {

/// One declared plugin with everything that bears on it.
struct Facts {
  const DesiredPlugin& plugin;
  const WorkspaceObservation& observation;
  PluginView view;
  const api::PluginRow* row;  ///< May be null.
  bool requested;

  /// What is meant to be there: what the receipt says was activated, else what is found.
  const std::string& BaseDigest() const {
    return view.has_receipt ? view.receipt_digest : view.digest;
  }
  bool Installed() const { return row != nullptr && row->origin.has_value(); }
  bool WasConverged() const;
  bool SourceEdited() const { return Installed() && row->source != plugin.source; }
  /// What its row names stays until the source is edited, whatever the box has meanwhile: an
  /// External box's agent does what an earlier answer has named, so that what it reports is no
  /// wish of anybody.
  bool Holds() const;
};

Facts FactsOf(const DesiredPlugin& plugin, const WorkspaceObservation& observation);

enum class Difference { kNone, kUnknown, kDiffers };

/// Of what is meant to be there from what is wanted.
Difference Compare(const Facts& f);
/// A listed file was changed in the box, or the runtime's settings lack our servers. Empty:
/// neither.
std::string DriftKey(const PluginView& view);
/// What Pin and Manual hold on to, as far as it is known.
std::optional<Revision> Approved(const Facts& f);
/// What is to be there by somebody's consent (or is held), if it is not there already.
std::optional<Revision> Owed(const Facts& f);
/// Its source does not give these bytes any more.
bool IsGone(const Facts& f, const Revision& revision);

}  // namespace core
