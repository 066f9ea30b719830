#include "team.hpp"

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <map>
#include <string>
#include <system_error>
#include <utility>

#include "clock.hpp"
#include "memory.hpp"
#include "topology.hpp"

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
  const int error = pin_thread(cpu);
  if (error != 0) throw cannot_run("cannot pin a thread to CPU " + std::to_string(cpu) + ": " + std::strerror(error));
}

long involuntary_switches() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
}

// Processor time of the calling thread.
std::int64_t own_ns() {
  timespec spent{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
  return spent.tv_sec * std::int64_t{1'000'000'000} + spent.tv_nsec;
}

// Whose turn it is among all teams of the process. Two jobs at once would measure each other, and would write to arrays
// that those on one CPU share.
std::mutex& turn() {
  static std::mutex mutex;
  return mutex;
}

std::mutex& naming() {
  static std::mutex mutex;
  return mutex;
}

// A child is forked off between tasks, so that it finds none of these locks taken by a thread that it has not got.
void fork_between_tasks() {
  static const int once = pthread_atfork(
      [] {
        turn().lock();
        naming().lock();
        memory::before_fork();
      },
      [] {
        memory::after_fork(false);
        naming().unlock();
        turn().unlock();
      },
      [] {
        memory::after_fork(true);
        naming().unlock();
        turn().unlock();
      });
  if (once != 0) throw cannot_run("the system refused to be asked before a fork; free some memory");
}

// Spins before a waiting thread offers its CPU to others: far above the time a team needs to arrive on CPUs of its own,
// so only teams with more threads than CPUs ever yield.
constexpr unsigned patience = 1u << 16;

// What a burst takes however late it is: a clock is told by the reference clocks on both sides of a sample.
constexpr unsigned least_pairs = 2;
// Room for all of them is made beforehand.
constexpr unsigned most_pairs = 1u << 20;

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

team::team(const std::vector<int>& cpus)
    : start_(static_cast<unsigned>(cpus.size())), failures_(cpus.size()), process_(getpid()) {
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
  fork_between_tasks();
  // A child that was forked off has none of its parent's threads, hence the process.
  static std::map<std::pair<pid_t, std::vector<int>>, std::weak_ptr<team>> teams;
  const std::lock_guard lock(naming());
  auto& known = teams[{getpid(), cpus}];
  auto found = known.lock();
  if (!found) {
    // In a child there is nobody to dismiss: what is left of the parent's team stays as it is.
    found = std::shared_ptr<team>(new team(cpus), [](team* old) {
      if (old->here()) delete old;
    });
    known = found;
  }
  return found;
}

bool team::here() const { return getpid() == process_; }

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
  if (!here()) throw cannot_run("this kernel was prepared before the process was forked off; prepare it anew");
  const std::lock_guard alone(turn());
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
  pthread_setname_np(pthread_self(), thread_name);
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

job::job(const kernel& what, const std::vector<int>& cpus, const parameters& given)
    : what_(what), contexts_(cpus.size()) {
  if (cpus.empty()) throw bad_parameter("a kernel needs at least one CPU");
  // Which node the memory comes from is asked of any kernel that has some.
  const auto& known = what_.facts.params;
  const bool has_memory = std::find(known.begin(), known.end(), "working_set") != known.end();
  constexpr std::int64_t most_nodes = 1 << 16;
  const auto node = has_memory ? static_cast<int>(integer(given, "node", -1, -1, most_nodes)) : -1;
  for (const auto& [name, ignored] : given)
    if (std::find(known.begin(), known.end(), name) == known.end() && !(has_memory && name == "node"))
      throw bad_parameter(what_.facts.name + " has no parameter " + name);
  team_ = team::of(cpus);
  try {
    team_->everywhere([&](unsigned thread) {
      auto& own = contexts_[thread];
      own = std::make_unique<context>();
      own->thread = thread;
      own->threads = team_->size();
      own->cpu = cpus[thread];
      own->seat = static_cast<unsigned>(std::count(cpus.begin(), cpus.begin() + thread, cpus[thread]));
      own->node = node;
      own->team = &team_->start();
      own->loop = what_.run;
      if (what_.configure != nullptr) what_.configure(*own, given);
    });
    for (auto& each : contexts_) each->leader = contexts_.front().get();
  } catch (...) {
    free();
    throw;
  }
}

job::~job() { free(); }

void job::free() {
  if (team_->here())
    team_->everywhere([this](unsigned thread) { contexts_[thread].reset(); });
  else
    contexts_.clear();
}

timing job::run(std::uint64_t iterations) {
  const auto one = take({.iterations = iterations});
  return {one.ns[0], one.iterations, one.right, one.switches, one.moved, one.away_ns};
}

burst job::take(const order& asked) {
  if (asked.iterations == 0) throw bad_parameter("a run needs at least one iteration");
  if (asked.count < 1 || asked.count > most_pairs)
    throw bad_parameter("a burst takes 1 to " + std::to_string(most_pairs) + " samples");
  if (asked.reference_clock != nullptr && asked.reference_iterations == 0)
    throw bad_parameter("a reference clock needs at least one iteration");
  if (asked.reference_clock != nullptr && asked.reference_clock->team_ != team_)
    throw bad_parameter("a reference clock must be on the same CPUs");
  session all{asked, now_ns(), std::vector<attendance>(team_->size()), asked.count};
  for (auto& each : all.threads) {
    each.own.spans.reserve(asked.count);
    each.reference_clock.spans.reserve(asked.reference_clock != nullptr ? asked.count : 0);
  }
  team_->everywhere([&](unsigned thread) { attend(thread, all); });

  burst total;
  total.iterations = all.threads[0].own.iterations;
  total.reference_iterations = all.threads[0].reference_clock.iterations;
  total.right = all.threads[0].own.right;
  const auto lasted = [&all](trace attendance::* which, std::size_t i) {
    auto whole = (all.threads[0].*which).spans[i];
    for (const auto& each : all.threads) {
      whole.start = std::min(whole.start, (each.*which).spans[i].start);
      whole.end = std::max(whole.end, (each.*which).spans[i].end);
    }
    return std::max<std::int64_t>(whole.end - whole.start, 1);
  };
  for (std::size_t i = 0; i < all.threads[0].own.spans.size(); ++i) total.ns.push_back(lasted(&attendance::own, i));
  for (std::size_t i = 0; i < all.threads[0].reference_clock.spans.size(); ++i)
    total.reference_ns.push_back(lasted(&attendance::reference_clock, i));
  for (const auto& each : all.threads) {
    total.iterations = std::min(total.iterations, each.own.iterations);
    total.reference_iterations = std::min(total.reference_iterations, each.reference_clock.iterations);
    if (each.own.right) total.right = *each.own.right && total.right.value_or(true);
    if (each.reference_clock.right == false) total.right = false;
    total.switches += each.switches;
    total.moved += each.moved ? 1 : 0;
    total.away_ns = std::max(total.away_ns, each.away_ns);
  }
  return total;
}

bool job::session::late() const { return now_ns() - from > asked.limit_ns; }

void job::attend(unsigned thread, session& all) {
  const auto& asked = all.asked;
  auto& mine = all.threads[thread];
  // A thread that failed goes on arriving at barriers: the others would wait for it for ever.
  const auto attempt = [&mine](const auto& what) {
    if (mine.failure) return;
    try {
      what();
    } catch (...) {
      mine.failure = std::current_exception();
    }
  };
  const auto before = involuntary_switches();
  const auto from = now_ns(), own_from = own_ns();
  for (unsigned pair = 0; pair < asked.count; ++pair) {
    attempt([&] { arm(thread, asked.iterations); });
    // Said before the barrier and heard behind it, by the number of the pair: so all leave together, however slow one
    // of them is.
    if (mine.failure || (thread == 0 && pair >= least_pairs && all.late()))
      all.end.store(pair, std::memory_order_relaxed);
    team_->start().arrive_and_wait();
    if (pair >= all.end.load(std::memory_order_relaxed)) break;
    attempt([&] { sample(thread, asked.iterations, mine.own); });
    if (asked.reference_clock == nullptr) continue;
    attempt([&] { asked.reference_clock->arm(thread, asked.reference_iterations); });
    team_->start().arrive_and_wait();
    attempt([&] { asked.reference_clock->sample(thread, asked.reference_iterations, mine.reference_clock); });
  }
  mine.switches = involuntary_switches() - before;
  mine.away_ns = std::max<std::int64_t>(now_ns() - from - (own_ns() - own_from), 0);
  mine.moved = sched_getcpu() != contexts_[thread]->cpu;
  if (mine.failure) std::rethrow_exception(mine.failure);
}

void job::arm(unsigned thread, std::uint64_t iterations) {
  if (what_.arm != nullptr) what_.arm(*contexts_[thread], iterations);
}

void job::sample(unsigned thread, std::uint64_t iterations, trace& seen) {
  auto& own = *contexts_[thread];
  span when;
  when.start = now_ns();
  seen.iterations = own.loop(own, iterations);
  when.end = now_ns();
  seen.spans.push_back(when);
  if (what_.check != nullptr) seen.right = what_.check(own, seen.iterations) && seen.right.value_or(true);
}

}  // namespace mb
