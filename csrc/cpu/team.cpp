#include "team.hpp"

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

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

job::job(const kernel& what, const std::vector<int>& cpus, const parameters& given)
    : what_(what), given_(given), start_(static_cast<unsigned>(cpus.size())), members_(cpus.size()) {
  if (cpus.empty()) throw bad_parameter("a kernel needs at least one CPU");
  for (const auto& [name, ignored] : given_)
    if (std::find(what_.facts.params.begin(), what_.facts.params.end(), name) == what_.facts.params.end())
      throw bad_parameter(what_.facts.name + " has no parameter " + name);
  busy_ = static_cast<unsigned>(cpus.size());
  try {
    for (unsigned i = 0; i < cpus.size(); ++i) threads_.emplace_back(&job::live, this, std::ref(members_[i]), cpus[i], i);
  } catch (const std::system_error& error) {
    busy_ -= static_cast<unsigned>(cpus.size() - threads_.size());
    finish();
    throw cannot_run("cannot start thread " + std::to_string(threads_.size() + 1) + ": " + error.what());
  }
  std::unique_lock lock(mutex_);
  wait_for_all(lock);
  lock.unlock();
  for (const auto& each : members_)
    if (each.failure) {
      finish();
      std::rethrow_exception(each.failure);
    }
}

job::~job() { finish(); }

void job::finish() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (auto& thread : threads_)
    if (thread.joinable()) thread.join();
}

void job::wait_for_all(std::unique_lock<std::mutex>& lock) {
  done_.wait(lock, [this] { return busy_ == 0; });
}

timing job::run(std::uint64_t iterations) {
  if (iterations == 0) throw bad_parameter("a run needs at least one iteration");
  const std::lock_guard alone(calling_);
  std::unique_lock lock(mutex_);
  asked_ = iterations;
  busy_ = static_cast<unsigned>(members_.size());
  ++ticket_;
  wake_.notify_all();
  wait_for_all(lock);

  timing total{0, members_[0].iterations, members_[0].right, 0};
  std::int64_t first = members_[0].start, last = members_[0].end;
  for (const auto& each : members_) {
    if (each.failure) std::rethrow_exception(each.failure);
    first = std::min(first, each.start);
    last = std::max(last, each.end);
    total.iterations = std::min(total.iterations, each.iterations);
    if (each.right) total.right = *each.right && total.right.value_or(true);
    total.switches += each.switches;
  }
  total.ns = std::max<std::int64_t>(last - first, 1);
  return total;
}

void job::live(member& self, int cpu, unsigned index) {
  try {
    pin(cpu);
    self.own = std::make_unique<context>();
    self.own->thread = index;
    self.own->threads = static_cast<unsigned>(members_.size());
    self.own->cpu = cpu;
    self.own->team = &start_;
    self.own->loop = what_.run;
    if (what_.configure != nullptr) what_.configure(*self.own, given_);
  } catch (...) {
    self.failure = std::current_exception();
  }
  std::uint64_t seen = 0;
  std::unique_lock lock(mutex_);
  for (;;) {
    if (--busy_ == 0) done_.notify_one();
    wake_.wait(lock, [&] { return stop_ || ticket_ != seen; });
    if (stop_) break;
    seen = ticket_;
    const auto iterations = asked_;
    lock.unlock();
    sample(self, iterations);
    lock.lock();
  }
  lock.unlock();
  self.own.reset();
}

void job::sample(member& self, std::uint64_t iterations) {
  try {
    if (what_.arm != nullptr) what_.arm(*self.own, iterations);
    const auto before = involuntary_switches();
    start_.arrive_and_wait();
    self.start = now_ns();
    self.iterations = self.own->loop(*self.own, iterations);
    self.end = now_ns();
    self.switches = involuntary_switches() - before;
    if (what_.check != nullptr) self.right = what_.check(*self.own, self.iterations);
  } catch (...) {
    self.failure = std::current_exception();
  }
}

}  // namespace mb
