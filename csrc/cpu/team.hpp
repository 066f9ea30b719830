// Pinned threads, one team for each list of CPUs, and jobs: one kernel on a team, timed from the first start to the
// last end.
//
// A plan keeps hundreds of jobs, so those on the same CPUs share their threads, which live as long as any of these jobs
// does and sleep between tasks. Every job has contexts of its own, filled and freed on the threads that use them. A run
// wakes the team, lets all arrive at a spinning barrier, and only then starts the clocks.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "../kernel.hpp"

namespace mb {

// Lets everybody go once all have come; spins, because a sleeping thread would start tens of microseconds late.
class barrier {
 public:
  explicit barrier(unsigned members) : members_(members) {}
  void arrive_and_wait();

 private:
  const unsigned members_;
  alignas(64) std::atomic<unsigned> arrived_ = 0;
  alignas(64) std::atomic<unsigned> generation_ = 0;
};

// What debuggers, profilers and /proc call a team's threads; the system takes 15 characters.
constexpr const char* thread_name = "microbench-team";

class team {
 public:
  // One thread pinned to each CPU named. Throws cannot_run, with no thread left behind.
  explicit team(const std::vector<int>& cpus);
  ~team();
  team(const team&) = delete;
  team& operator=(const team&) = delete;
  // The team of these CPUs that is alive in this process, or a new one.
  static std::shared_ptr<team> of(const std::vector<int>& cpus);

  unsigned size() const { return static_cast<unsigned>(threads_.size()); }
  barrier& start() { return start_; }
  // Does the task once on every thread, at the same time, and returns when all are done; callers take turns, those of
  // other teams too, which may have the same CPUs. What a thread throws reaches the caller, the first thread's before
  // the others'. Throws cannot_run in a process that was forked off: a child has none of its parent's threads.
  void everywhere(const std::function<void(unsigned thread)>& task);
  // Whether its threads are this process's.
  bool here() const;

 private:
  void live(int cpu, unsigned thread);
  void attempt(unsigned thread, const std::function<void(unsigned)>& task);
  void settle(std::unique_lock<std::mutex>& lock);
  void dismiss();

  barrier start_;
  std::vector<std::exception_ptr> failures_;
  std::vector<std::thread> threads_;
  const int process_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(unsigned)>* task_ = nullptr;
  std::uint64_t ticket_ = 0;  // one more for every task
  unsigned busy_ = 0;
  bool stop_ = false;
};

// What kept the threads of a burst from running as they should. `moved`: threads that were on another CPU than they
// were pinned to. `away_ns`: the longest that one of them did not run, although none ever sleeps in a burst.
struct timing {
  std::int64_t ns = 0;
  std::uint64_t iterations = 0;
  std::optional<bool> right;
  long switches = 0;
  unsigned moved = 0;
  std::int64_t away_ns = 0;
};

class job;

// What a burst takes: so many samples, each followed by one of the reference clock where there is one, until the time
// is up.
struct order {
  std::uint64_t iterations = 0;
  job* reference_clock = nullptr;
  std::uint64_t reference_iterations = 0;
  unsigned count = 1;
  std::int64_t limit_ns = std::numeric_limits<std::int64_t>::max();
};

struct burst {
  std::vector<std::int64_t> ns, reference_ns;
  std::uint64_t iterations = 0, reference_iterations = 0;
  std::optional<bool> right;
  long switches = 0;
  unsigned moved = 0;
  std::int64_t away_ns = 0;
};

class job {
 public:
  // One thread per CPU named. Throws bad_parameter, cannot_run or std::bad_alloc, with nothing left behind.
  job(const kernel& what, const std::vector<int>& cpus, const parameters& given);
  ~job();
  job(const job&) = delete;
  job& operator=(const job&) = delete;

  timing run(std::uint64_t iterations);
  // The threads neither sleep nor leave between samples. The reference clock must be another job on the same CPUs. A
  // sample is never cut short, and at least two pairs are taken.
  burst take(const order& asked);

 private:
  struct span {
    std::int64_t start = 0, end = 0;
  };
  // What one thread saw of one job.
  struct trace {
    std::vector<span> spans;
    std::uint64_t iterations = 0;
    std::optional<bool> right;
  };
  struct attendance {
    trace own, reference_clock;
    long switches = 0;
    bool moved = false;
    std::int64_t away_ns = 0;
    std::exception_ptr failure;
  };
  struct session {
    const order asked;
    const std::int64_t from;
    std::vector<attendance> threads;
    std::atomic<unsigned> end;  // the first pair that is not taken
    bool late() const;
  };

  void attend(unsigned thread, session& all);
  void arm(unsigned thread, std::uint64_t iterations);
  void sample(unsigned thread, std::uint64_t iterations, trace& seen);
  void free();

  const kernel what_;
  std::shared_ptr<team> team_;
  std::vector<std::unique_ptr<context>> contexts_;  // each belongs to a thread; the team's tasks take turns
};

}  // namespace mb
