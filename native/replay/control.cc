#include "replay/control.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "error.h"

namespace lockstep {

Control::Control() : event_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (event_fd_ < 0) throw_system("ERR_LOCKSTEP_RESOURCES", "eventfd", "eventfd");
}

Control::~Control() { close(event_fd_); }

// The descriptor before the flag: the other way round serve() could clear the flag and leave the descriptor
// readable, and who waits for it would spin.
void Control::poke() {
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = write(event_fd_, &one, 8);
  poked_ = true;
  std::lock_guard lock(mutex_);
  changed_.notify_all();
  if (kick_) kick_();
}

void Control::on_poke(std::function<void()> kick) {
  std::lock_guard lock(mutex_);
  kick_ = std::move(kick);
}

bool Control::parked() const {
  std::lock_guard lock(mutex_);
  return parked_;
}

void Control::stop() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  poke();
}

void Control::pause() {
  {
    std::lock_guard lock(mutex_);
    paused_ = true;
  }
  poke();
}

void Control::resume() {
  {
    std::lock_guard lock(mutex_);
    paused_ = parked_ = false;
  }
  poke();
}

void Control::post(std::function<void()> task) {
  {
    std::lock_guard lock(mutex_);
    if (!ended_) {
      tasks_.push_back(std::move(task));
      task = nullptr;
    }
  }
  if (task)
    task();
  else
    poke();
}

void Control::serve() {
  std::unique_lock lock(mutex_);
  poked_ = false;
  uint64_t count;
  [[maybe_unused]] ssize_t got = read(event_fd_, &count, 8);
  bool was_paused = false;
  for (;;) {
    // Before the tasks: one of them tells whoever asked for the pause that it is so.
    parked_ = paused_ && !stop_;
    if (parked_ && !was_paused) {
      was_paused = true;
      lock.unlock();
      if (on_pause) on_pause(true);
      lock.lock();
    } else if (!tasks_.empty()) {
      auto task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      lock.lock();
    } else if (parked_) {
      changed_.wait(lock, [&] { return !paused_ || stop_ || !tasks_.empty(); });
    } else {
      break;
    }
  }
  lock.unlock();
  if (was_paused && on_pause) on_pause(false);
}

void Control::thread_ended() {
  std::deque<std::function<void()>> tasks;
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
    tasks.swap(tasks_);
  }
  for (auto& task : tasks) task();
}

}  // namespace lockstep
