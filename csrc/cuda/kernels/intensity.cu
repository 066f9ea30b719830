// Mixed arithmetic intensity: stream 32 bytes a thread and trip through FMAS multiply-adds an element.
//
// Intensity is FMAS / 2 FLOP a byte, 0.5 to 128, which spans the ridge of every part (about 10 to 60 for FP32). The elements of a
// 16-byte word turn pairwise, x = a*y + x, y = b*x + y (a = 1, b = -1 keeps small integers exact), and the results' bits are summed,
// wrapping, on the integer pipe, so that the sum is exact too. Two loads x 2048 threads keep 64 KiB in flight where memory limits, four
// pairs x 2 words cover the latency where arithmetic does.
//
// targets: sm_75 sm_80 sm_86 sm_89 sm_90a sm_100a sm_103a sm_120f
// Layout "stream": (out, in, in2, stamps, count, first, step, iterations) as in stream.cu with a tile of 2 * THREADS elements.
// in2: a and b, 4 bytes each. out: one 16-byte element a thread and block, the sums.

typedef unsigned int u32;
typedef unsigned long long u64;

constexpr int THREADS = 256;
constexpr int LOADS = 2;
constexpr int STAMP_WORDS = 6;

struct __align__(16) word4 {
  u32 x, y, z, w;
};

// Six words a block: ns and cycles at the start, ns and cycles at the end, the SM, the iterations done.
__device__ __forceinline__ void stamp(u64* stamps, int at) {
  __syncthreads();
  if (threadIdx.x == 0) {
    u64 ns, cycles;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns)::"memory");
    asm volatile("mov.u64 %0, %%clock64;" : "=l"(cycles)::"memory");
    stamps[blockIdx.x * STAMP_WORDS + 2 * at] = ns;
    stamps[blockIdx.x * STAMP_WORDS + 2 * at + 1] = cycles;
  }
}

__device__ __forceinline__ void sign_off(u64* stamps, u32 iterations) {
  stamp(stamps, 1);
  if (threadIdx.x == 0) {
    u32 sm;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
    stamps[blockIdx.x * STAMP_WORDS + 4] = sm;
    stamps[blockIdx.x * STAMP_WORDS + 5] = iterations;
  }
}

__device__ __forceinline__ word4 load(const word4* at) {
  word4 v;
  asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(at));
  return v;
}

__device__ __forceinline__ void mad(u32& x, u32 a, u32 y) { asm volatile("fma.rn.f32 %0, %1, %2, %0;" : "+r"(x) : "r"(a), "r"(y)); }

struct walk {
  u32 at, count, step;
  __device__ __forceinline__ walk(u32 count_, u32 first, u32 step_, u32 tile)
      : at((first + blockIdx.x * tile) % count_), count(count_), step(step_) {}
  __device__ __forceinline__ void go_on() {
    at += step;
    at = at >= count ? at - count : at;
  }
};

template <int FMAS>
__device__ __forceinline__ void mix(word4* out, const word4* in, const u32* in2, u64* stamps, walk w, u32 iterations) {
  const u32 a = in2[0], b = in2[1];
  word4 sum = {0, 0, 0, 0};
  stamp(stamps, 0);
#pragma unroll 1
  for (u32 i = 0; i < iterations; ++i) {
    const word4* from = in + w.at + threadIdx.x;
    word4 v[LOADS];
#pragma unroll
    for (int j = 0; j < LOADS; ++j) v[j] = load(from + j * THREADS);
    w.go_on();
#pragma unroll
    for (int f = 0; f < FMAS; ++f) {
#pragma unroll
      for (int j = 0; j < LOADS; ++j) {
        mad(v[j].x, a, v[j].y);
        mad(v[j].z, a, v[j].w);
      }
#pragma unroll
      for (int j = 0; j < LOADS; ++j) {
        mad(v[j].y, b, v[j].x);
        mad(v[j].w, b, v[j].z);
      }
    }
#pragma unroll
    for (int j = 0; j < LOADS; ++j) {
      sum.x += v[j].x;
      sum.y += v[j].y;
      sum.z += v[j].z;
      sum.w += v[j].w;
    }
  }
  sign_off(stamps, iterations);
  out[blockIdx.x * THREADS + threadIdx.x] = sum;
}

#define MB_MIX(fmas)                                                                                                             \
  extern "C" __global__ void __launch_bounds__(THREADS)                                                                          \
      mix_f32_##fmas(word4* out, const word4* in, const u32* in2, u64* stamps, u32 count, u32 first, u32 step, u32 iterations) { \
    mix<fmas>(out, in, in2, stamps, walk(count, first, step, LOADS * THREADS), iterations);                                      \
  }

MB_MIX(1)
MB_MIX(2)
MB_MIX(4)
MB_MIX(8)
MB_MIX(16)
MB_MIX(32)
MB_MIX(64)
MB_MIX(128)
MB_MIX(256)
