#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace apiserver {

/// Where an object lives: `resource` is "plural" or "plural.group" ("secrets",
/// "workspaces.molecule.ai"); cluster-scoped objects have an empty namespace.
struct StoreKey {
  std::string resource;
  std::string ns;
  std::string name;
  auto operator<=>(const StoreKey&) const = default;
};

/// One object as it is stored: `text` is its whole JSON, metadata.resourceVersion included.
struct StoredObject {
  StoreKey key;
  std::string uid;
  int64_t version = 0;
  std::string text;
};

enum class ChangeType { kAdded, kModified, kDeleted };

/// One committed write, in the order of versions. `text` is the object after it (of a deletion: the
/// last state with the deletion's version); `previous` is the object before it, empty for a
/// creation. Immutable once published.
struct Change {
  int64_t version = 0;
  ChangeType type = ChangeType::kAdded;
  StoreKey key;
  std::string text;
  std::string previous;
};

using ChangePtr = std::shared_ptr<const Change>;

/// What an object's JSON text looks like in the store: the version stands at a fixed place in
/// front, so that the writer thread can put it in without parsing. `tail` starts right after the
/// version's digits.
std::string ComposeText(int64_t version, const std::string& tail);
/// The tail of a text made by ComposeText.
std::string TailOf(const std::string& text);

}  // namespace apiserver
