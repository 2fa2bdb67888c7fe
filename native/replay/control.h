// How other threads reach the vCPU thread: stop it, pause it, have it do something at a position.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>

namespace lockstep {

class Control {
 public:
  Control();
  ~Control();
  Control(const Control&) = delete;

  // ---- any thread
  void stop();
  void pause();
  void resume();
  // Runs `task` on the vCPU thread at its next position (or while it waits or is paused). After the
  // thread has ended, tasks run on the caller's thread.
  void post(std::function<void()> task);
  bool stopping() const { return stop_; }
  // Readable when the vCPU thread has something to look at.
  int fd() const { return event_fd_; }
  void on_poke(std::function<void()> kick);
  // The vCPU thread stands still in serve() until resume().
  bool parked() const;

  // ---- vCPU thread
  // Runs what was posted; stands still while paused. `on_pause` is told of each change.
  void serve();
  bool poked() const { return poked_.load(std::memory_order_relaxed); }
  std::function<void(bool paused)> on_pause;
  void thread_ended();

 private:
  void poke();
  std::atomic<bool> stop_{false}, poked_{false};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool paused_ = false, parked_ = false, ended_ = false;
  int event_fd_ = -1;
  std::function<void()> kick_;
};

}  // namespace lockstep
