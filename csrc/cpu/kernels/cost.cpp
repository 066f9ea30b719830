// What a CPU pays before any work is done: starting a thread, passing a barrier, reading the clock. Seconds per
// iteration.
#include <thread>

#include "../clock.hpp"
#include "../team.hpp"

namespace mb::cost {

// Created, run and joined: what a parallel region without a pool pays for each thread. It starts on the CPU of its
// parent.
struct thread_start {
  [[gnu::noinline]] static std::uint64_t run(context& own, std::uint64_t iterations) {
    own.result = 0;
    for (auto count = iterations; count != 0; --count) std::thread([&own] { ++own.result; }).join();
    return iterations;
  }
};

// The spinning barrier that every timed run starts with, passed by all threads of the team.
struct team_barrier {
  [[gnu::noinline]] static std::uint64_t run(context& own, std::uint64_t iterations) {
    for (auto count = iterations; count != 0; --count) own.team->arrive_and_wait();
    own.result = iterations;
    return iterations;
  }
};

struct timer {
  [[gnu::noinline]] static std::uint64_t run(context& own, std::uint64_t iterations) {
    std::int64_t before = now_ns();
    bool forward = true;
    for (auto count = iterations; count != 0; --count) {
      const auto now = now_ns();
      forward = forward && now >= before;
      before = now;
    }
    own.result = forward ? iterations : 0;
    return iterations;
  }
};

namespace {

bool counted(const context& own, std::uint64_t iterations) { return own.result == iterations; }

template <class Loop>
kernel row(const char* name, const char* says) {
  return {{.name = name, .measures = "cost", .roles = {"cost"}, .says = says, .symbol = symbol_of<Loop>()},
          Loop::run,
          nullptr,
          counted};
}

MB_KERNEL(row<team_barrier>("cost.barrier", "all threads pass one spinning barrier"))
MB_KERNEL(row<timer>("cost.timer", "one reading of the monotonic clock"))
MB_KERNEL(row<thread_start>("cost.thread_start", "one thread created, run and joined"))

}  // namespace
}  // namespace mb::cost
