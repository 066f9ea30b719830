/* An independent loop of load and arithmetic, to hold the roofline's points against: one vector is loaded and K
 * multiply-adds are done with it, over an array that no cache holds. Compiled C, no software prefetch, own clock, own
 * threads; nothing is shared with the kernels but the idea.
 *
 * Usage: ridge BYTES_PER_THREAD THREADS, then lines "K SECONDS" on standard input. K is 1, 2, 4, 8, 16, 32 or 64.
 * Answers each line with FLOP/s of all threads together (a multiply-add is 2). Intensity is 2 K / sizeof(float)
 * FLOP/byte.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#if defined(__AVX512F__)
#define WIDTH 64
#elif defined(__AVX__)
#define WIDTH 32
#else
#define WIDTH 16
#endif
typedef float vec __attribute__((vector_size(WIDTH)));

/* Sums that hide a latency of 4 to 6 cycles behind two multiply-adds a cycle. */
#define SUMS 12
#define HUGE_PAGE (2UL << 20)

/* One load for all its multiply-adds: gcc would give each of them the memory operand, K loads in the place of one, and
 * a core's load buffer would hold so much less of the array. */
#if defined(__x86_64__)
#define IN_REGISTER(x) __asm__("" : "+x"(x))
#elif defined(__aarch64__)
#define IN_REGISTER(x) __asm__("" : "+w"(x))
#else
#define IN_REGISTER(x) (void)(x)
#endif

/* sum = sum / 2 + x: no two multiply-adds are alike, so no compiler can merge them, and with x = 1 every sum is 2. */
#define LOOP(K, LOADS)                                              \
  static void pass_##K(const vec* from, size_t count, vec* sums) {  \
    const vec half = (vec){} + 0.5f;                                \
    vec s[SUMS];                                                    \
    for (int j = 0; j < SUMS; j++) s[j] = sums[j];                  \
    for (size_t i = 0; i < count; i += LOADS) {                     \
      _Pragma("GCC unroll 32") for (int l = 0; l < LOADS; l++) {    \
        vec x = from[i + (size_t)l];                                \
        IN_REGISTER(x);                                             \
        _Pragma("GCC unroll 64") for (int f = 0; f < K; f++) {      \
          s[(l * K + f) % SUMS] = s[(l * K + f) % SUMS] * half + x; \
        }                                                           \
      }                                                             \
    }                                                               \
    for (int j = 0; j < SUMS; j++) sums[j] = s[j];                  \
  }
LOOP(1, 32)
LOOP(2, 16)
LOOP(4, 16)
LOOP(8, 8)
LOOP(16, 4)
LOOP(32, 2)
LOOP(64, 1)

typedef void (*pass)(const vec*, size_t, vec*);
static const struct {
  int k;
  pass run;
} passes[] = {{1, pass_1}, {2, pass_2}, {4, pass_4}, {8, pass_8}, {16, pass_16}, {32, pass_32}, {64, pass_64}};

static size_t bytes;
static pass chosen;
static int multiply_adds;
static double seconds;
static pthread_barrier_t gate;

struct worker {
  pthread_t thread;
  int cpu, wrong;
  double rate;
};

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void* work(void* argument) {
  struct worker* const own = argument;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(own->cpu, &one);
  pthread_setaffinity_np(pthread_self(), sizeof one, &one);
  vec* const array = aligned_alloc(HUGE_PAGE, bytes);
  if (!array) exit(1);
  madvise(array, bytes, MADV_HUGEPAGE);
  const size_t count = bytes / sizeof(vec);
  for (size_t i = 0; i < count; i++) array[i] = (vec){} + 1.0f;
  pthread_barrier_wait(&gate); /* filled */
  for (;;) {
    pthread_barrier_wait(&gate); /* begin */
    if (!chosen) break;
    vec sums[SUMS] = {};
    const double start = now();
    double end = start;
    size_t done = 0;
    /* A pass in pieces, so that the last one ends close to the time. */
    const size_t piece = count / 16;
    for (size_t part = 0; end - start < seconds; part = (part + 1) % 16) {
      chosen(array + part * piece, piece, sums);
      done += piece;
      end = now();
    }
    own->rate = 2.0 * multiply_adds * (double)(done * (sizeof(vec) / sizeof(float))) / (end - start);
    for (int j = 0; j < SUMS; j++)
      for (size_t lane = 0; lane < sizeof(vec) / sizeof(float); lane++) own->wrong += sums[j][lane] != 2.0f;
    pthread_barrier_wait(&gate); /* done */
  }
  free(array);
  return NULL;
}

int main(int argc, char** argv) {
  const int threads = argc == 3 ? atoi(argv[2]) : 0;
  bytes = argc == 3 ? strtoul(argv[1], NULL, 10) / HUGE_PAGE * HUGE_PAGE : 0;
  if (threads < 1 || bytes == 0) return fprintf(stderr, "usage: %s BYTES_PER_THREAD THREADS\n", argv[0]), 2;
  cpu_set_t allowed;
  sched_getaffinity(0, sizeof allowed, &allowed);
  struct worker* const workers = calloc((size_t)threads, sizeof *workers);
  pthread_barrier_init(&gate, NULL, (unsigned)threads + 1);
  for (int i = 0, cpu = 0; i < threads; i++, cpu++) {
    while (cpu < CPU_SETSIZE && !CPU_ISSET(cpu, &allowed)) cpu++;
    if (cpu == CPU_SETSIZE) return fprintf(stderr, "%d threads, but only %d CPUs\n", threads, i), 2;
    workers[i].cpu = cpu;
    pthread_create(&workers[i].thread, NULL, work, &workers[i]);
  }
  pthread_barrier_wait(&gate);
  puts("ready");
  fflush(stdout);
  while (scanf("%d %lf", &multiply_adds, &seconds) == 2) {
    chosen = NULL;
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++)
      if (passes[i].k == multiply_adds) chosen = passes[i].run;
    if (!chosen) return fprintf(stderr, "no loop of %d multiply-adds\n", multiply_adds), 2;
    pthread_barrier_wait(&gate);
    pthread_barrier_wait(&gate);
    double rate = 0;
    for (int i = 0; i < threads; i++) {
      rate += workers[i].rate;
      if (workers[i].wrong) return fprintf(stderr, "wrong result\n"), 1;
    }
    printf("%.0f\n", rate);
    fflush(stdout);
  }
  chosen = NULL;
  pthread_barrier_wait(&gate);
  for (int i = 0; i < threads; i++) pthread_join(workers[i].thread, NULL);
  free(workers);
  return 0;
}
