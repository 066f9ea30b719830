// Load-to-use latency: each load's address is the value of the one before.
//
// A random cycle goes over the whole working set (absolute addresses; for shared memory byte offsets), one node a cache
// line, so that nothing can prefetch it and the set's size decides which level answers. Shared memory's is written by
// the host; in global memory `lay` writes it, the host's own way would fill and carry whole lines for a second a run:
// node `place(t)` leads to `place(t + 1)`, where `place` is a permutation that both sides work out number by number (a
// Feistel network over the next larger even power of two, walked on until it lands inside the set). `touch` reads every
// line from every block, so that each multiprocessor would find it where a cache holds the set. `.ca` may hit L1,
// `.cg` looks in L2 first. Inline PTX, because a volatile C++ pointer becomes a system-scope load, which never stops at
// L1. All lanes of the one warp follow the same address, which is one request. 16 steps a trip leave the loop's own
// instructions in the shadow of the first.
//
// targets: sm_75 sm_80 sm_86 sm_89 sm_90a sm_100a sm_103a sm_120f
// Layout "compute": (out, in, stamps, iterations). Global: in is the first node, out the last one reached, 8 bytes a
// lane and block. Shared: in NODES offsets of 4 bytes, the first node is at 0; out the last offset reached, 4 bytes a
// lane and block. lay: out the first line, iterations the number of lines, 2 at least. touch: in the first line, out 8
// bytes, iterations the number of lines.

#include "prelude.cuh"

constexpr int THREADS = 32;
constexpr int STEPS = 16;
constexpr int NODES = 4096;
constexpr int LAYERS = 256;  // threads of a block that lays or touches
constexpr int LINE_WORDS = 16;
constexpr u32 ROUNDS = 4;

struct through_l1 {
  static __device__ __forceinline__ u64 next(u64 at) {
    u64 to;
    asm volatile("ld.global.ca.u64 %0, [%1];" : "=l"(to) : "l"(at));
    return to;
  }
};

struct through_l2 {
  static __device__ __forceinline__ u64 next(u64 at) {
    u64 to;
    asm volatile("ld.global.cg.u64 %0, [%1];" : "=l"(to) : "l"(at));
    return to;
  }
};

template <class path>
__device__ __forceinline__ void chase(u64* out, const u64* in, u64* stamps, u32 iterations) {
  u64 at = reinterpret_cast<u64>(in);
  stamp(stamps, 0);
#pragma unroll 1
  for (u32 i = 0; i < iterations; ++i) {
#pragma unroll
    for (int s = 0; s < STEPS; ++s) at = path::next(at);
  }
  out[blockIdx.x * THREADS + threadIdx.x] = at;  // before the stamp: the last load must have come back
  sign_off(stamps, iterations);
}

extern "C" __global__ void __launch_bounds__(THREADS) chase_ca(u64* out, const u64* in, u64* stamps, u32 iterations) {
  chase<through_l1>(out, in, stamps, iterations);
}

extern "C" __global__ void __launch_bounds__(THREADS) chase_cg(u64* out, const u64* in, u64* stamps, u32 iterations) {
  chase<through_l2>(out, in, stamps, iterations);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    chase_shared(u32* out, const u32* in, u64* stamps, u32 iterations) {
  __shared__ u32 nodes[NODES];
  const u32 base = address(nodes);
  for (u32 j = threadIdx.x; j < NODES; j += THREADS) nodes[j] = base + in[j];
  u32 at = base;
  stamp(stamps, 0);
#pragma unroll 1
  for (u32 i = 0; i < iterations; ++i) {
#pragma unroll
    for (int s = 0; s < STEPS; ++s) asm volatile("ld.shared.u32 %0, [%0];" : "+r"(at));
  }
  out[blockIdx.x * THREADS + threadIdx.x] = at - base;
  sign_off(stamps, iterations);
}

// One half stirred, by odd multipliers and shifts that any hash has; `round` keeps the rounds apart.
__device__ __forceinline__ u32 stirred(u32 half, u32 round) {
  half = (half + 0x7F4A7C15u * (round + 1)) * 0x9E3779B1u;
  half ^= half >> 15;
  half *= 0x85EBCA77u;
  return half ^ half >> 13;
}

// Where the cycle is after `step` steps: `half` bits a half, which hold all nodes.
__device__ __forceinline__ u32 place(u32 step, u32 nodes, u32 half) {
  const u32 mask = (1u << half) - 1;
  u32 at = step;
#pragma unroll 1
  do {
    u32 left = at >> half, right = at & mask;
#pragma unroll 1
    for (u32 round = 0; round < ROUNDS; ++round) {
      const u32 next = left ^ (stirred(right, round) & mask);
      left = right;
      right = next;
    }
    at = left << half | right;
  } while (at >= nodes);
  return at;
}

extern "C" __global__ void __launch_bounds__(LAYERS) chase_lay(u64* out, const u64*, u64*, u32 nodes) {
  u32 half = 1;
  while (half < 16 && nodes > 1u << 2 * half) ++half;
  const u64 first = reinterpret_cast<u64>(out);
  for (u32 step = blockIdx.x * LAYERS + threadIdx.x; step < nodes; step += gridDim.x * LAYERS) {
    const u32 next = step + 1 < nodes ? step + 1 : 0;
    out[static_cast<u64>(place(step, nodes, half)) * LINE_WORDS] =
        first + static_cast<u64>(place(next, nodes, half)) * (LINE_WORDS * 8);
  }
}

extern "C" __global__ void __launch_bounds__(LAYERS) chase_touch(u64* out, const u64* in, u64*, u32 nodes) {
  u64 sum = 0;
  for (u32 line = threadIdx.x; line < nodes; line += LAYERS) {
    u64 found;
    asm volatile("ld.global.cg.u64 %0, [%1];" : "=l"(found) : "l"(in + static_cast<u64>(line) * LINE_WORDS));
    sum |= found;
  }
  // Addresses of lines are even: never written, but nobody can know.
  if (sum & 1) out[0] = sum;
}
