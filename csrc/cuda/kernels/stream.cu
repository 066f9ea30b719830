// Streams through memory: read, write, copy and triad with 16-byte accesses, UNROLL independent ones a trip.
//
// Which level answers is decided by the working set that the host passes, not by the code: loads are `.cg` (cached in L2, never
// in L1), so a set beyond the last cache measures DRAM and one below half of it measures L2. Little's law decides the shape:
// about 48 to 64 KiB in flight a SM for HBM; 2048 threads x 2 x 16 B hold 64 KiB. Variants differ in UNROLL alone, so that a sweep
// of unroll x resident blocks shows a best that is not at its edge.
// A read is summed word by word (integers, wrapping), which keeps every load alive at a fifth of the issue slots and is exact.
//
// targets: sm_75 sm_80 sm_86 sm_89 sm_90a sm_100a sm_103a sm_120f
// Layout "stream": (out, in, in2, stamps, count, first, step, iterations); count, first, step in 16-byte elements and multiples of
// the tile (UNROLL * THREADS), step < count < 2^31. A block starts at (first + blockIdx * tile) % count and goes on by step, wrapping.

typedef unsigned int u32;
typedef unsigned long long u64;

constexpr int THREADS = 256;
constexpr int STAMP_WORDS = 6;

struct word4 {
    u32 x, y, z, w;
};

// Six words a block: ns and cycles at the start, ns and cycles at the end, the SM, the iterations done.
__device__ __forceinline__ void stamp(u64* stamps, int at)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        u64 ns, cycles;
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns)::"memory");
        asm volatile("mov.u64 %0, %%clock64;" : "=l"(cycles)::"memory");
        stamps[blockIdx.x * STAMP_WORDS + 2 * at] = ns;
        stamps[blockIdx.x * STAMP_WORDS + 2 * at + 1] = cycles;
    }
}

__device__ __forceinline__ void sign_off(u64* stamps, u32 iterations)
{
    stamp(stamps, 1);
    if (threadIdx.x == 0) {
        u32 sm;
        asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
        stamps[blockIdx.x * STAMP_WORDS + 4] = sm;
        stamps[blockIdx.x * STAMP_WORDS + 5] = iterations;
    }
}

__device__ __forceinline__ word4 load(const word4* at)
{
    word4 v;
    asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(at));
    return v;
}

__device__ __forceinline__ void store(word4* at, word4 v)
{
    asm volatile("st.global.cg.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(at), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

// b + s * c on the bits of a float.
__device__ __forceinline__ u32 axpy(u32 s, u32 c, u32 b)
{
    u32 a;
    asm volatile("fma.rn.f32 %0, %1, %2, %3;" : "=r"(a) : "r"(s), "r"(c), "r"(b));
    return a;
}

struct walk {
    u32 at, count, step;
    __device__ __forceinline__ walk(u32 count_, u32 first, u32 step_, u32 tile) : at((first + blockIdx.x * tile) % count_), count(count_), step(step_) {}
    __device__ __forceinline__ void go_on()
    {
        at += step;
        at = at >= count ? at - count : at;
    }
};

template <int UNROLL>
__device__ __forceinline__ void read(word4* out, const word4* in, u64* stamps, walk w, u32 iterations)
{
    word4 sum = {0, 0, 0, 0};
    stamp(stamps, 0);
#pragma unroll 1
    for (u32 i = 0; i < iterations; ++i) {
        const word4* from = in + w.at + threadIdx.x;
        word4 v[UNROLL];
#pragma unroll
        for (int u = 0; u < UNROLL; ++u)
            v[u] = load(from + u * THREADS);
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
__device__ __forceinline__ void write(word4* out, const word4* in, u64* stamps, walk w, u32 iterations)
{
    const word4 value = load(in + threadIdx.x);
    stamp(stamps, 0);
#pragma unroll 1
    for (u32 i = 0; i < iterations; ++i) {
        word4* to = out + w.at + threadIdx.x;
#pragma unroll
        for (int u = 0; u < UNROLL; ++u)
            store(to + u * THREADS, value);
        w.go_on();
    }
    sign_off(stamps, iterations);
}

template <int UNROLL>
__device__ __forceinline__ void copy(word4* out, const word4* in, u64* stamps, walk w, u32 iterations)
{
    stamp(stamps, 0);
#pragma unroll 1
    for (u32 i = 0; i < iterations; ++i) {
        const u32 at = w.at + threadIdx.x;
        word4 v[UNROLL];
#pragma unroll
        for (int u = 0; u < UNROLL; ++u)
            v[u] = load(in + at + u * THREADS);
        w.go_on();
#pragma unroll
        for (int u = 0; u < UNROLL; ++u)
            store(out + at + u * THREADS, v[u]);
    }
    sign_off(stamps, iterations);
}

// The scale is the bits of a float in the last word of in2's 16 bytes at count: the host allocates one element more.
template <int UNROLL>
__device__ __forceinline__ void triad(word4* out, const word4* in, const word4* in2, u64* stamps, walk w, u32 iterations)
{
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
            store(out + at + u * THREADS, {axpy(s, c[u].x, b[u].x), axpy(s, c[u].y, b[u].y), axpy(s, c[u].z, b[u].z), axpy(s, c[u].w, b[u].w)});
    }
    sign_off(stamps, iterations);
}

#define MB_STREAM(what, unroll, ...)                                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS) what##_u##unroll(                                              \
        word4* out, const word4* in, const word4* in2, u64* stamps, u32 count, u32 first, u32 step, u32 iterations)      \
    {                                                                                                                    \
        what<unroll>(__VA_ARGS__, stamps, walk(count, first, step, unroll * THREADS), iterations);                       \
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
