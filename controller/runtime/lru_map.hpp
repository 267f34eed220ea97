#pragma once

#include <algorithm>
#include <cstddef>
#include <list>
#include <unordered_map>
#include <utility>

namespace runtime {

/// A bounded map that forgets what was used longest ago. One thread at a time.
template <typename Key, typename V>
class LruMap {
 public:
  explicit LruMap(size_t limit) : limit_(std::max<size_t>(limit, 1)) {}
  V* Find(const Key& key) {
    const auto found = index_.find(key);
    if (found == index_.end()) return nullptr;
    order_.splice(order_.begin(), order_, found->second);
    return &found->second->second;
  }
  /// It counts as no use.
  const V* Peek(const Key& key) const {
    const auto found = index_.find(key);
    return found == index_.end() ? nullptr : &found->second->second;
  }
  V& Put(const Key& key, V value) {
    Erase(key);
    if (order_.size() >= limit_) {
      index_.erase(order_.back().first);
      order_.pop_back();
    }
    order_.emplace_front(key, std::move(value));
    index_[key] = order_.begin();
    return order_.front().second;
  }
  void Erase(const Key& key) {
    const auto found = index_.find(key);
    if (found == index_.end()) return;
    order_.erase(found->second);
    index_.erase(found);
  }
  template <typename Predicate>
  void EraseIf(Predicate over) {
    for (auto at = order_.begin(); at != order_.end();) {
      if (over(at->second)) {
        index_.erase(at->first);
        at = order_.erase(at);
      } else {
        ++at;
      }
    }
  }
  std::list<std::pair<Key, V>>& All() { return order_; }
  size_t Size() const { return order_.size(); }

 private:
  const size_t limit_;
  std::list<std::pair<Key, V>> order_;
  std::unordered_map<Key, typename std::list<std::pair<Key, V>>::iterator> index_;
};

}  // namespace runtime
