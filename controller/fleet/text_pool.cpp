#include "fleet/text_pool.hpp"

#include <algorithm>

namespace fleet {

TextPool::Text TextPool::Share(std::string_view text) {
  if (const auto known = texts_.find(text); known != texts_.end()) return *known;
  if (texts_.size() >= sweep_at_) {
    std::erase_if(texts_, [](const Text& held) { return held.use_count() == 1; });
    sweep_at_ = std::max(kFirstSweep, texts_.size() * 2);
  }
  return *texts_.insert(std::make_shared<const std::string>(text)).first;
}

}  // namespace fleet
