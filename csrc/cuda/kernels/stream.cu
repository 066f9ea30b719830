// Streams through memory: read, write, copy and triad with 16-byte accesses, UNROLL independent ones a trip.
//
// Which level answers is decided by the working set that the host passes, not by the code: loads are `.cg` (cached in
// L2, never in L1), so a set beyond the last cache measures DRAM and one below half of it measures L2. Little's law
// decides the shape: about 48 to 64 KiB in flight a SM for HBM; 2048 threads x 2 x 16 B hold 64 KiB. Variants differ in
// UNROLL alone, so that a sweep of unroll x resident blocks shows a best that is not at its edge. A read is summed word
// by word (integers, wrapping), which keeps every load alive at a fifth of the issue slots and is exact.
//
// targets: sm_75 sm_80 sm_86 sm_89 sm_90a sm_100a sm_103a sm_120f
// Layout "stream": (out, in, in2, stamps, count, first, step, iterations); count, first, step in 16-byte elements and
// multiples of the tile (UNROLL * THREADS), step < count < 2^31. A block starts at (first + blockIdx * tile) % count
// and goes on by step, wrapping.

#include "prelude.cuh"

constexpr int THREADS = 256;

__device__ __forceinline__ word4 load(const word4* at) {
  word4 v;
  asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(at));
  return v;
}

__device__ __forceinline__ void store(word4* at, word4 v) {
  asm volatile("st.global.cg.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(at), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
}

// b + s * c on the bits of a float.
__device__ __forceinline__ u32 axpy(u32 s, u32 c, u32 b) {
  u32 a;
  asm volatile("fma.rn.f32 %0, %1, %2, %3;" : "=r"(a) : "r"(s), "r"(c), "r"(b));
  return a;
}

struct walk {
  u32 at, count, step;
  __device__ __forceinline__ walk(u32 count_, u32 first, u32 step_, u32 tile)
      : at((first + blockIdx.x * tile) % count_), count(count_), step(step_) {}
  __device__ __forceinline__ void go_on() {
    at += step;
    at = at >= count ? at - count : at;
  }
};

template <int UNROLL>
__device__ __forceinline__ void read(word4* out, const word4* in, u64* stamps, walk w, u32 iterations) {
  word4 sum = {0, 0, 0, 0};
  stamp(stamps, 0);
#pragma unroll 1
  for (u32 i = 0; i < iterations; ++i) {
    const word4* from = in + w.at + threadIdx.x;
    word4 v[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) v[u] = load(from + u * THREADS);
    w.go_on();
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
      sum.x += v[u].x;
      sum.y += v[u].y;
      sum.z += v[u].z;
      sum.w += v[u].w;
    }
  }
  sign_off(stamps, iterations);
  store(out + blockIdx.x * THREADS + threadIdx.x, sum);
}

template <int UNROLL>
__device__ __forceinline__ void write(word4* out, const word4* in, u64* stamps, walk w, u32 iterations) {
  const word4 value = load(in + threadIdx.x);
  stamp(stamps, 0);
#pragma unroll 1
  for (u32 i = 0; i < iterations; ++i) {
    word4* to = out + w.at + threadIdx.x;
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) store(to + u * THREADS, value);
    w.go_on();
  }
  sign_off(stamps, iterations);
}

template <int UNROLL>
__device__ __forceinline__ void copy(word4* out, const word4* in, u64* stamps, walk w, u32 iterations) {
  stamp(stamps, 0);
#pragma unroll 1
  for (u32 i = 0; i < iterations; ++i) {
    const u32 at = w.at + threadIdx.x;
    word4 v[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) v[u] = load(in + at + u * THREADS);
    w.go_on();
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) store(out + at + u * THREADS, v[u]);
  }
  sign_off(stamps, iterations);
}

// The scale is the bits of a float in the last word of in2's 16 bytes at count: the host allocates one element more.
template <int UNROLL>
__device__ __forceinline__ void triad(word4* out, const word4* in, const word4* in2, u64* stamps, walk w,
                                      u32 iterations) {
  const u32 s = load(in2 + w.count).w;
  stamp(stamps, 0);
#pragma unroll 1
  for (u32 i = 0; i < iterations; ++i) {
    const u32 at = w.at + threadIdx.x;
    word4 b[UNROLL], c[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
      b[u] = load(in + at + u * THREADS);
      c[u] = load(in2 + at + u * THREADS);
    }
    w.go_on();
#pragma unroll
    for (int u = 0; u < UNROLL; ++u)
      store(out + at + u * THREADS,
            {axpy(s, c[u].x, b[u].x), axpy(s, c[u].y, b[u].y), axpy(s, c[u].z, b[u].z), axpy(s, c[u].w, b[u].w)});
  }
  sign_off(stamps, iterations);
}

#define MB_STREAM(what, unroll, ...)                                                                                \
  extern "C" __global__ void __launch_bounds__(THREADS) what##_u##unroll(                                           \
      word4* out, const word4* in, const word4* in2, u64* stamps, u32 count, u32 first, u32 step, u32 iterations) { \
    what<unroll>(__VA_ARGS__, stamps, walk(count, first, step, unroll * THREADS), iterations);                      \
  }

MB_STREAM(read, 1, out, in)
MB_STREAM(read, 2, out, in)
MB_STREAM(read, 4, out, in)
MB_STREAM(read, 8, out, in)
MB_STREAM(write, 1, out, in)
MB_STREAM(write, 2, out, in)
MB_STREAM(write, 4, out, in)
MB_STREAM(write, 8, out, in)
MB_STREAM(copy, 1, out, in)
MB_STREAM(copy, 2, out, in)
MB_STREAM(copy, 4, out, in)
MB_STREAM(copy, 8, out, in)
MB_STREAM(triad, 1, out, in, in2)
MB_STREAM(triad, 2, out, in, in2)
MB_STREAM(triad, 4, out, in, in2)
MB_STREAM(triad, 8, out, in, in2)

#if __CUDA_ARCH__ >= 900
// The same streams by bulk copies: the copy engine of the SM moves whole stages between global and shared memory, one
// thread asks. STAGES x 8 KiB = 64 KiB are in flight a block. Layout "stream", the tile is one stage; the block's 32
// threads fill and drain.
constexpr int STAGES = 8;
constexpr int STAGE_BYTES = 8192;
constexpr int STAGE = STAGE_BYTES / 16;
constexpr int BULK_THREADS = 32;
constexpr int AHEAD = STAGES / 2;

extern __shared__ __align__(128) unsigned char ring[];

__device__ __forceinline__ void fetch(u32 stage, const word4* from, u32 barrier) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "n"(STAGE_BYTES) : "memory");
  asm volatile("cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(stage),
               "l"(from), "n"(STAGE_BYTES), "r"(barrier)
               : "memory");
}

__device__ __forceinline__ void put(word4* to, u32 stage) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(stage), "n"(STAGE_BYTES)
               : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

// Waits for the phase of that parity to end; the parity before the first one has always ended.
__device__ __forceinline__ void wait(u32 barrier, u32 parity) {
  asm volatile(
      "{\n.reg .pred done;\nAGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra AGAIN;\n}" ::
          "r"(barrier),
      "r"(parity)
      : "memory");
}

// One thread of the warp. Under an ordinary divergent `if` ptxas would wrap every bulk copy in a loop of its own.
__device__ __forceinline__ bool chosen() {
  u32 elected;
  asm volatile("{ .reg .pred one; elect.sync _|one, 0xffffffff; selp.u32 %0, 1, 0, one; }" : "=r"(elected));
  return elected != 0;
}

__device__ __forceinline__ u32 arm(u64* barriers) {
  const u32 barrier = address(barriers);
  if (threadIdx.x == 0)
    for (int j = 0; j < STAGES; ++j)
      asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier + 8 * j) : "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  return barrier;
}

// out: the last STAGES tiles that the block read, stage by stage (needs at least STAGES iterations).
extern "C" __global__ void __launch_bounds__(BULK_THREADS)
    read_bulk(word4* out, const word4* in, const word4*, u64* stamps, u32 count, u32 first, u32 step, u32 iterations) {
  __shared__ __align__(8) u64 barriers[STAGES];
  const u32 barrier = arm(barriers), stages = address(ring);
  walk w(count, first, step, STAGE);
  stamp(stamps, 0);
  if (chosen()) {
#pragma unroll 1
    for (u32 i = 0; i < iterations; ++i) {
      const u32 s = i % STAGES;
      wait(barrier + 8 * s, ((i / STAGES) & 1) ^ 1);
      fetch(stages + s * STAGE_BYTES, in + w.at, barrier + 8 * s);
      w.go_on();
    }
    for (u32 s = 0; s < STAGES; ++s) wait(barrier + 8 * s, (((iterations + STAGES - 1 - s) / STAGES) & 1) ^ 1);
  }
  __syncwarp();
  sign_off(stamps, iterations);
  for (u32 at = threadIdx.x; at < STAGES * STAGE; at += BULK_THREADS)
    out[blockIdx.x * (STAGES * STAGE) + at] = reinterpret_cast<word4*>(ring)[at];
}

// Stores the stage that `in` filled, over and over.
extern "C" __global__ void __launch_bounds__(BULK_THREADS)
    write_bulk(word4* out, const word4* in, const word4*, u64* stamps, u32 count, u32 first, u32 step, u32 iterations) {
  const u32 stages = address(ring);
  for (u32 at = threadIdx.x; at < STAGE; at += BULK_THREADS) reinterpret_cast<word4*>(ring)[at] = in[at];
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  walk w(count, first, step, STAGE);
  stamp(stamps, 0);
  if (chosen()) {
#pragma unroll 1
    for (u32 i = 0; i < iterations; ++i) {
      put(out + w.at, stages);
      asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(STAGES) : "memory");
      w.go_on();
    }
    asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
  }
  __syncwarp();
  sign_off(stamps, iterations);
}

// Reads run AHEAD stages before the writes; the last AHEAD tiles fetched are not written.
extern "C" __global__ void __launch_bounds__(BULK_THREADS)
    copy_bulk(word4* out, const word4* in, const word4*, u64* stamps, u32 count, u32 first, u32 step, u32 iterations) {
  __shared__ __align__(8) u64 barriers[STAGES];
  const u32 barrier = arm(barriers), stages = address(ring);
  walk from(count, first, step, STAGE), to = from;
  stamp(stamps, 0);
  if (chosen()) {
    for (u32 s = 0; s < AHEAD; ++s, from.go_on()) fetch(stages + s * STAGE_BYTES, in + from.at, barrier + 8 * s);
#pragma unroll 1
    for (u32 i = 0; i < iterations; ++i) {
      const u32 s = i % STAGES, next = (i + AHEAD) % STAGES;
      wait(barrier + 8 * s, (i / STAGES) & 1);
      put(out + to.at, stages + s * STAGE_BYTES);
      asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(AHEAD) : "memory");
      fetch(stages + next * STAGE_BYTES, in + from.at, barrier + 8 * next);
      from.go_on();
      to.go_on();
    }
    for (u32 i = iterations; i < iterations + AHEAD; ++i) wait(barrier + 8 * (i % STAGES), (i / STAGES) & 1);
    asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
  }
  __syncwarp();
  sign_off(stamps, iterations);
}
#endif
