// Tensor cores through mma.sync: a warp multiplies register fragments, D = A * B + D.
//
// Every warp keeps CHAINS independent accumulators; one trip adds STEPS products to each, alternating two A fragments,
// and then flips bits of A by a mask that the host passes (the sign bits). Floating accumulators so swing between D and
// D + STEPS/2 * (A0 + A1) * B: small integers stay exact for any number of iterations, the parity of which the result
// tells, and no product can be hoisted because its operand changes. Integers (mask free) wrap modulo 2^32 exactly.
// Latency x rate: about 33 cycles x 1 instruction per 8 cycles and sub-partition ask for 4 to 5 in flight; 4 warps x 8
// chains hold 32. On sm_90 and sm_100 this is the legacy path (wgmma and tcgen05 feed the cores faster), and FP8 does
// not exist: ptxas would emulate it by FP16, which is why FP8 is compiled for sm_89 and sm_120 alone. Integer
// accumulators do not saturate.
//
// targets: sm_75 sm_80 sm_86 sm_89 sm_90a sm_100a sm_103a sm_120f
// Layout "compute": (out, in, stamps, iterations). in: a header of 4 elements (mask, scale of A, scale of B, unused),
// then one element a thread and slot: A0, A1, then B of each chain, then D of each chain. out: the D slots per block.
// An element is 4 bytes, FP64: 8.

#include "prelude.cuh"

constexpr int THREADS = 256;

template <class kind>
__device__ __forceinline__ void multiply(void* out_, const void* in_, u64* stamps, u32 iterations) {
  using element = typename kind::element;
  constexpr int CHAINS = kind::chains;
  constexpr int STEPS = 8;
  const element* in = static_cast<const element*>(in_);
  const element mask = in[0];
  const u32 scale_a = static_cast<u32>(in[1]), scale_b = static_cast<u32>(in[2]);
  in += 4 + threadIdx.x;
  element a[2][kind::a], b[CHAINS][kind::b], d[CHAINS][kind::d];
#pragma unroll
  for (int j = 0; j < 2 * kind::a; ++j, in += THREADS) a[j / kind::a][j % kind::a] = *in;
#pragma unroll
  for (int j = 0; j < CHAINS * kind::b; ++j, in += THREADS) b[j / kind::b][j % kind::b] = *in;
#pragma unroll
  for (int j = 0; j < CHAINS * kind::d; ++j, in += THREADS) d[j / kind::d][j % kind::d] = *in;
  stamp(stamps, 0);
#pragma unroll 1
  for (u32 i = 0; i < iterations; ++i) {
#pragma unroll
    for (int s = 0; s < STEPS; ++s)
#pragma unroll
      for (int c = 0; c < CHAINS; ++c) kind::mma(d[c], a[s % 2], b[c], scale_a, scale_b);
#pragma unroll
    for (int j = 0; j < 2 * kind::a; ++j) a[j / kind::a][j % kind::a] ^= mask;
  }
  sign_off(stamps, iterations);
  element* out = static_cast<element*>(out_) + blockIdx.x * (CHAINS * kind::d * THREADS) + threadIdx.x;
#pragma unroll
  for (int j = 0; j < CHAINS * kind::d; ++j) out[j * THREADS] = d[j / kind::d][j % kind::d];
}

#define MB_MMA(symbol, kind)                                           \
  extern "C" __global__ void __launch_bounds__(THREADS, 2)             \
      symbol(void* out, const void* in, u64* stamps, u32 iterations) { \
    multiply<kind>(out, in, stamps, iterations);                       \
  }

#if __CUDA_ARCH__ == 750
struct f16_f16_k8 {
  using element = u32;
  static constexpr int a = 2, b = 1, d = 2, chains = 8;
  static __device__ __forceinline__ void mma(element (&d)[2], const element (&a)[2], const element (&b)[1], u32, u32) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3}, {%4}, {%0, %1};"
                 : "+r"(d[0]), "+r"(d[1])
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]));
  }
};

struct f16_f32_k8 {
  using element = u32;
  static constexpr int a = 2, b = 1, d = 4, chains = 8;
  static __device__ __forceinline__ void mma(element (&d)[4], const element (&a)[2], const element (&b)[1], u32, u32) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]));
  }
};

struct i8_k16 {
  using element = u32;
  static constexpr int a = 1, b = 1, d = 2, chains = 8;
  static __device__ __forceinline__ void mma(element (&d)[2], const element (&a)[1], const element (&b)[1], u32, u32) {
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
                 : "+r"(d[0]), "+r"(d[1])
                 : "r"(a[0]), "r"(b[0]));
  }
};

MB_MMA(mma_f16_f16_m16n8k8, f16_f16_k8)
MB_MMA(mma_f16_f32_m16n8k8, f16_f32_k8)
MB_MMA(mma_i8_m8n8k16, i8_k16)
#endif

#if __CUDA_ARCH__ >= 800
struct f16_f16 {
  using element = u32;
  static constexpr int a = 4, b = 2, d = 2, chains = 8;
  static __device__ __forceinline__ void mma(element (&d)[2], const element (&a)[4], const element (&b)[2], u32, u32) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%0, %1};"
                 : "+r"(d[0]), "+r"(d[1])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

struct f16_f32 {
  using element = u32;
  static constexpr int a = 4, b = 2, d = 4, chains = 8;
  static __device__ __forceinline__ void mma(element (&d)[4], const element (&a)[4], const element (&b)[2], u32, u32) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

struct bf16_f32 {
  using element = u32;
  static constexpr int a = 4, b = 2, d = 4, chains = 8;
  static __device__ __forceinline__ void mma(element (&d)[4], const element (&a)[4], const element (&b)[2], u32, u32) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, "
        "%2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

struct tf32_f32 {
  using element = u32;
  static constexpr int a = 4, b = 2, d = 4, chains = 8;
  static __device__ __forceinline__ void mma(element (&d)[4], const element (&a)[4], const element (&b)[2], u32, u32) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

struct i8 {
  using element = u32;
  static constexpr int a = 4, b = 2, d = 4, chains = 8;
  static __device__ __forceinline__ void mma(element (&d)[4], const element (&a)[4], const element (&b)[2], u32, u32) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

struct f64 {
  using element = u64;
  static constexpr int a = 1, b = 1, d = 2, chains = 8;
  static __device__ __forceinline__ void mma(element (&d)[2], const element (&a)[1], const element (&b)[1], u32, u32) {
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
                 : "+d"(reinterpret_cast<double&>(d[0])), "+d"(reinterpret_cast<double&>(d[1]))
                 : "d"(reinterpret_cast<const double&>(a[0])), "d"(reinterpret_cast<const double&>(b[0])));
  }
};

MB_MMA(mma_f16_f16_m16n8k16, f16_f16)
MB_MMA(mma_f16_f32_m16n8k16, f16_f32)
MB_MMA(mma_bf16_f32_m16n8k16, bf16_f32)
MB_MMA(mma_tf32_f32_m16n8k8, tf32_f32)
MB_MMA(mma_i8_m16n8k32, i8)
MB_MMA(mma_f64_m8n8k4, f64)
#endif

#if __CUDA_ARCH__ == 890 || __CUDA_ARCH__ >= 1200
struct e4m3_f32 {
  using element = u32;
  static constexpr int a = 4, b = 2, d = 4, chains = 8;
  static __device__ __forceinline__ void mma(element (&d)[4], const element (&a)[4], const element (&b)[2], u32, u32) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, "
        "%2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

struct e5m2_f32 {
  using element = u32;
  static constexpr int a = 4, b = 2, d = 4, chains = 8;
  static __device__ __forceinline__ void mma(element (&d)[4], const element (&a)[4], const element (&b)[2], u32, u32) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.f32.e5m2.e5m2.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, "
        "%2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

struct e4m3_f16 {
  using element = u32;
  static constexpr int a = 4, b = 2, d = 2, chains = 8;
  static __device__ __forceinline__ void mma(element (&d)[2], const element (&a)[4], const element (&b)[2], u32, u32) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.f16.e4m3.e4m3.f16 {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%0, %1};"
                 : "+r"(d[0]), "+r"(d[1])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

MB_MMA(mma_e4m3_f32_m16n8k32, e4m3_f32)
MB_MMA(mma_e5m2_f32_m16n8k32, e5m2_f32)
MB_MMA(mma_e4m3_f16_m16n8k32, e4m3_f16)
#endif

#if __CUDA_ARCH__ == 900
struct f64_k16 {
  using element = u64;
  static constexpr int a = 8, b = 4, d = 4, chains = 4;
  static __device__ __forceinline__ void mma(element (&d)[4], const element (&a)[8], const element (&b)[4], u32, u32) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f64.f64.f64.f64 {%0, %1, %2, %3}, {%4, %5, %6, %7, %8, %9, %10, %11}, {%12, "
        "%13, %14, %15}, "
        "{%0, %1, %2, %3};"
        : "+d"(reinterpret_cast<double&>(d[0])), "+d"(reinterpret_cast<double&>(d[1])),
          "+d"(reinterpret_cast<double&>(d[2])), "+d"(reinterpret_cast<double&>(d[3]))
        : "d"(reinterpret_cast<const double&>(a[0])), "d"(reinterpret_cast<const double&>(a[1])),
          "d"(reinterpret_cast<const double&>(a[2])), "d"(reinterpret_cast<const double&>(a[3])),
          "d"(reinterpret_cast<const double&>(a[4])), "d"(reinterpret_cast<const double&>(a[5])),
          "d"(reinterpret_cast<const double&>(a[6])), "d"(reinterpret_cast<const double&>(a[7])),
          "d"(reinterpret_cast<const double&>(b[0])), "d"(reinterpret_cast<const double&>(b[1])),
          "d"(reinterpret_cast<const double&>(b[2])), "d"(reinterpret_cast<const double&>(b[3])));
  }
};

MB_MMA(mma_f64_m16n8k16, f64_k16)
#endif

#if __CUDA_ARCH__ >= 1200
struct e2m1_f32 {
  using element = u32;
  static constexpr int a = 4, b = 2, d = 4, chains = 8;
  static __device__ __forceinline__ void mma(element (&d)[4], const element (&a)[4], const element (&b)[2], u32 scale_a,
                                             u32 scale_b) {
    asm volatile(
        "mma.sync.aligned.m16n8k64.row.col.kind::mxf4nvf4.block_scale.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3 {%0, %1, "
        "%2, %3}, {%4, %5, %6, "
        "%7}, {%8, %9}, {%0, %1, %2, %3}, %10, {0, 0}, %11, {0, 0};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(scale_a), "r"(scale_b));
  }
};

MB_MMA(mma_e2m1_f32_m16n8k64, e2m1_f32)
#endif
