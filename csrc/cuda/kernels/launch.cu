// What a launch costs, what holds the queue while a batch is enqueued, and how fine the device's clock is.
//
// `empty` does nothing: its period is the launch cost. `gate` spins on a word of mapped host memory until it is set, or
// until its own timeout by the nanosecond timer has passed, so that a host that died cannot hold the device. `ticks`
// writes down the nanosecond timer as it goes, which shows its step.
//
// targets: sm_75 sm_80 sm_86 sm_89 sm_90a sm_100a sm_103a sm_120f
// Layouts: empty, ticks "compute" (out, in, stamps, iterations); gate "gate" (out, flag, stamps, timeout_ns), out 1
// released, 2 timed out.

#include "prelude.cuh"

__device__ __forceinline__ u64 now() {
  u64 ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns)::"memory");
  return ns;
}

extern "C" __global__ void empty(void*, const void*, u64*, u32) {}

extern "C" __global__ void gate(u32* out, const u32* flag, u64* stamps, u64 timeout_ns) {
  if (threadIdx.x != 0) return;
  const u64 start = now();
  u32 state = 0;
  while (state == 0) {
    u32 seen;
    asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(seen) : "l"(flag) : "memory");
    state = seen != 0 ? 1 : now() - start > timeout_ns ? 2 : 0;
  }
  stamps[0] = start;
  stamps[2] = now();
  out[0] = state;
}

extern "C" __global__ void ticks(u64* out, const void*, u64*, u32 iterations) {
  if (threadIdx.x != 0) return;
#pragma unroll 1
  for (u32 i = 0; i < iterations; ++i) out[i] = now();
}
