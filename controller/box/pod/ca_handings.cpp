#include "box/pod/ca_handings.hpp"

#include "base/sha256.hpp"

namespace box {
namespace {

constexpr base::Seconds kBetween{60};
constexpr base::Seconds kRemembered{600};
constexpr size_t kPods = 200'000;

}  // namespace

CaHandings::Answer CaHandings::Ask(const std::string& uid, const std::string& pem,
                                   base::MonoTime now) {
  const std::string digest = base::Hex(base::Sha256Of(pem));
  const std::lock_guard lock(mutex_);
  if (given_.size() >= kPods) given_.clear();
  const auto [found, first] = given_.try_emplace(uid, Given{digest, now});
  if (first) return Answer::kGive;
  Given& last = found->second;
  if (last.digest != digest) {
    last = {digest, now};
    return Answer::kGive;
  }
  if (now - last.when < kBetween) return Answer::kWait;
  last = {digest, now, true};
  return Answer::kGive;
}

void CaHandings::Forget(const std::string& uid) {
  const std::lock_guard lock(mutex_);
  given_.erase(uid);
}

bool CaHandings::IsContested(const std::string& uid, base::MonoTime now) const {
  const std::lock_guard lock(mutex_);
  const auto found = given_.find(uid);
  return found != given_.end() && found->second.again && now - found->second.when < kRemembered;
}

}  // namespace box
