// Mixed arithmetic intensity: stream 32 bytes a thread and trip through FMAS multiply-adds an element, FP64, FP32,
// packed FP16 and BF16, or through MMAS products on the tensor cores a 16-byte load, FP16 and BF16 into FP32.
//
// FMAS multiply-adds an element are FMAS / 4 FLOP a byte in FP64, FMAS / 2 in FP32 and FMAS in 16 bits: 1 to 256 span
// the ridge of every part. The elements of a 16-byte word turn pairwise, x = a*y + x, y = b*x + y (a = 1, b = -1: every
// step is an addition, rounded once), and the results' bits are summed, wrapping, on the integer pipe, so that the sum
// is exact whatever the dtype. Two loads x 2048 threads keep 64 KiB in flight where memory limits, four pairs (FP64:
// two) x 2 words x 8 warps a scheduler cover the latency where arithmetic does. On the tensor cores the 16 bytes of
// each of a warp's lanes are one A fragment (16 x 16), which is multiplied with two B fragments in turn by mma.sync:
// 4096 FLOP for 512 bytes, so MMAS products are 8 * MMAS FLOP a byte, 8 to 2048. Accumulators start at zero in every
// trip, two a load, so four are under way in a warp and their sums stay exact; their bits are summed like those above.
// On sm_90 and sm_100 this is the legacy path: the roof that these points reach is that of mma.sync, below those of
// wgmma and tcgen05.
//
// targets: sm_75 sm_80 sm_86 sm_89 sm_90a sm_100a sm_103a sm_120f
// Layout "stream": (out, in, in2, stamps, count, first, step, iterations) as in stream.cu with a tile of 2 * THREADS
// elements. in2: a and b, one element each (16 bits: a pair of equal ones); for tensor cores both B fragments, 2 + 2
// words a lane. out: one 16-byte element a thread and block, the sums.

#include "prelude.cuh"

constexpr int THREADS = 256;
constexpr int LOADS = 2;

// Four elements (FP64: two) of a 16-byte word and how they turn: `ahead` is the first half of a turn, `back` the
// second.
struct fp64 {
  using element = double;
  double x, y;
  static __device__ __forceinline__ void mad(double& x, double a, double y) {
    asm volatile("fma.rn.f64 %0, %1, %2, %0;" : "+d"(x) : "d"(a), "d"(y));
  }
  static __device__ __forceinline__ fp64 load(const word4* at) {
    fp64 v;
    asm volatile("ld.global.cg.v2.f64 {%0, %1}, [%2];" : "=d"(v.x), "=d"(v.y) : "l"(at));
    return v;
  }
  __device__ __forceinline__ void ahead(double a) { mad(x, a, y); }
  __device__ __forceinline__ void back(double b) { mad(y, b, x); }
  __device__ __forceinline__ word4 bits() const {
    word4 v;
    asm("mov.b64 {%0, %1}, %2;" : "=r"(v.x), "=r"(v.y) : "d"(x));
    asm("mov.b64 {%0, %1}, %2;" : "=r"(v.z), "=r"(v.w) : "d"(y));
    return v;
  }
};

template <class kind>
struct words {
  using element = u32;
  word4 v;
  static __device__ __forceinline__ words load(const word4* at) {
    words w;
    asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(w.v.x), "=r"(w.v.y), "=r"(w.v.z), "=r"(w.v.w)
                 : "l"(at));
    return w;
  }
  __device__ __forceinline__ void ahead(u32 a) {
    kind::mad(v.x, a, v.y);
    kind::mad(v.z, a, v.w);
  }
  __device__ __forceinline__ void back(u32 b) {
    kind::mad(v.y, b, v.x);
    kind::mad(v.w, b, v.z);
  }
  __device__ __forceinline__ word4 bits() const { return v; }
};

struct fp32 {
  static __device__ __forceinline__ void mad(u32& x, u32 a, u32 y) {
    asm volatile("fma.rn.f32 %0, %1, %2, %0;" : "+r"(x) : "r"(a), "r"(y));
  }
};

struct half2 {
  static __device__ __forceinline__ void mad(u32& x, u32 a, u32 y) {
    asm volatile("fma.rn.f16x2 %0, %1, %2, %0;" : "+r"(x) : "r"(a), "r"(y));
  }
};

#if __CUDA_ARCH__ >= 800
struct bfloat2 {
  static __device__ __forceinline__ void mad(u32& x, u32 a, u32 y) {
    asm volatile("fma.rn.bf16x2 %0, %1, %2, %0;" : "+r"(x) : "r"(a), "r"(y));
  }
};
#endif

struct walk {
  u32 at, count, step;
  __device__ __forceinline__ walk(u32 count_, u32 first, u32 step_, u32 tile)
      : at((first + blockIdx.x * tile) % count_), count(count_), step(step_) {}
  __device__ __forceinline__ void go_on() {
    at += step;
    at = at >= count ? at - count : at;
  }
};

template <class vector, int FMAS>
__device__ __forceinline__ void mix(word4* out, const word4* in, const void* in2, u64* stamps, walk w, u32 iterations) {
  using element = typename vector::element;
  const element a = static_cast<const element*>(in2)[0], b = static_cast<const element*>(in2)[1];
  word4 sum = {0, 0, 0, 0};
  stamp(stamps, 0);
#pragma unroll 1
  for (u32 i = 0; i < iterations; ++i) {
    const word4* from = in + w.at + threadIdx.x;
    vector v[LOADS];
#pragma unroll
    for (int j = 0; j < LOADS; ++j) v[j] = vector::load(from + j * THREADS);
    w.go_on();
#pragma unroll
    for (int f = 0; f < FMAS; ++f) {
#pragma unroll
      for (int j = 0; j < LOADS; ++j) v[j].ahead(a);
#pragma unroll
      for (int j = 0; j < LOADS; ++j) v[j].back(b);
    }
#pragma unroll
    for (int j = 0; j < LOADS; ++j) {
      const word4 left = v[j].bits();
      sum.x += left.x;
      sum.y += left.y;
      sum.z += left.z;
      sum.w += left.w;
    }
  }
  sign_off(stamps, iterations);
  out[blockIdx.x * THREADS + threadIdx.x] = sum;
}

#define MB_MIX(name, vector, fmas)                                                                                 \
  extern "C" __global__ void __launch_bounds__(THREADS) name##_##fmas(                                             \
      word4* out, const word4* in, const void* in2, u64* stamps, u32 count, u32 first, u32 step, u32 iterations) { \
    mix<vector, fmas>(out, in, in2, stamps, walk(count, first, step, LOADS * THREADS), iterations);                \
  }
#define MB_MIX_COARSE(name, vector) \
  MB_MIX(name, vector, 1)           \
  MB_MIX(name, vector, 4)           \
  MB_MIX(name, vector, 16)          \
  MB_MIX(name, vector, 64)          \
  MB_MIX(name, vector, 256)

MB_MIX_COARSE(mix_f32, words<fp32>)
MB_MIX(mix_f32, words<fp32>, 2)
MB_MIX(mix_f32, words<fp32>, 8)
MB_MIX(mix_f32, words<fp32>, 32)
MB_MIX(mix_f32, words<fp32>, 128)
MB_MIX_COARSE(mix_f64, fp64)
MB_MIX_COARSE(mix_f16x2, words<half2>)
#if __CUDA_ARCH__ >= 800
MB_MIX_COARSE(mix_bf16x2, words<bfloat2>)

// One product of a warp, D += A * B.
struct hmma_f16 {
  static __device__ __forceinline__ void mma(u32 (&d)[4], const word4& a, u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
  }
};

struct hmma_bf16 {
  static __device__ __forceinline__ void mma(u32 (&d)[4], const word4& a, u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, "
        "%2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
  }
};

template <class kind, int MMAS>
__device__ __forceinline__ void multiply(word4* out, const word4* in, const void* in2, u64* stamps, walk w,
                                         u32 iterations) {
  constexpr int CHAINS = MMAS > 1 ? 2 : 1;
  const word4 b = static_cast<const word4*>(in2)[threadIdx.x % 32];
  word4 sum = {0, 0, 0, 0};
  stamp(stamps, 0);
#pragma unroll 1
  for (u32 i = 0; i < iterations; ++i) {
    const word4* from = in + w.at + threadIdx.x;
    word4 a[LOADS];
    u32 d[LOADS][CHAINS][4] = {};
#pragma unroll
    for (int j = 0; j < LOADS; ++j) a[j] = words<half2>::load(from + j * THREADS).v;
    w.go_on();
#pragma unroll
    for (int m = 0; m < MMAS; ++m)
#pragma unroll
      for (int j = 0; j < LOADS; ++j) kind::mma(d[j][m % CHAINS], a[j], m % 2 ? b.z : b.x, m % 2 ? b.w : b.y);
#pragma unroll
    for (int j = 0; j < LOADS * CHAINS; ++j) {
      const u32(&left)[4] = d[j / CHAINS][j % CHAINS];
      sum.x += left[0];
      sum.y += left[1];
      sum.z += left[2];
      sum.w += left[3];
    }
  }
  sign_off(stamps, iterations);
  out[blockIdx.x * THREADS + threadIdx.x] = sum;
}

#define MB_MIX_MMA(name, kind, mmas)                                                                               \
  extern "C" __global__ void __launch_bounds__(THREADS) name##_##mmas(                                             \
      word4* out, const word4* in, const void* in2, u64* stamps, u32 count, u32 first, u32 step, u32 iterations) { \
    multiply<kind, mmas>(out, in, in2, stamps, walk(count, first, step, LOADS * THREADS), iterations);             \
  }
#define MB_MIX_MMAS(name, kind) \
  MB_MIX_MMA(name, kind, 1)     \
  MB_MIX_MMA(name, kind, 4)     \
  MB_MIX_MMA(name, kind, 16)    \
  MB_MIX_MMA(name, kind, 64)    \
  MB_MIX_MMA(name, kind, 256)

MB_MIX_MMAS(mix_mma_f16, hmma_f16)
MB_MIX_MMAS(mix_mma_bf16, hmma_bf16)
#endif
