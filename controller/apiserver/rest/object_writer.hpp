#pragma once

#include <functional>
#include <string>
#include <vector>

#include "apiserver/apply/managed_fields.hpp"
#include "apiserver/store/store.hpp"
#include "apiserver/wire/registry.hpp"
#include "apiserver/wire/status.hpp"
#include "base/clock.hpp"

namespace apiserver {

enum class FieldValidation { kIgnore, kWarn, kStrict };
enum class PatchType { kMerge, kJson, kStrategic, kApply };

/// One write request, read from its target, query and headers.
struct WriteRequest {
  const Served* served = nullptr;
  std::string ns;
  std::string name;
  std::string subresource;  ///< "" or "status".
  FieldManager manager;
  FieldValidation validation = FieldValidation::kWarn;
  bool dry_run = false;
  bool force = false;  ///< Apply only.
};

struct DeleteOptions {
  std::string uid;  ///< Preconditions; empty: none.
  std::string version;
  std::string propagation;  ///< Background, Foreground, Orphan; empty: Background.
};

struct Written {
  int code = 200;
  std::string text;  ///< The object as it is stored; for an immediate deletion the Status.
  bool is_object = true;
  std::vector<std::string> warnings;  ///< Texts for Warning headers.
};

/// The write path: body -> prune -> patch -> default -> validate -> managed fields -> store. Thread
/// safe.
class ObjectWriter {
 public:
  ObjectWriter(Store& store, const base::Clock& clock, base::Seconds event_ttl)
      : store_(store), clock_(clock), event_ttl_(event_ttl) {}

  Outcome<Written> Create(const WriteRequest& request, codec::Json body);
  Outcome<Written> Update(const WriteRequest& request, codec::Json body);
  Outcome<Written> Patch(const WriteRequest& request, PatchType type, const codec::Json& patch);
  Outcome<Written> Delete(const WriteRequest& request, const DeleteOptions& options);

 private:
  using Change = std::function<Outcome<codec::Json>(const codec::Json& current)>;
  struct Live {
    StoredObject stored;
    codec::Json object;
  };
  StoreKey KeyOf(const WriteRequest& request) const;
  Outcome<bool> CheckNamespace(const WriteRequest& request) const;
  Outcome<bool> CheckIdentity(const WriteRequest& request, codec::Json& body) const;
  Outcome<Written> Insert(const WriteRequest& request, codec::Json object,
                          std::vector<std::string> warnings, bool applied);
  Outcome<Written> Modify(const WriteRequest& request, bool applied,
                          std::vector<std::string> warnings, const Change& change);
  Outcome<Written> Finish(const WriteRequest& request, const Live& live, codec::Json next,
                          bool applied);
  Outcome<Written> Apply(const WriteRequest& request, codec::Json config);
  Outcome<codec::Json> Patched(const WriteRequest& request, PatchType type,
                               const codec::Json& current, const codec::Json& patch) const;
  Outcome<Written> DeleteLive(const WriteRequest& request, const Live& live,
                              const DeleteOptions& options);
  Outcome<Written> Put(const WriteRequest& request, Write::Kind kind, const Live* live,
                       const codec::Json& object);
  Outcome<Live> Read(const WriteRequest& request) const;

  Store& store_;
  const base::Clock& clock_;
  const base::Seconds event_ttl_;
};

/// Removes unknown fields as `validation` says: a Failure for Strict, warnings for Warn.
Outcome<std::vector<std::string>> PruneBody(const WriteRequest& request, codec::Json& object);

}  // namespace apiserver
