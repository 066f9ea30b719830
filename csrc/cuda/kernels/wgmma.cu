// Hopper's tensor cores through wgmma: four warps multiply tiles of shared memory, D (64 x 256, registers) += A * B.
//
// N = 256 is the widest shape: one instruction keeps the cores busy for 128 cycles, so one warpgroup in flight is
// enough and two blocks a SM cover the waits. A trip issues STEPS products over four A tiles and then exchanges B for
// -B (the host lays both out), so that small integers stay exact for any number of iterations (FP8 sums keep about 14
// bits) and the result tells the parity. The operand port carries 8 KiB of B and 2 KiB of A (none in the register form)
// per 128 cycles, 80 and 64 of its 128 bytes a cycle. Between two groups of products nothing touches the accumulators:
// ptxas would serialise them (an advisory that the build refuses).
//
// targets: sm_90a
// Layout "compute": (out, in, stamps, iterations). in: 4 words of 8 bytes (descriptor of A and of B at address 0, two
// unused), then the image of shared memory (TILES tiles of A, B, -B), then the register fragments of the A tiles, 4
// words a thread and tile. out: 128 words a thread and block, accumulator by accumulator.

#include "prelude.cuh"

constexpr int THREADS = 128;
constexpr int STEPS = 8;
constexpr int TILES = 4;
constexpr int A_BYTES = 64 * 32;
constexpr int B_BYTES = 256 * 32;
constexpr int IMAGE_BYTES = TILES * A_BYTES + 2 * B_BYTES;

#define MB_ACCUMULATORS                                                                          \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                      \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "             \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "             \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "             \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}"
#define MB_EIGHT(r, i)                                                                                               \
  "+" r(d[i]), "+" r(d[i + 1]), "+" r(d[i + 2]), "+" r(d[i + 3]), "+" r(d[i + 4]), "+" r(d[i + 5]), "+" r(d[i + 6]), \
      "+" r(d[i + 7])
#define MB_64(r, i)                                                                                  \
  MB_EIGHT(r, i), MB_EIGHT(r, i + 8), MB_EIGHT(r, i + 16), MB_EIGHT(r, i + 24), MB_EIGHT(r, i + 32), \
      MB_EIGHT(r, i + 40), MB_EIGHT(r, i + 48), MB_EIGHT(r, i + 56)
// How a kind multiplies: its accumulators' type and constraint, its mnemonic, the flags after the operands for A in
// memory and registers.
#define MB_KIND(name, type, constraint, mnemonic, flags, flags_registers)                                   \
  struct name {                                                                                             \
    using accumulator = type;                                                                               \
    static __device__ __forceinline__ void from_memory(type (&d)[128], u64 a, u64 b) {                      \
      asm volatile("wgmma.mma_async.sync.aligned." mnemonic " " MB_ACCUMULATORS ", %128, %129, 1" flags ";" \
                   : MB_64(constraint, 0), MB_64(constraint, 64)                                            \
                   : "l"(a), "l"(b));                                                                       \
    }                                                                                                       \
    static __device__ __forceinline__ void from_registers(type (&d)[128], const u32 (&a)[4], u64 b) {       \
      asm volatile("wgmma.mma_async.sync.aligned." mnemonic " " MB_ACCUMULATORS                             \
                   ", {%128, %129, %130, %131}, %132, 1" flags_registers ";"                                \
                   : MB_64(constraint, 0), MB_64(constraint, 64)                                            \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                   \
    }                                                                                                       \
  };

MB_KIND(f16, float, "f", "m64n256k16.f32.f16.f16", ", 1, 1, 0, 0", ", 1, 1, 0")
MB_KIND(bf16, float, "f", "m64n256k16.f32.bf16.bf16", ", 1, 1, 0, 0", ", 1, 1, 0")
MB_KIND(tf32, float, "f", "m64n256k8.f32.tf32.tf32", ", 1, 1", ", 1, 1")
MB_KIND(e4m3, float, "f", "m64n256k32.f32.e4m3.e4m3", ", 1, 1", ", 1, 1")
MB_KIND(e5m2, float, "f", "m64n256k32.f32.e5m2.e5m2", ", 1, 1", ", 1, 1")
MB_KIND(s8, int, "r", "m64n256k32.s32.s8.s8", "", "")

extern __shared__ __align__(1024) unsigned char image[];

// The image goes into shared memory as it is; the fence makes it visible to the asynchronous proxy that wgmma reads
// through.
__device__ __forceinline__ void fill(const unsigned char* from) {
  for (u32 at = threadIdx.x * 16; at < IMAGE_BYTES; at += THREADS * 16)
    *reinterpret_cast<word4*>(image + at) = *reinterpret_cast<const word4*>(from + at);
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
}

template <class kind, bool REGISTERS>
__device__ __forceinline__ void multiply(void* out_, const void* in_, u64* stamps, u32 iterations) {
  using accumulator = typename kind::accumulator;
  const u64* header = static_cast<const u64*>(in_);
  const unsigned char* operands = static_cast<const unsigned char*>(in_) + 32;
  fill(operands);
  // A descriptor's low 14 bits are the address in units of 16 bytes.
  const u64 a = header[0] + (address(image) >> 4);
  u64 b = header[1] + (address(image + TILES * A_BYTES) >> 4);
  const u64 exchange = b ^ (b + (B_BYTES >> 4));
  u32 fragments[TILES][4];
  if (REGISTERS) {
    const u32* from = reinterpret_cast<const u32*>(operands + IMAGE_BYTES) + threadIdx.x;
#pragma unroll
    for (int j = 0; j < TILES * 4; ++j) fragments[j / 4][j % 4] = from[j * THREADS];
  }
  accumulator d[128];
#pragma unroll
  for (int j = 0; j < 128; ++j) d[j] = 0;
  stamp(stamps, 0);
#pragma unroll 1
  for (u32 i = 0; i < iterations; ++i) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int s = 0; s < STEPS; ++s) {
      if (REGISTERS)
        kind::from_registers(d, fragments[s % TILES], b);
      else
        kind::from_memory(d, a + (s % TILES) * (A_BYTES >> 4), b);
    }
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
    b ^= exchange;
  }
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  sign_off(stamps, iterations);
  accumulator* out = static_cast<accumulator*>(out_) + blockIdx.x * (128 * THREADS) + threadIdx.x;
#pragma unroll
  for (int j = 0; j < 128; ++j) out[j * THREADS] = d[j];
}

#define MB_WGMMA(symbol, kind, registers)                              \
  extern "C" __global__ void __launch_bounds__(THREADS, 2)             \
      symbol(void* out, const void* in, u64* stamps, u32 iterations) { \
    multiply<kind, registers>(out, in, stamps, iterations);            \
  }

MB_WGMMA(wgmma_f16_m64n256k16_ss, f16, false)
MB_WGMMA(wgmma_f16_m64n256k16_rs, f16, true)
MB_WGMMA(wgmma_bf16_m64n256k16_ss, bf16, false)
MB_WGMMA(wgmma_bf16_m64n256k16_rs, bf16, true)
MB_WGMMA(wgmma_tf32_m64n256k8_ss, tf32, false)
MB_WGMMA(wgmma_tf32_m64n256k8_rs, tf32, true)
MB_WGMMA(wgmma_e4m3_m64n256k32_ss, e4m3, false)
MB_WGMMA(wgmma_e4m3_m64n256k32_rs, e4m3, true)
MB_WGMMA(wgmma_e5m2_m64n256k32_ss, e5m2, false)
MB_WGMMA(wgmma_e5m2_m64n256k32_rs, e5m2, true)
MB_WGMMA(wgmma_i8_m64n256k32_ss, s8, false)
MB_WGMMA(wgmma_i8_m64n256k32_rs, s8, true)
