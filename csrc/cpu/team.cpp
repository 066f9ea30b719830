#include "team.hpp"

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <string>
#include <system_error>
#include <utility>

#include "clock.hpp"

namespace mb {
namespace {

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  asm volatile("yield");
#endif
}

void pin(int cpu) {
  if (cpu < 0 || cpu >= CPU_SETSIZE) throw cannot_run("CPU " + std::to_string(cpu) + " is no CPU number");
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<unsigned>(cpu), &set);
  const int error = pthread_setaffinity_np(pthread_self(), sizeof set, &set);
  if (error != 0) throw cannot_run("cannot pin a thread to CPU " + std::to_string(cpu) + ": " + std::strerror(error));
}

long involuntary_switches() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
}

// Spins before a waiting thread offers its CPU to others: far above the time a team needs to arrive on CPUs of its own, so only
// teams with more threads than CPUs ever yield.
constexpr unsigned patience = 1u << 16;

}  // namespace

void barrier::arrive_and_wait() {
  const auto mine = generation_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members_) {
    arrived_.store(0, std::memory_order_relaxed);
    generation_.store(mine + 1, std::memory_order_release);
    return;
  }
  for (unsigned spins = 0; generation_.load(std::memory_order_acquire) == mine; ++spins)
    if (spins < patience)
      relax();
    else
      sched_yield();
}

team::team(const std::vector<int>& cpus) : start_(static_cast<unsigned>(cpus.size())), failures_(cpus.size()) {
  busy_ = static_cast<unsigned>(cpus.size());
  threads_.reserve(cpus.size());
  try {
    for (unsigned i = 0; i < cpus.size(); ++i) threads_.emplace_back(&team::live, this, cpus[i], i);
  } catch (const std::system_error& error) {
    dismiss();
    throw cannot_run("cannot start thread " + std::to_string(threads_.size() + 1) + ": " + error.what());
  }
  try {
    std::unique_lock lock(mutex_);
    settle(lock);
  } catch (...) {
    dismiss();
    throw;
  }
}

team::~team() { dismiss(); }

std::shared_ptr<team> team::of(const std::vector<int>& cpus) {
  // A child that was forked off has none of its parent's threads, hence the process.
  static std::mutex mutex;
  static std::map<std::pair<pid_t, std::vector<int>>, std::weak_ptr<team>> teams;
  const std::lock_guard lock(mutex);
  auto& known = teams[{getpid(), cpus}];
  auto found = known.lock();
  if (!found) known = found = std::make_shared<team>(cpus);
  return found;
}

void team::dismiss() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (auto& thread : threads_)
    if (thread.joinable()) thread.join();
}

// Waits until all are idle, and passes on what went wrong.
void team::settle(std::unique_lock<std::mutex>& lock) {
  done_.wait(lock, [this] { return busy_ == 0; });
  for (auto& failure : failures_)
    if (failure) {
      const auto first = std::exchange(failure, nullptr);
      std::fill(failures_.begin(), failures_.end(), nullptr);
      std::rethrow_exception(first);
    }
}

void team::everywhere(const std::function<void(unsigned)>& task) {
  const std::lock_guard alone(calling_);
  std::unique_lock lock(mutex_);
  task_ = &task;
  busy_ = size();
  ++ticket_;
  wake_.notify_all();
  settle(lock);
}

void team::attempt(unsigned thread, const std::function<void(unsigned)>& task) {
  try {
    task(thread);
  } catch (...) {
    failures_[thread] = std::current_exception();
  }
}

void team::live(int cpu, unsigned thread) {
  attempt(thread, [cpu](unsigned) { pin(cpu); });
  std::uint64_t seen = 0;
  std::unique_lock lock(mutex_);
  for (;;) {
    if (--busy_ == 0) done_.notify_one();
    wake_.wait(lock, [&] { return stop_ || ticket_ != seen; });
    if (stop_) return;
    seen = ticket_;
    const auto* const task = task_;
    lock.unlock();
    attempt(thread, *task);
    lock.lock();
  }
}

job::job(const kernel& what, const std::vector<int>& cpus, const parameters& given) : what_(what), members_(cpus.size()) {
  if (cpus.empty()) throw bad_parameter("a kernel needs at least one CPU");
  for (const auto& [name, ignored] : given)
    if (std::find(what_.facts.params.begin(), what_.facts.params.end(), name) == what_.facts.params.end())
      throw bad_parameter(what_.facts.name + " has no parameter " + name);
  team_ = team::of(cpus);
  try {
    team_->everywhere([&](unsigned thread) {
      auto& own = members_[thread].own;
      own = std::make_unique<context>();
      own->thread = thread;
      own->threads = team_->size();
      own->cpu = cpus[thread];
      own->team = &team_->start();
      own->loop = what_.run;
      if (what_.configure != nullptr) what_.configure(*own, given);
    });
  } catch (...) {
    free();
    throw;
  }
}

job::~job() { free(); }

void job::free() {
  team_->everywhere([this](unsigned thread) { members_[thread].own.reset(); });
}

timing job::run(std::uint64_t iterations) {
  if (iterations == 0) throw bad_parameter("a run needs at least one iteration");
  const std::lock_guard alone(running_);
  team_->everywhere([&](unsigned thread) { sample(members_[thread], iterations); });

  timing total{0, members_[0].iterations, members_[0].right, 0};
  std::int64_t first = members_[0].start, last = members_[0].end;
  for (const auto& each : members_) {
    first = std::min(first, each.start);
    last = std::max(last, each.end);
    total.iterations = std::min(total.iterations, each.iterations);
    if (each.right) total.right = *each.right && total.right.value_or(true);
    total.switches += each.switches;
  }
  total.ns = std::max<std::int64_t>(last - first, 1);
  return total;
}

void job::sample(member& self, std::uint64_t iterations) {
  std::exception_ptr unarmed;
  try {
    if (what_.arm != nullptr) what_.arm(*self.own, iterations);
  } catch (...) {
    unarmed = std::current_exception();
  }
  const auto before = involuntary_switches();
  // Also where arming failed: the others wait here.
  team_->start().arrive_and_wait();
  if (unarmed) std::rethrow_exception(unarmed);
  self.start = now_ns();
  self.iterations = self.own->loop(*self.own, iterations);
  self.end = now_ns();
  self.switches = involuntary_switches() - before;
  if (what_.check != nullptr) self.right = what_.check(*self.own, self.iterations);
}

}  // namespace mb
