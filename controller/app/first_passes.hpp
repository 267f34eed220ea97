#pragma once

#include <functional>
#include <mutex>
#include <set>

#include "base/memory.hpp"
#include "runtime/controller.hpp"

namespace app {

/// Runs a reconciler and calls `done` once every key that existed at the start has had its first
/// pass: from then on all tokens are known, and an unknown one is refused instead of asked to come
/// back.
class FirstPasses final : public runtime::Reconciler {
 public:
  FirstPasses(runtime::Reconciler& inner, std::function<void()> done)
      : inner_(inner), done_(std::move(done)) {}
  void Expect(const std::vector<meta::ObjectKey>& keys) {
    bool empty;
    {
      const std::lock_guard lock(mutex_);
      waiting_.insert(keys.begin(), keys.end());
      armed_ = true;
      empty = waiting_.empty();
    }
    if (empty) Fire();
  }
  base::Result<runtime::Requeue> Reconcile(const meta::ObjectKey& key,
                                           std::stop_token stop) override {
    // Also where it throws: one object must not keep all others waiting for the end.
    const Passed passed(*this, key);
    return inner_.Reconcile(key, stop);
  }

 private:
  class Passed {
   public:
    Passed(FirstPasses& all, const meta::ObjectKey& key) : all_(all), key_(key) {}
    Passed(const Passed&) = delete;
    Passed& operator=(const Passed&) = delete;
    ~Passed() { all_.NotePassed(key_); }

   private:
    FirstPasses& all_;
    const meta::ObjectKey& key_;
  };
  void NotePassed(const meta::ObjectKey& key) {
    bool last = false;
    {
      const std::lock_guard lock(mutex_);
      last = waiting_.erase(key) > 0 && armed_ && waiting_.empty();
    }
    if (last) Fire();
  }
  void Fire() {
    std::function<void()> done;
    {
      const std::lock_guard lock(mutex_);
      done.swap(done_);
    }
    if (!done) return;
    done();
    base::GiveBackFreeMemory();
  }

  runtime::Reconciler& inner_;
  std::mutex mutex_;
  std::set<meta::ObjectKey> waiting_;
  bool armed_ = false;
  std::function<void()> done_;
};

}  // namespace app
