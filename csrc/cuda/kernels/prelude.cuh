// What every file of kernels begins with: types, the stamps of a block, an address in shared memory.
//
// It includes nothing, as those files include nothing but this: nvcc finds it beside them, NVRTC gets it in place of
// the line that names it, each file once. A block stamps before its loop and signs off behind it, so that the host has
// each block's own time and clock and not only the launch's.
typedef unsigned int u32;
typedef unsigned long long u64;

struct __align__(16) word4 {
  u32 x, y, z, w;
};

constexpr int STAMP_WORDS = 6;

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

// Where shared memory's own instructions find what a generic pointer names.
__device__ __forceinline__ u32 address(const void* at) {
  u32 found;
  asm("{ .reg .u64 wide; cvta.to.shared.u64 wide, %1; cvt.u32.u64 %0, wide; }" : "=r"(found) : "l"(at));
  return found;
}
