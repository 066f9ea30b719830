// Kernels that are wrong on purpose, and one that is right, over the registry and the check of the real ones. Plain
// C++: what the real loops do with instructions is done here lane by lane, and each flaw leaves out or mixes up one
// thing.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "cpu/multiply_add.hpp"

namespace mb::wrong {

using op = fma_f32;
using width = v128;
enum class flaw {
  none,
  drops_an_iteration,
  drops_a_step,
  skips_a_chain,
  skips_a_lane,
  permutes_an_operand,
  never_turns,
  rounds_up
};

template <flaw which>
struct loop {
  static std::uint64_t run(context& own, std::uint64_t iterations) {
    auto& held = operands_of(own);
    float a[4], b[4];
    std::memcpy(a, held.a, sizeof a);
    std::memcpy(b, held.b, sizeof b);
    if (which == flaw::permutes_an_operand) std::swap(a[0], a[1]);
    for (int chain = 0; chain < op::chains; ++chain) {
      float sum[4];
      std::memcpy(sum, held.start[chain], sizeof sum);
      for (std::uint64_t done = which == flaw::drops_an_iteration ? 1 : 0; done < iterations; ++done) {
        const bool down = which != flaw::never_turns && done / exact::period<as_f32>(op::steps, op::depth) % 2 == 1;
        for (int step = which == flaw::drops_a_step ? 1 : 0; step < op::steps; ++step)
          for (int lane = which == flaw::skips_a_lane ? 1 : 0; lane < 4; ++lane)
            sum[lane] += (down ? -a[lane] : a[lane]) * b[lane];
      }
      if (which == flaw::rounds_up) sum[3] += 0.5F;
      if (which != flaw::skips_a_chain || chain + 1 < op::chains) std::memcpy(held.result[chain], sum, sizeof sum);
    }
    return iterations;
  }
};

template <flaw which>
kernel row(const char* name) {
  return {{.name = name,
           .measures = "compute",
           .says = "wrong on purpose",
           .math = op::math,
           .symbol = symbol_of<loop<which>>()},
          loop<which>::run,
          [](context& own, const parameters&) { fill<op, width>(own); },
          check<op, width>};
}

MB_KERNEL(row<flaw::none>("wrong.none"))
MB_KERNEL(row<flaw::drops_an_iteration>("wrong.drops_an_iteration"))
MB_KERNEL(row<flaw::drops_a_step>("wrong.drops_a_step"))
MB_KERNEL(row<flaw::skips_a_chain>("wrong.skips_a_chain"))
MB_KERNEL(row<flaw::skips_a_lane>("wrong.skips_a_lane"))
MB_KERNEL(row<flaw::permutes_an_operand>("wrong.permutes_an_operand"))
MB_KERNEL(row<flaw::never_turns>("wrong.never_turns"))
MB_KERNEL(row<flaw::rounds_up>("wrong.rounds_up"))

// Fails on one thread of several, which the others must not wait for.
struct deserter {
  static std::uint64_t run(context& own, std::uint64_t iterations) {
    if (own.threads > 1 && own.thread + 1 == own.threads) throw std::runtime_error("the last thread has gone");
    return iterations;
  }
};

MB_KERNEL({{.name = "wrong.deserts", .measures = "cost", .says = "wrong on purpose", .symbol = symbol_of<deserter>()},
           deserter::run})

}  // namespace mb::wrong
