// Plain (non-tensor) arithmetic: FP64, FP32, packed FP16 and BF16, INT32 multiply-add, four-way INT8 dot product.
//
// A thread owns PAIRS pairs (x, y) and turns each two of them, the second of which begins as the negative of the first
// and stays so to the bit, since rounding is symmetric: x = a*y + x in both, then y = a*(x of the other) + y, which is
// y - a*x. With a = 1 a turn has period six, so integers stay small and exact for any number of iterations and the
// result still tells the count modulo six (turns is coprime to six). With random a below two the same code is a bounded
// rotation whose bits keep changing. Three things make the schedule: results are used in the order in which they were
// begun, PAIRS instructions later; there is one factor, which the operand cache keeps
// from one instruction to the next, and x and y are loaded and stored together, so that they lie in an even and an odd
// register, in different banks: a pipe of 32 lanes reads one operand a bank and cycle. Latency x width: 4 to 8 cycles x
// 1 instruction a cycle per sub-partition needs 8 chains in flight; 8 pairs x 8 warps hold 64. 2 * PAIRS * turns = 496
// multiply-adds a trip (752 for packed halves) keep the loop's own instructions below 1 % of the issue slots.
//
// targets: sm_75 sm_80 sm_86 sm_89 sm_90a sm_100a sm_103a sm_120f
// Layout "compute": (out, in, stamps, iterations). in: a, one element that is not used, then x and y of each thread,
// pair by pair. out: the same pairs per block.

#include "prelude.cuh"

constexpr int THREADS = 256;
constexpr int PAIRS = 8;

struct fp64 {
  using element = double;
  static constexpr int turns = 31;
  static __device__ __forceinline__ void mad(double& x, double a, double y) {
    asm volatile("fma.rn.f64 %0, %1, %2, %0;" : "+d"(x) : "d"(a), "d"(y));
  }
};

struct fp32 {
  using element = float;
  static constexpr int turns = 31;
  static __device__ __forceinline__ void mad(float& x, float a, float y) {
    asm volatile("fma.rn.f32 %0, %1, %2, %0;" : "+f"(x) : "f"(a), "f"(y));
  }
};

struct half2 {
  using element = u32;
  static constexpr int turns = 47;
  static __device__ __forceinline__ void mad(u32& x, u32 a, u32 y) {
    asm volatile("fma.rn.f16x2 %0, %1, %2, %0;" : "+r"(x) : "r"(a), "r"(y));
  }
};

struct int32 {
  using element = u32;
  static constexpr int turns = 31;
  static __device__ __forceinline__ void mad(u32& x, u32 a, u32 y) {
    asm volatile("mad.lo.s32 %0, %1, %2, %0;" : "+r"(x) : "r"(a), "r"(y));
  }
};

struct dot4 {
  using element = u32;
  static constexpr int turns = 31;
  static __device__ __forceinline__ void mad(u32& x, u32 a, u32 y) {
    asm volatile("dp4a.s32.s32 %0, %1, %2, %0;" : "+r"(x) : "r"(a), "r"(y));
  }
};

#if __CUDA_ARCH__ >= 800
struct bfloat2 {
  using element = u32;
  static constexpr int turns = 47;
  static __device__ __forceinline__ void mad(u32& x, u32 a, u32 y) {
    asm volatile("fma.rn.bf16x2 %0, %1, %2, %0;" : "+r"(x) : "r"(a), "r"(y));
  }
};
#endif

template <class element>
struct __align__(2 * sizeof(element)) pair {
  element x, y;
};

template <class kind>
__device__ __forceinline__ void turn(void* out_, const void* in_, u64* stamps, u32 iterations) {
  using element = typename kind::element;
  const auto* in = static_cast<const pair<element>*>(in_);
  const element a = in->x;
  element x[PAIRS], y[PAIRS];
#pragma unroll
  for (int p = 0; p < PAIRS; ++p) {
    const pair<element> both = in[1 + p * THREADS + threadIdx.x];
    x[p] = both.x;
    y[p] = both.y;
  }
  stamp(stamps, 0);
#pragma unroll 1
  for (u32 i = 0; i < iterations; ++i) {
#pragma unroll
    for (int t = 0; t < kind::turns; ++t) {
#pragma unroll
      for (int p = 0; p < PAIRS; ++p) kind::mad(x[p ^ t % 2], a, y[p ^ t % 2]);
#pragma unroll
      for (int p = 0; p < PAIRS; ++p) kind::mad(y[p ^ t % 2 ^ 1], a, x[p ^ t % 2]);
    }
  }
  sign_off(stamps, iterations);
  auto* out = static_cast<pair<element>*>(out_) + blockIdx.x * (PAIRS * THREADS) + threadIdx.x;
#pragma unroll
  for (int p = 0; p < PAIRS; ++p) out[p * THREADS] = {x[p], y[p]};
}

#define MB_PLAIN(symbol, kind)                                         \
  extern "C" __global__ void __launch_bounds__(THREADS, 4)             \
      symbol(void* out, const void* in, u64* stamps, u32 iterations) { \
    turn<kind>(out, in, stamps, iterations);                           \
  }

MB_PLAIN(fma_f64, fp64)
MB_PLAIN(fma_f32, fp32)
MB_PLAIN(fma_f16x2, half2)
MB_PLAIN(mad_i32, int32)
MB_PLAIN(dp4a_i8, dot4)
#if __CUDA_ARCH__ >= 800
MB_PLAIN(fma_bf16x2, bfloat2)
#endif
