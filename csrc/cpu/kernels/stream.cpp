// Rates at which one core and all of them read, write, copy and add what lies in memory: 1, 1, 2 and 3 arrays, as bytes
// that the loop asks for. What a store fetches before it overwrites a line is not counted.
//
// The working set decides which level answers. Nominal in level 1: as many loads and stores a cycle as the core has
// ports for them (two 512-bit loads and one store on x86 server cores; three 256-bit loads from Golden Cove on). An
// iteration has at least 16 loads, or its counter and branch would show, and no branch at the end of a pass. Reads are
// 4 KiB an iteration, because no load may stride evenly by less (see memory::walk). Beyond level 2 a single stream is
// limited by the misses that the prefetchers keep outstanding: parameter `streams` walks several pages side by side,
// `prefetch` asks for lines so many bytes ahead, `_nt` variants store past the caches, `group` is how many registers
// are loaded before they are stored: stores one by one cost level 1 of some cores and are what others need for two
// loads and a store a cycle; many together cost level 2. None of them wins everywhere, so each is a case of its own.
// With `cold` every launch evicts beforehand what it will touch, so that main memory answers however large a last level
// is and whoever else has just read the same array.
//
// Proof of each launch: reads add up four registers of every iteration, whose sum says where they came from; before a
// launch some lines it will write are poisoned, and all must be right after it.
#include "../stream.hpp"

#include "../../target.hpp"

namespace mb::stream {

#if defined(__x86_64__)

MB_TARGET_BEGIN("avx2,fma")
namespace vex {
#include "../stream.inc"
}
MB_TARGET_END

#define MB_APART
MB_TARGET_BEGIN("avx2,fma")
namespace vex_apart {
#include "../stream.inc"
}
MB_TARGET_END
#undef MB_APART

#elif defined(__aarch64__)

namespace base {
#include "../stream.inc"
}

#endif

namespace {

#if defined(__x86_64__)

// A triad of two instructions in the place of the fused one. Seen on Zen 3 in level 1: 309 GB/s steadily, where the
// fused one stays at 211 but for some moments, with as many loads and stores.
kernel unfused() {
  auto made = make<op::triad, v256, vex_apart::loop, false>({"avx"});
  auto& facts = made.facts;
  facts.name += "_unfused";
  facts.variant += "_unfused";
  apart(facts);
  return made;
}

MB_KERNEL(make<op::read, word64, vex::loop, false>({"avx"}))
MB_KERNEL(make<op::write, word64, vex::loop, false>({"avx"}))
MB_KERNEL(make<op::copy, word64, vex::loop, false>({"avx"}))
MB_KERNEL(make<op::triad, word64, vex::loop, false>({"avx", "fma"}))
MB_KERNEL(make<op::read, v128, vex::loop, false>({"avx"}))
MB_KERNEL(make<op::write, v128, vex::loop, false>({"avx"}))
MB_KERNEL(make<op::write, v128, vex::loop, true>({"avx"}))
MB_KERNEL(make<op::copy, v128, vex::loop, false>({"avx"}))
MB_KERNEL(make<op::copy, v128, vex::loop, true>({"avx"}))
MB_KERNEL(make<op::triad, v128, vex::loop, false>({"avx", "fma"}))
MB_KERNEL(make<op::triad, v128, vex::loop, true>({"avx", "fma"}))
MB_KERNEL(make<op::read, v256, vex::loop, false>({"avx2"}))
MB_KERNEL(make<op::write, v256, vex::loop, false>({"avx"}))
MB_KERNEL(make<op::write, v256, vex::loop, true>({"avx"}))
MB_KERNEL(make<op::copy, v256, vex::loop, false>({"avx"}))
MB_KERNEL(make<op::copy, v256, vex::loop, true>({"avx"}))
MB_KERNEL(make<op::triad, v256, vex::loop, false>({"avx", "fma"}))
MB_KERNEL(make<op::triad, v256, vex::loop, true>({"avx", "fma"}))
MB_KERNEL(unfused())

#elif defined(__aarch64__)

MB_KERNEL(make<op::read, word64, base::loop, false>({"asimd"}))
MB_KERNEL(make<op::write, word64, base::loop, false>({"asimd"}))
MB_KERNEL(make<op::copy, word64, base::loop, false>({"asimd"}))
MB_KERNEL(make<op::triad, word64, base::loop, false>({"asimd"}))
MB_KERNEL(make<op::read, v128, base::loop, false>({"asimd"}))
MB_KERNEL(make<op::write, v128, base::loop, false>({"asimd"}))
MB_KERNEL(make<op::write, v128, base::loop, true>({"asimd"}))
MB_KERNEL(make<op::copy, v128, base::loop, false>({"asimd"}))
MB_KERNEL(make<op::copy, v128, base::loop, true>({"asimd"}))
MB_KERNEL(make<op::triad, v128, base::loop, false>({"asimd"}))
MB_KERNEL(make<op::triad, v128, base::loop, true>({"asimd"}))

#endif

}  // namespace
}  // namespace mb::stream
