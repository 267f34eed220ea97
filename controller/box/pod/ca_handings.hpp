#pragma once

#include <map>
#include <mutex>
#include <string>

#include "base/clock.hpp"

namespace box {

/// Which authority was put into which Pod's annotation, and when. Two operators that serve the same
/// Workspace each take the other's out again: that is bounded here, and noticed. Thread safe,
/// bounded; forgetting gives one too early.
class CaHandings {
 public:
  enum class Answer { kGive, kWait };
  /// May the authority `pem` be put into the Pod `uid`, which has another? At once the first time;
  /// the same one again a minute after it was last given.
  Answer Ask(const std::string& uid, const std::string& pem, base::MonoTime now);
  /// It could not be given: the next one may be tried at once.
  void Forget(const std::string& uid);
  /// Whether somebody else takes out what is given: it had to be given again in the last ten
  /// minutes. (A minute is longer than an informer is behind.)
  bool IsContested(const std::string& uid, base::MonoTime now) const;

 private:
  struct Given {
    std::string digest;
    base::MonoTime when;
    bool again = false;
  };
  mutable std::mutex mutex_;
  std::map<std::string, Given> given_;  ///< By UID.
};

}  // namespace box
