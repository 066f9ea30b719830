// One kernel on a team of pinned threads, timed from the first start to the last end.
//
// The threads are made once, fill their own contexts and then sleep between runs, so that a job that is only kept around takes no
// CPU from the one that is timed. A run wakes them, lets all arrive at a spinning barrier, and only then starts the clocks.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
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

struct timing {
  std::int64_t ns = 0;
  std::uint64_t iterations = 0;
  std::optional<bool> right;
  long switches = 0;
};

class job {
 public:
  // One thread per CPU named. Throws bad_parameter, cannot_run or std::bad_alloc, with no thread left behind.
  job(const kernel& what, const std::vector<int>& cpus, const parameters& given);
  ~job();
  job(const job&) = delete;
  job& operator=(const job&) = delete;

  timing run(std::uint64_t iterations);

 private:
  struct member {
    std::unique_ptr<context> own;
    std::int64_t start = 0, end = 0;
    std::uint64_t iterations = 0;
    std::optional<bool> right;
    long switches = 0;
    std::exception_ptr failure;
  };

  void live(member& self, int cpu, unsigned index);
  void sample(member& self, std::uint64_t iterations);
  void finish();
  void wait_for_all(std::unique_lock<std::mutex>& lock);

  const kernel what_;
  const parameters given_;
  barrier start_;
  std::vector<member> members_;
  std::vector<std::thread> threads_;
  std::mutex calling_;  // one caller at a time
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::uint64_t ticket_ = 0;  // one more for every run
  std::uint64_t asked_ = 0;
  unsigned busy_ = 0;
  bool stop_ = false;
};

}  // namespace mb
