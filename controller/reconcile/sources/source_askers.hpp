#pragma once

#include <cstddef>
#include <map>
#include <set>
#include <string>

#include "meta/object.hpp"

namespace reconcile {

/// Who asks, and is woken when more is known.
enum class AskerKind { kWorkspace, kDeclaredPlugin };
struct Asker {
  AskerKind kind;
  meta::ObjectKey key;
  auto operator<=>(const Asker&) const = default;
};

/// Who asked about which source since it last changed. As large as the objects that live: one that
/// is gone is to be forgotten. Not thread safe.
class SourceAskers {
 public:
  void Ask(const std::string& source, const Asker& asker);
  /// It asked and was told that nothing is known yet. Nothing happens if it has been woken since.
  void Await(const std::string& source, const Asker& asker);
  /// The source has changed: those that asked, and whether they still await other sources. They
  /// have to ask again.
  std::map<Asker, bool> Take(const std::string& source);
  void Forget(const Asker& asker);
  size_t Sources() const { return sources_.size(); }
  size_t Askers() const { return askers_.size(); }

 private:
  struct Asked {
    std::map<const std::string*, bool> sources;  ///< Keys of sources_; true: awaited.
    int awaited = 0;
  };
  std::map<Asker, Asked> askers_;
  std::map<std::string, std::set<const Asker*>> sources_;  ///< Of keys of askers_.
};

}  // namespace reconcile
