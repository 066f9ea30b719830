// Blackwell's tensor cores through tcgen05: one thread multiplies tiles of shared memory into tensor memory, D (128 x
// 256) += A * B.
//
// 128 x 256 keeps the core busy for 128 cycles an instruction. A trip issues STEPS of them over four A tiles, signs
// them off on one of two barriers and waits for the trip before the last, so that 32 to 64 are always in flight (16
// were seen to reach 93 %, 256 99.5 %). B is exchanged for -B after every trip (the host lays both out): small integers
// stay exact and the result tells the parity. The operand port carries 12 KiB per 128 cycles, 96 of its 128 bytes a
// cycle. The issuing thread is chosen by elect.sync: under a divergent `if` ptxas would wrap every instruction in a
// loop of its own.
//
// targets: sm_100a sm_103a
// Layout "compute": (out, in, stamps, iterations). in: 4 words of 8 bytes (descriptor of A and of B at address 0,
// instruction word, unused), then the image of shared memory (TILES tiles of A, B, -B). out: 512 words a thread (row of
// D) and block, column by column, first those of the accumulator of even steps.

#include "prelude.cuh"

constexpr int THREADS = 128;
constexpr int STEPS = 32;
constexpr int TILES = 4;
constexpr int COLUMNS =
    512;  // all of tensor memory: two accumulators, so that neighbours in the queue don't depend on each other
constexpr int A_BYTES = 128 * 32;
constexpr int B_BYTES = 256 * 32;
constexpr int IMAGE_BYTES = TILES * A_BYTES + 2 * B_BYTES;

extern __shared__ __align__(1024) unsigned char image[];

// The image goes into shared memory as it is; the fence makes it visible to the asynchronous proxy that the tensor core
// reads through.
__device__ __forceinline__ void fill(const unsigned char* from) {
  for (u32 at = threadIdx.x * 16; at < IMAGE_BYTES; at += THREADS * 16)
    *reinterpret_cast<word4*>(image + at) = *reinterpret_cast<const word4*>(from + at);
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Waits for the phase of that parity to end; the parity before the first one has always ended.
__device__ __forceinline__ void wait(u32 barrier, u32 parity) {
  asm volatile(
      "{\n.reg .pred done;\nAGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra AGAIN;\n}" ::
          "r"(barrier),
      "r"(parity)
      : "memory");
}

__device__ __forceinline__ void commit(u32 barrier) {
  asm volatile("tcgen05.commit.cta_group::1.mbarrier::arrive::one.shared::cluster.b64 [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void clear(u32 tensor) {
  const u32 zero = 0;
#pragma unroll 1
  for (u32 column = 0; column < COLUMNS; column += 8)
    asm volatile("tcgen05.st.sync.aligned.32x32b.x8.b32 [%0], {%1, %1, %1, %1, %1, %1, %1, %1};" ::"r"(tensor + column),
                 "r"(zero)
                 : "memory");
  asm volatile("tcgen05.wait::st.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void save(u32* out, u32 tensor) {
#pragma unroll 1
  for (u32 column = 0; column < COLUMNS; column += 8) {
    u32 d[8];
    asm volatile("tcgen05.ld.sync.aligned.32x32b.x8.b32 {%0, %1, %2, %3, %4, %5, %6, %7}, [%8];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]), "=r"(d[4]), "=r"(d[5]), "=r"(d[6]), "=r"(d[7])
                 : "r"(tensor + column));
    asm volatile("tcgen05.wait::ld.sync.aligned;" ::: "memory");
#pragma unroll
    for (int j = 0; j < 8; ++j) out[(column + j) * THREADS] = d[j];
  }
}

template <class kind>
__device__ __forceinline__ void issue(u32 tensor, u64 a, u64 b, u64 exchange, u32 word, u32 barrier, u32 iterations) {
#pragma unroll 1
  for (u32 i = 0; i < iterations; ++i) {
    wait(barrier + 8 * (i & 1), ((i >> 1) & 1) ^ 1);
#pragma unroll
    for (int s = 0; s < STEPS; ++s)
      kind::mma(tensor + (s % 2) * (COLUMNS / 2), a + (s % TILES) * (A_BYTES >> 4), b, word);
    commit(barrier + 8 * (i & 1));
    b ^= exchange;
  }
  commit(barrier + 16);
  wait(barrier + 16, 0);
  asm volatile("tcgen05.fence::before_thread_sync;" ::: "memory");
}

template <class kind>
__device__ __forceinline__ void multiply(u32* out, const u64* in, u64* stamps, u32 iterations) {
  __shared__ __align__(8) u64 barriers[3];
  __shared__ u32 handle;
  const u32 barrier = address(barriers);
  if (threadIdx.x < 32)
    asm volatile("tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%0], %1;" ::"r"(address(&handle)),
                 "n"(COLUMNS)
                 : "memory");
  if (threadIdx.x == 0)
    for (int j = 0; j < 3; ++j)
      asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier + 8 * j) : "memory");
  fill(reinterpret_cast<const unsigned char*>(in + 4));
  __syncthreads();
  const u32 tensor = handle;
  const u32 lanes = tensor + ((threadIdx.x & ~31u) << 16);  // a warp reaches its own 32 lanes of tensor memory
  clear(lanes);
  asm volatile("tcgen05.fence::before_thread_sync;" ::: "memory");
  // A descriptor's low 14 bits are the address in units of 16 bytes.
  const u64 a = in[0] + (address(image) >> 4);
  const u64 b = in[1] + (address(image + TILES * A_BYTES) >> 4);
  const u32 word = static_cast<u32>(in[2]);
  stamp(stamps, 0);
  asm volatile("tcgen05.fence::after_thread_sync;" ::: "memory");
  u32 elected = 0;
  if (threadIdx.x < 32)
    asm volatile("{ .reg .pred one; elect.sync _|one, 0xffffffff; selp.u32 %0, 1, 0, one; }" : "=r"(elected));
  if (elected) issue<kind>(tensor, a, b, b ^ (b + (B_BYTES >> 4)), word, barrier, iterations);
  __syncwarp();
  sign_off(stamps, iterations);
  asm volatile("tcgen05.fence::after_thread_sync;" ::: "memory");
  save(out + blockIdx.x * (COLUMNS * THREADS) + threadIdx.x, lanes);
  asm volatile("tcgen05.fence::before_thread_sync;" ::: "memory");
  __syncthreads();
  if (threadIdx.x < 32)
    asm volatile("tcgen05.dealloc.cta_group::1.sync.aligned.b32 %0, %1;" ::"r"(tensor), "n"(COLUMNS));
}

#define MB_KIND(name)                                                                               \
  struct name {                                                                                     \
    static __device__ __forceinline__ void mma(u32 tensor, u64 a, u64 b, u32 word) {                \
      asm volatile("{ .reg .pred add; setp.eq.u32 add, 0, 0; tcgen05.mma.cta_group::1.kind::" #name \
                   " [%0], %1, %2, %3, add; }" ::"r"(tensor),                                       \
                   "l"(a), "l"(b), "r"(word)                                                        \
                   : "memory");                                                                     \
    }                                                                                               \
  };

#define MB_TCGEN05(symbol, kind)                                     \
  extern "C" __global__ void __launch_bounds__(THREADS, 1)           \
      symbol(u32* out, const u64* in, u64* stamps, u32 iterations) { \
    multiply<kind>(out, in, stamps, iterations);                     \
  }

MB_KIND(f16)
MB_KIND(tf32)
MB_KIND(f8f6f4)
MB_TCGEN05(tcgen05_f16_m128n256k16, f16)
MB_TCGEN05(tcgen05_bf16_m128n256k16, f16)
MB_TCGEN05(tcgen05_tf32_m128n256k8, tf32)
MB_TCGEN05(tcgen05_e4m3_m128n256k32, f8f6f4)
MB_TCGEN05(tcgen05_e5m2_m128n256k32, f8f6f4)
#if __CUDA_ARCH__ == 1000
MB_KIND(i8)
MB_TCGEN05(tcgen05_i8_m128n256k32, i8)
#endif
