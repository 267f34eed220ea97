#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "apiserver/wire/registry.hpp"
#include "base/clock.hpp"
#include "codec/json.hpp"

namespace apiserver {

/// How a caller wants objects shown.
enum class Shape { kObject, kTable, kPartial };

struct Presentation {
  Shape shape = Shape::kObject;
  std::string meta_version = "v1";  ///< v1 or v1beta1 of meta.k8s.io, for kTable and kPartial.
  enum class Include { kNone, kMetadata, kObject } include = Include::kMetadata;
};

/// Chooses from an Accept header; false if nothing there can be served (406). An empty header takes
/// anything.
bool Negotiate(std::string_view accept, std::string_view include_object, Presentation& out);

/// The stored text of an object as that resource's version shows it (events.k8s.io converts).
std::string ShownText(const Served& served, const std::string& text);
/// The stored text parsed, as that resource's version shows it.
codec::Json ShownObject(const Served& served, const std::string& text);
/// The other way: as it is stored.
codec::Json StoredForm(const Served& served, codec::Json object);

/// One object's document in that shape; a Table has one row.
std::string Render(const Served& served, const Presentation& presentation, const std::string& text,
                   base::WallTime now);
/// A table with these rows; `columns` false leaves the definitions out (all but the first event of
/// a watch).
codec::Json TableOf(const Served& served, const Presentation& presentation,
                    const std::vector<codec::Json>& objects, base::WallTime now, bool columns);
codec::Json PartialOf(const codec::Json& object, const std::string& meta_version);

struct ListHead {
  std::string version;
  std::string continue_token;
  int64_t remaining = -1;
};
/// A whole list answer from stored texts.
std::string RenderList(const Served& served, const Presentation& presentation,
                       const std::vector<std::string>& texts, const ListHead& head,
                       base::WallTime now);

}  // namespace apiserver
