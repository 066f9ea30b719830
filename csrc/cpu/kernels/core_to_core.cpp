// The time that a cache line takes from one core to another: two threads take turns at writing it.
//
// Thread 0 writes an odd number and waits for the even one that thread 1 answers with, so that an iteration is a way
// there and a way back, each of them the transfer of a line that the other core has just changed. Nobody sleeps and
// nobody pauses while waiting, which would be most of what is timed. More threads play in twos; one without a partner
// answers itself. Nominal: nobody publishes any; twice or thrice the load-to-use latency of the level that both share.
//
// Proof: each thread counts the turns of its partner that it saw, in their order.
#include <sched.h>

#include <memory>
#include <vector>

#include "../memory.hpp"
#include "../team.hpp"

namespace mb::transfer {
namespace {

// A pair of lines, because some cores fetch two at a time.
struct alignas(2 * memory::line) turn {
  std::atomic<std::uint64_t> taken = 0;
};

using table = std::vector<turn>;

turn& line_of(const context& own) { return static_cast<table*>(own.leader->state.get())->at(own.thread / 2); }

// Two threads on one CPU would wait for each other's time slices.
constexpr unsigned patience = 1u << 16;

void await(const turn& line, std::uint64_t number) {
  for (unsigned spins = 0; line.taken.load(std::memory_order_acquire) != number; ++spins)
    if (spins >= patience) sched_yield();
}

void configure(context& own, const parameters&) {
  if (own.thread == 0) own.state = std::make_shared<table>((own.threads + 1) / 2);
}

void arm(context& own, std::uint64_t) {
  if (own.thread % 2 == 0) line_of(own).taken.store(0, std::memory_order_release);
}

}  // namespace

struct ping_pong {
  [[gnu::noinline]] static std::uint64_t run(context& own, std::uint64_t iterations) {
    auto& line = line_of(own);
    const bool first = own.thread % 2 == 0, alone = first && own.thread + 1 == own.threads;
    own.result = 0;
    for (std::uint64_t turns = 0; turns != 2 * iterations; turns += 2) {
      if (first) line.taken.store(turns + 1, std::memory_order_release);
      if (!first || alone) {
        await(line, turns + 1);
        line.taken.store(turns + 2, std::memory_order_release);
      }
      if (first) await(line, turns + 2);
      ++own.result;
    }
    return iterations;
  }
};

namespace {

bool counted(const context& own, std::uint64_t iterations) { return own.result == iterations; }

MB_KERNEL({{.name = "core_to_core",
            .measures = "cost",
            .roles = {"transfer"},
            .says = "a cache line goes to another core and comes back",
            .symbol = symbol_of<ping_pong>()},
           ping_pong::run,
           configure,
           counted,
           arm})

}  // namespace
}  // namespace mb::transfer
