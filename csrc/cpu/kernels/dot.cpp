// Dot-product instructions: i8 into i32 (AVX512-VNNI, AVX-VNNI, NEON sdot) and bf16 into f32 (AVX512-BF16, NEON bfdot);
// on aarch64 also the products of small matrices, i8 (smmla) and bf16 (bfmmla), whose lanes take twice as many
// products.
//
// The loop is that of fma.cpp; one lane takes 4 products of i8, or 2 of bf16. Nominal: lanes x 2 x 4 (or 2) x ports x
// clock. `vpdpbusd` multiplies unsigned by signed bytes, `sdot` signed by signed; the operands fit both. AVX-VNNI is
// the same instruction in the older encoding, for cores without AVX-512, and a row of its own.
#include <algorithm>
#include <utility>

#include "../../target.hpp"
#include "../multiply_add.hpp"

namespace mb::dot {

#if defined(__x86_64__)

MB_TARGET_BEGIN("avx2")
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
std::vector<kernel> wide(const char* ports, const char* need, const char* says) {
  std::vector<std::string> needs{need};
  if (!std::is_same_v<Width, v512>) needs.push_back("avx512vl");
  return evex::measured<Op, Width>::kernels(
      {"dot", Width::name, std::string(ports) + "." + Width::name, std::move(needs), says});
}

template <class Width>
std::vector<kernel> bytes() {
  return wide<dot_i8, Width>("dot_i8", "avx512_vnni", "independent dot products of 4 bytes (AVX512-VNNI)");
}

template <class Width>
std::vector<kernel> halves() {
  return wide<dot_bf16, Width>("dot_bf16", "avx512_bf16", "independent dot products of 2 bf16 (AVX512-BF16)");
}

template <class Width>
std::vector<kernel> older(const char* variant) {
  return vex::measured<dot_i8_vex, Width>::kernels({"dot",
                                                    variant,
                                                    std::string("dot_i8.") + Width::name,
                                                    {"avx2", "avx_vnni"},
                                                    "independent dot products of 4 bytes (AVX-VNNI)"});
}

MB_KERNEL(bytes<v128>())
MB_KERNEL(bytes<v256>())
MB_KERNEL(bytes<v512>())
MB_KERNEL(older<v128>("vex128"))
MB_KERNEL(older<v256>("vex256"))
MB_KERNEL(halves<v128>())
MB_KERNEL(halves<v256>())
MB_KERNEL(halves<v512>())

}  // namespace

#else

MB_TARGET_BEGIN("arch=armv8.2-a+dotprod")
namespace dotprod {
#include "../multiply_add.inc"
}
MB_TARGET_END

MB_TARGET_BEGIN("arch=armv8.2-a+bf16")
namespace bf16 {
#include "../multiply_add.inc"
}
MB_TARGET_END

MB_TARGET_BEGIN("arch=armv8.2-a+i8mm")
namespace i8mm {
#include "../multiply_add.inc"
}
MB_TARGET_END

namespace {

MB_KERNEL(dotprod::measured<dot_i8, v128>::kernels(
    {"dot", "v128", "dot_i8.v128", {"asimddp"}, "independent dot products of 4 bytes (NEON sdot)", false}))
MB_KERNEL(bf16::measured<dot_bf16, v128>::kernels(
    {"dot", "v128", "dot_bf16.v128", {"bf16"}, "independent dot products of 2 bf16 (NEON bfdot)", false}))
MB_KERNEL(bf16::measured<mmla_bf16, v128>::kernels(
    {"mmla", "v128", "mmla_bf16.v128", {"bf16"}, "independent products of 2 x 4 by 4 x 2 bf16 (NEON bfmmla)", false}))
MB_KERNEL(i8mm::measured<mmla_i8, v128>::kernels(
    {"mmla", "v128", "mmla_i8.v128", {"i8mm"}, "independent products of 2 x 8 by 8 x 2 bytes (NEON smmla)", false}))

}  // namespace

#endif

}  // namespace mb::dot
