// Load-to-use latency: each load's address is the value of the one before.
//
// The host writes a random cycle over the whole working set (absolute addresses; for shared memory byte offsets), one
// node a cache line, so that nothing can prefetch it and the set's size decides which level answers. `.ca` may hit L1,
// `.cg` looks in L2 first. Inline PTX, because a volatile C++ pointer becomes a system-scope load, which never stops at
// L1. All lanes of the one warp follow the same address, which is one request. 16 steps a trip leave the loop's own
// instructions in the shadow of the first.
//
// targets: sm_75 sm_80 sm_86 sm_89 sm_90a sm_100a sm_103a sm_120f
// Layout "compute": (out, in, stamps, iterations). Global: in is the first node, out the last one reached, 8 bytes a
// lane and block. Shared: in NODES offsets of 4 bytes, the first node is at 0; out the last offset reached, 4 bytes a
// lane and block.

#include "prelude.cuh"

constexpr int THREADS = 32;
constexpr int STEPS = 16;
constexpr int NODES = 4096;

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
