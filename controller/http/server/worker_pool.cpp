#include "http/server/worker_pool.hpp"

#include <pthread.h>
#include <signal.h>

#include <thread>

#include "base/thread_name.hpp"

namespace http {

WorkerPool::WorkerPool(int threads, size_t limit) : state_(std::make_shared<State>()) {
  state_->limit = limit;
  state_->threads = static_cast<size_t>(threads);
  for (int i = 0; i < threads; ++i) std::thread([state = state_] { Run(state); }).detach();
}

WorkerPool::~WorkerPool() { Stop(base::MonoTime{}); }

void WorkerPool::Run(const std::shared_ptr<State>& state) {
  sigset_t blocked;
  ::sigfillset(&blocked);
  ::pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
  base::NameThread("http-worker");
  std::unique_lock lock(state->mutex);
  while (true) {
    state->work_ready.wait(lock, [&] { return state->stopped || !state->queue.empty(); });
    if (state->stopped) break;
    Work work = std::move(state->queue.front());
    state->queue.pop_front();
    ++state->running;
    lock.unlock();
    work();
    work = nullptr;  // Its captures die outside of the lock.
    lock.lock();
    --state->running;
    state->changed.notify_all();
  }
  --state->threads;
  state->changed.notify_all();
}

bool WorkerPool::Submit(Work work) {
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->stopped || state_->queue.size() + state_->running >= state_->limit) return false;
    state_->queue.push_back(std::move(work));
  }
  state_->work_ready.notify_one();
  return true;
}

bool WorkerPool::Full() const {
  const std::lock_guard lock(state_->mutex);
  return state_->stopped || state_->queue.size() + state_->running >= state_->limit;
}

bool WorkerPool::WaitIdle(base::MonoTime deadline) {
  std::unique_lock lock(state_->mutex);
  return state_->changed.wait_until(lock, deadline,
                                    [&] { return state_->queue.empty() && state_->running == 0; });
}

bool WorkerPool::Stop(base::MonoTime deadline) {
  std::deque<Work> dropped;
  std::unique_lock lock(state_->mutex);
  state_->stopped = true;
  dropped.swap(state_->queue);
  state_->work_ready.notify_all();
  lock.unlock();
  dropped.clear();
  lock.lock();
  return state_->changed.wait_until(lock, deadline, [&] { return state_->threads == 0; });
}

}  // namespace http
