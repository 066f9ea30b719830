// What one SM moves through its own ports: shared memory (read, write) and L1 (read), 16 bytes a lane, free of bank
// conflicts.
//
// The port carries 128 bytes a cycle (L1 of sm_75: 64), so a warp's 512 bytes take 4 cycles of the SM while its
// partition issues one instruction a cycle: a load may be joined by two adds of four words without becoming the limit.
// Shared accesses are volatile, and the L1 address moves to the other half after every trip, because ptxas hoists
// repeated loads of one address out of the loop. The compiler issues four or more loads of the 32 (L1: 8) before it
// uses the first; four times 16 warps an SM hold 32 KiB, which cover about 30 (40) cycles of latency many times over.
//
// targets: sm_75 sm_80 sm_86 sm_89 sm_90a sm_100a sm_103a sm_120f
// Layout "compute": (out, in, stamps, iterations).
// read_shared, write_shared: in SLOTS * THREADS elements of 16 bytes. read_l1: a header of one line of 128 bytes, so
// that no load straddles two (its first word: elements to move by, whose exclusive-or with the offset changes halves),
// then 2 * L1_LOADS * L1_THREADS elements. out: one element a thread and block, the wrapping sums; write_shared: SLOTS
// of them, slot by slot.

#include "prelude.cuh"

constexpr int THREADS = 256;
constexpr int L1_THREADS = 128;
constexpr int SLOTS = 4;
constexpr int ACCESSES = 32;
constexpr int L1_LOADS = 8;
constexpr int L1_HEADER = 128 / 16;

__device__ __forceinline__ void add(word4& sum, word4 v) {
  sum.x += v.x;
  sum.y += v.y;
  sum.z += v.z;
  sum.w += v.w;
}

__device__ __forceinline__ word4 load_shared(u32 at) {
  word4 v;
  asm volatile("ld.volatile.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(at));
  return v;
}

__device__ __forceinline__ void store_shared(u32 at, word4 v) {
  asm volatile("st.volatile.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
}

__device__ __forceinline__ word4 load_l1(const word4* at) {
  word4 v;
  asm volatile("ld.global.ca.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(at));
  return v;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    read_shared(word4* out, const word4* in, u64* stamps, u32 iterations) {
  __shared__ word4 tile[SLOTS * THREADS];
  for (int s = 0; s < SLOTS; ++s) tile[s * THREADS + threadIdx.x] = in[s * THREADS + threadIdx.x];
  const u32 mine = address(tile + threadIdx.x);
  word4 sum = {0, 0, 0, 0};
  stamp(stamps, 0);
#pragma unroll 1
  for (u32 i = 0; i < iterations; ++i) {
#pragma unroll
    for (int j = 0; j < ACCESSES; ++j) add(sum, load_shared(mine + (j % SLOTS) * THREADS * 16));
  }
  sign_off(stamps, iterations);
  out[blockIdx.x * THREADS + threadIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    write_shared(word4* out, const word4* in, u64* stamps, u32 iterations) {
  __shared__ word4 tile[SLOTS * THREADS];
  const u32 mine = address(tile + threadIdx.x);
  word4 v[SLOTS];
#pragma unroll
  for (int s = 0; s < SLOTS; ++s) v[s] = in[s * THREADS + threadIdx.x];
  stamp(stamps, 0);
#pragma unroll 1
  for (u32 i = 0; i < iterations; ++i) {
#pragma unroll
    for (int j = 0; j < ACCESSES; ++j) store_shared(mine + (j % SLOTS) * THREADS * 16, v[j % SLOTS]);
  }
  sign_off(stamps, iterations);
  for (int s = 0; s < SLOTS; ++s)
    out[(blockIdx.x * SLOTS + s) * THREADS + threadIdx.x] = tile[s * THREADS + threadIdx.x];
}

extern "C" __global__ void __launch_bounds__(L1_THREADS)
    read_l1(word4* out, const word4* in, u64* stamps, u32 iterations) {
  const u32 flip = in[0].x;
  u32 at = 0;
  word4 sum = {0, 0, 0, 0};
  stamp(stamps, 0);
#pragma unroll 1
  for (u32 i = 0; i < iterations; ++i) {
    const word4* from = in + L1_HEADER + at + threadIdx.x;
    word4 v[L1_LOADS];
#pragma unroll
    for (int j = 0; j < L1_LOADS; ++j) v[j] = load_l1(from + j * L1_THREADS);
    at ^= flip;
#pragma unroll
    for (int j = 0; j < L1_LOADS; ++j) add(sum, v[j]);
  }
  sign_off(stamps, iterations);
  out[blockIdx.x * L1_THREADS + threadIdx.x] = sum;
}
