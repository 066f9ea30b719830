// Streams of SSE2, for x86-64 without AVX. What is measured, and why so, stands in stream.cpp.
#if defined(__x86_64__)

#include "../../target.hpp"
#include "../stream.hpp"

namespace mb::stream {

#define MB_WITHOUT_AVX
namespace sse {
#include "../stream.inc"
}
#undef MB_WITHOUT_AVX

namespace {

// The loop of SSE2, which multiplies and adds apart; where AVX moves the same width it tells nothing more.
template <op what, class W, bool past>
kernel without_avx() {
  auto made = make<what, W, sse::loop, past>({"sse2"});
  auto& facts = made.facts;
  facts.unless = {facts.name};
  const std::string width = W::name;
  facts.name = std::string(word_of(what)) + "." + facts.dtype + "." + width + "_sse2" + (past ? "_nt" : "");
  facts.variant = width + "_sse2" + (past ? "_nt" : "");
  facts.reference_clock = std::string("clock.mul_add.") + facts.dtype + "." + W::name;
  if (facts.math != 0) apart(facts);
  return made;
}

MB_KERNEL(without_avx<op::read, word64, false>())
MB_KERNEL(without_avx<op::write, word64, false>())
MB_KERNEL(without_avx<op::copy, word64, false>())
MB_KERNEL(without_avx<op::triad, word64, false>())
MB_KERNEL(without_avx<op::read, v128, false>())
MB_KERNEL(without_avx<op::write, v128, false>())
MB_KERNEL(without_avx<op::write, v128, true>())
MB_KERNEL(without_avx<op::copy, v128, false>())
MB_KERNEL(without_avx<op::copy, v128, true>())
MB_KERNEL(without_avx<op::triad, v128, false>())
MB_KERNEL(without_avx<op::triad, v128, true>())

}  // namespace
}  // namespace mb::stream

#endif
