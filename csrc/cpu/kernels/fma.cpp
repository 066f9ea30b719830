// Fused multiply-add rates of f64, f32 and f16, one row per register width.
//
// The loop (multiply_add.inc) holds enough independent accumulators to cover latency x ports and does nothing but
// multiply-adds, so the ports are what limits it. Nominal: lanes x 2 FLOP x FMA ports x clock; two ports of every width
// on the x86 server cores of the last ten years, two to four 128-bit pipes on aarch64. Scalars use the same ports with
// one lane.
#include <algorithm>
#include <utility>

#include "../../target.hpp"
#include "../multiply_add.hpp"

namespace mb::fma {

#if defined(__x86_64__)

MB_TARGET_BEGIN("avx,fma")
namespace vex {
#include "../multiply_add.inc"
}
MB_TARGET_END

MB_TARGET_BEGIN("avx512f,avx512bw,avx512vl")
namespace evex {
#include "../multiply_add.inc"
}
MB_TARGET_END

namespace {

template <class Op, class Width>
std::vector<kernel> narrow() {
  return vex::measured<Op, Width>::kernels({"fma",
                                            Width::name,
                                            std::string("fma.") + Width::name,
                                            {"avx", "fma"},
                                            "independent fused multiply-adds (FMA3)"});
}

template <class Op, class Width>
std::vector<kernel> wide() {
  return evex::measured<Op, Width>::kernels({"fma",
                                             Width::name,
                                             std::string("fma.") + Width::name,
                                             {"avx512f"},
                                             "independent fused multiply-adds (AVX-512)"});
}

template <class Width>
std::vector<kernel> half() {
  return evex::measured<fma_f16, Width>::kernels({"fma",
                                                  Width::name,
                                                  std::string("fma.") + Width::name,
                                                  {"avx512vl", "avx512_fp16"},
                                                  "independent fused multiply-adds (AVX512-FP16)"});
}

MB_KERNEL(narrow<fma_f64, scalar>())
MB_KERNEL(narrow<fma_f64, v128>())
MB_KERNEL(narrow<fma_f64, v256>())
MB_KERNEL(wide<fma_f64, v512>())
MB_KERNEL(narrow<fma_f32, scalar>())
MB_KERNEL(narrow<fma_f32, v128>())
MB_KERNEL(narrow<fma_f32, v256>())
MB_KERNEL(wide<fma_f32, v512>())
MB_KERNEL(half<scalar>())
MB_KERNEL(half<v128>())
MB_KERNEL(half<v256>())
MB_KERNEL(half<v512>())

}  // namespace

#elif defined(__aarch64__)

namespace base {
#include "../multiply_add.inc"
}

MB_TARGET_BEGIN("arch=armv8.2-a+fp16")
namespace fp16 {
#include "../multiply_add.inc"
}
MB_TARGET_END

namespace {

template <class Op, class Width>
std::vector<kernel> neon() {
  return base::measured<Op, Width>::kernels({"fma",
                                             Width::name,
                                             std::string("fma.") + Width::name,
                                             {"asimd"},
                                             "independent fused multiply-adds (NEON)",
                                             false});
}

template <class Width>
std::vector<kernel> half() {
  return fp16::measured<fma_f16, Width>::kernels({"fma",
                                                  Width::name,
                                                  std::string("fma.") + Width::name,
                                                  {"asimdhp"},
                                                  "independent fused multiply-adds (NEON, FP16)",
                                                  false});
}

MB_KERNEL(neon<fma_f64, scalar>())
MB_KERNEL(neon<fma_f64, v128>())
MB_KERNEL(neon<fma_f32, scalar>())
MB_KERNEL(neon<fma_f32, v128>())
MB_KERNEL(half<scalar>())
MB_KERNEL(half<v128>())

}  // namespace

#endif

}  // namespace mb::fma
