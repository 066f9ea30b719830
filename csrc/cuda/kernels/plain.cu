// Plain (non-tensor) arithmetic: FP64, FP32, packed FP16 and BF16, INT32 multiply-add, four-way INT8 dot product.
//
// A thread owns PAIRS independent pairs (x, y) and turns each by x = a*y + x, y = b*x + y. With a = 1, b = -1 a turn
// has period six, so integers stay small and exact for any number of iterations and the result still tells the count
// modulo six (turns is coprime to six). With random a, b of opposite sign the same code is a bounded rotation whose
// bits keep changing. Latency x width: 4 to 8 cycles x 1 instruction a cycle per sub-partition needs 8 chains in
// flight; 8 pairs x 8 warps hold 64. 2 * PAIRS * turns = 496 multiply-adds a trip (752 for packed halves, whose
// registers ptxas rotates) keep the loop's own instructions below 1 % of the issue slots.
//
//
// targets: sm_75 sm_80 sm_86 sm_89 sm_90a sm_100a sm_103a sm_120f
// Layout "compute": (out, in, stamps, iterations). in: a, b, then 2 * PAIRS slots of one element a thread. out: slots
// likewise per block.

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

template <class kind>
__device__ __forceinline__ void turn(void* out_, const void* in_, u64* stamps, u32 iterations) {
  using element = typename kind::element;
  const element* in = static_cast<const element*>(in_);
  const element a = in[0], b = in[1];
  element x[PAIRS], y[PAIRS];
#pragma unroll
  for (int p = 0; p < PAIRS; ++p) {
    x[p] = in[2 + (2 * p) * THREADS + threadIdx.x];
    y[p] = in[2 + (2 * p + 1) * THREADS + threadIdx.x];
  }
  stamp(stamps, 0);
#pragma unroll 1
  for (u32 i = 0; i < iterations; ++i) {
#pragma unroll
    for (int t = 0; t < kind::turns; ++t) {
#pragma unroll
      for (int p = 0; p < PAIRS; ++p) kind::mad(x[p], a, y[p]);
#pragma unroll
      for (int p = 0; p < PAIRS; ++p) kind::mad(y[p], b, x[p]);
    }
  }
  sign_off(stamps, iterations);
  element* out = static_cast<element*>(out_) + blockIdx.x * (2 * PAIRS * THREADS) + threadIdx.x;
#pragma unroll
  for (int p = 0; p < PAIRS; ++p) {
    out[(2 * p) * THREADS] = x[p];
    out[(2 * p + 1) * THREADS] = y[p];
  }
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
