// Streams of AVX-512. What is measured, and why so, stands in stream.cpp.
#if defined(__x86_64__)

#include "../../target.hpp"
#include "../stream.hpp"

namespace mb::stream {

MB_TARGET_BEGIN("avx512f")
namespace evex {
#include "../stream.inc"
}
MB_TARGET_END

namespace {

MB_KERNEL(make<op::read, v512, evex::loop, false>({"avx512f"}))
MB_KERNEL(make<op::write, v512, evex::loop, false>({"avx512f"}))
MB_KERNEL(make<op::write, v512, evex::loop, true>({"avx512f"}))
MB_KERNEL(make<op::copy, v512, evex::loop, false>({"avx512f"}))
MB_KERNEL(make<op::copy, v512, evex::loop, true>({"avx512f"}))
MB_KERNEL(make<op::triad, v512, evex::loop, false>({"avx512f"}))
MB_KERNEL(make<op::triad, v512, evex::loop, true>({"avx512f"}))

}  // namespace
}  // namespace mb::stream

#endif
