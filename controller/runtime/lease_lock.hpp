#pragma once

#include <cstdint>
#include <stop_token>
#include <string>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace runtime {

/// A Lease as the election sees it. Its time stamps are for people: nobody compares them with a
/// clock.
struct LeaseRecord {
  std::string version = {};  ///< resourceVersion; empty: not made yet.
  std::string holder = {};   ///< Empty: nobody (released).
  std::string address = {};  ///< Where the holder's HTTP API is; may be empty.
  base::Millis duration{};   ///< For how long others wait after the record last changed.
  base::WallTime acquired{};
  base::WallTime renewed{};
  int64_t transitions = 0;
  bool operator==(const LeaseRecord&) const = default;
};

/// Port: the one Lease that is contended for. Every write is a compare-and-swap. Calls block until
/// `deadline` at most, end soon after `stop`, and are made by one thread.
class LeaseLock {
 public:
  virtual ~LeaseLock() = default;
  struct Call {
    base::Millis deadline{5'000};
    std::stop_token stop = {};
  };
  /// kNotFound: nobody has made it.
  virtual base::Result<LeaseRecord> Get(const Call& call) = 0;
  /// Returns what is stored. kAlreadyExists: somebody else was first.
  virtual base::Result<LeaseRecord> Create(const LeaseRecord& record, const Call& call) = 0;
  /// Replaces the record of `record.version`; what others added to the object stays. kConflict: it
  /// has changed meanwhile; kNotFound: it was deleted.
  virtual base::Result<LeaseRecord> Update(const LeaseRecord& record, const Call& call) = 0;
};

}  // namespace runtime
