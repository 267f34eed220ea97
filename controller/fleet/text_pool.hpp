#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>

namespace fleet {

/// Texts that many slots have alike (the same plugin at the same commit), each kept once for as
/// long as somebody holds it. Equal texts are the same pointer. Not thread safe.
class TextPool {
 public:
  using Text = std::shared_ptr<const std::string>;
  Text Share(std::string_view text);
  size_t Size() const { return texts_.size(); }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
    size_t operator()(const Text& text) const { return (*this)(std::string_view(*text)); }
  };
  struct Same {
    using is_transparent = void;
    static std::string_view View(std::string_view text) { return text; }
    static std::string_view View(const Text& text) { return *text; }
    template <class A, class B>
    bool operator()(const A& a, const B& b) const {
      return View(a) == View(b);
    }
  };
  static constexpr size_t kFirstSweep = 1024;
  std::unordered_set<Text, Hash, Same> texts_;
  size_t sweep_at_ = kFirstSweep;
};

}  // namespace fleet
