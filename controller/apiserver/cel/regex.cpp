#include "apiserver/cel/regex.hpp"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "apiserver/cel/regex_syntax.hpp"

namespace apiserver {
namespace {

constexpr size_t kMaxStates = 20'000;
constexpr size_t kMaxPattern = 8'192;

struct State {
  enum class Op : uint8_t { kSet, kSplit, kAssert, kMatch };
  Op op = Op::kMatch;
  RegexAssert assertion = RegexAssert::kBegin;
  int next = -1;
  int other = -1;
  int set = -1;
};

bool IsWord(int c) { return c == '_' || (c >= 0 && c < 128 && std::isalnum(c)); }

}  // namespace

struct Regex::Program {
  std::vector<State> states;
  std::vector<RegexSet> sets;
  int start = 0;
  bool anchored = false;  ///< Every match begins at the beginning: no new start later.
};

namespace {

/// Builds states backwards: each Emit gets the state to go on with and returns the state to begin
/// with.
class Builder {
 public:
  Builder(std::vector<State>& states, std::vector<RegexSet>& sets) : states_(states), sets_(sets) {}

  bool Overflow() const { return states_.size() > kMaxStates; }

  int Add(State state) {
    states_.push_back(state);
    return static_cast<int>(states_.size()) - 1;
  }

  int Emit(const RegexTree& tree, int next) {
    if (Overflow()) return next;
    switch (tree.kind) {
      case RegexTree::Kind::kEmpty:
        return next;
      case RegexTree::Kind::kSet:
        return Add({State::Op::kSet, {}, next, -1, SetOf(tree)});
      case RegexTree::Kind::kAssert:
        return Add({State::Op::kAssert, tree.assertion, next, -1, -1});
      case RegexTree::Kind::kSequence:
        for (size_t i = tree.kids.size(); i-- > 0;) next = Emit(*tree.kids[i], next);
        return next;
      case RegexTree::Kind::kChoice:
        return EmitChoice(tree, next);
      case RegexTree::Kind::kRepeat:
        return EmitRepeat(tree, next);
    }
    return next;
  }

 private:
  int SetOf(const RegexTree& tree) {
    for (size_t i = 0; i < seen_.size(); ++i) {
      if (seen_[i] == &tree) return static_cast<int>(i);
    }
    sets_.push_back(tree.set);
    seen_.push_back(&tree);
    return static_cast<int>(sets_.size()) - 1;
  }

  int EmitChoice(const RegexTree& tree, int next) {
    int chosen = Emit(*tree.kids.back(), next);
    for (size_t i = tree.kids.size() - 1; i-- > 0;) {
      const int branch = Emit(*tree.kids[i], next);
      chosen = Add({State::Op::kSplit, {}, branch, chosen, -1});
    }
    return chosen;
  }

  int EmitRepeat(const RegexTree& tree, int next) {
    const RegexTree& body = *tree.kids[0];
    if (tree.max < 0) {
      const int loop = Add({State::Op::kSplit, {}, -1, next, -1});
      const int inner = Emit(body, loop);
      states_[static_cast<size_t>(loop)].next = inner;
      next = loop;
    } else {
      const int end = next;
      for (int i = tree.min; i < tree.max && !Overflow(); ++i) {
        const int inner = Emit(body, next);
        next = Add({State::Op::kSplit, {}, inner, end, -1});
      }
    }
    for (int i = 0; i < tree.min && !Overflow(); ++i) next = Emit(body, next);
    return next;
  }

  std::vector<State>& states_;
  std::vector<RegexSet>& sets_;
  std::vector<const RegexTree*> seen_;
};

bool StartsAnchored(const RegexTree& tree) {
  if (tree.kind == RegexTree::Kind::kAssert) return tree.assertion == RegexAssert::kBegin;
  if (tree.kind == RegexTree::Kind::kSequence)
    return !tree.kids.empty() && StartsAnchored(*tree.kids[0]);
  if (tree.kind != RegexTree::Kind::kChoice) return false;
  for (const auto& kid : tree.kids) {
    if (!StartsAnchored(*kid)) return false;
  }
  return true;
}

/// The states alive at one position: a list plus a mark per state (the round in which it was
/// entered).
struct Frontier {
  std::vector<int> alive;
  std::vector<uint32_t> mark;
  uint32_t round = 0;
  void Reset(size_t states) {
    if (mark.size() < states) mark.assign(states, 0), round = 0;
    alive.clear();
    if (++round == 0) {
      std::fill(mark.begin(), mark.end(), 0u);
      round = 1;
    }
  }
};

struct Position {
  int before;  ///< Code point before and after, -1 at the ends.
  int after;
};

bool Holds(RegexAssert assertion, const Position& at) {
  switch (assertion) {
    case RegexAssert::kBegin:
      return at.before < 0;
    case RegexAssert::kEnd:
      return at.after < 0;
    case RegexAssert::kWord:
      return IsWord(at.before) != IsWord(at.after);
    case RegexAssert::kNotWord:
      return IsWord(at.before) == IsWord(at.after);
  }
  return false;
}

/// Follows the empty moves from `state`; true if a match is reached. Iterative: patterns may chain
/// thousands of splits.
bool Enter(const std::vector<State>& states, Frontier& frontier, std::vector<int>& stack,
           std::pair<int, Position> from) {
  stack.push_back(from.first);
  while (!stack.empty()) {
    const int index = stack.back();
    stack.pop_back();
    uint32_t& mark = frontier.mark[static_cast<size_t>(index)];
    if (mark == frontier.round) continue;
    mark = frontier.round;
    const State& state = states[static_cast<size_t>(index)];
    switch (state.op) {
      case State::Op::kMatch:
        stack.clear();
        return true;
      case State::Op::kSet:
        frontier.alive.push_back(index);
        break;
      case State::Op::kSplit:
        stack.push_back(state.other);
        stack.push_back(state.next);
        break;
      case State::Op::kAssert:
        if (Holds(state.assertion, from.second)) stack.push_back(state.next);
        break;
    }
  }
  return false;
}

}  // namespace

base::Result<Regex> Regex::Compile(std::string_view pattern) {
  if (pattern.size() > kMaxPattern) {
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("pattern is longer than {} bytes", kMaxPattern));
  }
  auto tree = ParseRegex(pattern);
  if (!tree) return tree.error();
  auto program = std::make_shared<Program>();
  Builder builder(program->states, program->sets);
  const int match = builder.Add({});
  program->start = builder.Emit(**tree, match);
  if (builder.Overflow()) {
    return base::MakeError(
        base::Code::kInvalid,
        fmt::format("pattern `{}` needs more than {} states", pattern, kMaxStates));
  }
  program->anchored = StartsAnchored(**tree);
  program->states.shrink_to_fit();
  return Regex(std::move(program));
}

size_t Regex::States() const { return program_->states.size(); }

bool Regex::Search(std::string_view text) const {
  // Scratch is kept per thread: validation calls this many times on short texts.
  thread_local Frontier now;
  thread_local Frontier later;
  thread_local std::vector<int> stack;
  const Program& program = *program_;
  now.Reset(program.states.size());
  size_t position = 0;  // Behind `point`.
  const auto next_point = [&]() -> int {
    if (position >= text.size()) return -1;
    const auto byte = static_cast<unsigned char>(text[position]);
    if (byte < 0x80) return static_cast<int>(text[position++]);
    return static_cast<int>(NextCodePoint(text, position));
  };
  int before = -1;
  int point = next_point();
  while (true) {
    if ((before < 0 || !program.anchored) &&
        Enter(program.states, now, stack, {program.start, {before, point}})) {
      return true;
    }
    if (point < 0 || (now.alive.empty() && program.anchored)) return false;
    const int after = next_point();
    later.Reset(program.states.size());
    for (const int index : now.alive) {
      const State& state = program.states[static_cast<size_t>(index)];
      const RegexSet& set = program.sets[static_cast<size_t>(state.set)];
      const bool fits = point < 128 ? set.ascii[static_cast<size_t>(point)]
                                    : set.Has(static_cast<uint32_t>(point));
      if (fits && Enter(program.states, later, stack, {state.next, {point, after}})) return true;
    }
    std::swap(now, later);
    before = point;
    point = after;
  }
}

}  // namespace apiserver
