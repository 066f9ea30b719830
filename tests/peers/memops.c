/* The C library's memcpy and memset on pinned threads, each on arrays of its own.
 *
 * Usage: memops copy|write BYTES THREADS SECONDS      BYTES per thread, over both arrays of a copy
 * Threads start each slice together; a slice counts from the first start to the last end; the best one is printed in
 * byte/s, as bytes asked for: memcpy reads and writes, memset writes. What memset writes is never zero: whole lines of
 * zeros reach memory at more than twice the rate of others on some machines, whichever instruction writes them.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { most = 1024 };
static const double slice = 5e-3;

static pthread_barrier_t gate;
static double begin_s[most], end_s[most];
static size_t array_bytes, repeats = 1;
static int copying, threads, stop;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static char* memory(size_t bytes) {
  const size_t unit = (size_t)2 << 20, whole = (bytes + unit - 1) / unit * unit;
  char* p = aligned_alloc(unit, whole);
  if (p == NULL) exit(fprintf(stderr, "no memory for %zu bytes\n", whole));
  madvise(p, whole, MADV_HUGEPAGE);
  return memset(p, 1, whole);
}

static void* work(void* argument) {
  const long me = (long)argument;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(me, &set);
  sched_setaffinity(0, sizeof set, &set);
  char *to = memory(array_bytes), *from = copying ? memory(array_bytes) : NULL;
  for (;;) {
    pthread_barrier_wait(&gate);
    if (stop) break;
    begin_s[me] = now();
    for (size_t i = 0; i < repeats; i++) {
      if (copying)
        memcpy(to, from, array_bytes);
      else
        memset(to, (int)i | 1, array_bytes);
      __asm__ volatile("" : : "r"(to) : "memory");
    }
    end_s[me] = now();
    pthread_barrier_wait(&gate);
  }
  return NULL;
}

int main(int argc, char** argv) {
  if (argc != 5) return fprintf(stderr, "usage: %s copy|write BYTES THREADS SECONDS\n", argv[0]), 2;
  copying = strcmp(argv[1], "copy") == 0;
  threads = atoi(argv[3]);
  array_bytes = strtoull(argv[2], NULL, 10) / (copying ? 2 : 1);
  const double limit = atof(argv[4]);
  if (threads < 1 || threads > most || array_bytes == 0) return 2;
  pthread_barrier_init(&gate, NULL, (unsigned)threads + 1);
  pthread_t team[most];
  for (long i = 0; i < threads; i++) pthread_create(&team[i], NULL, work, (void*)i);
  double best = 0, first = now();
  while (now() - first < limit) {
    pthread_barrier_wait(&gate);
    pthread_barrier_wait(&gate);
    double from = begin_s[0], to = end_s[0];
    for (int i = 1; i < threads; i++) {
      if (begin_s[i] < from) from = begin_s[i];
      if (end_s[i] > to) to = end_s[i];
    }
    const double rate = (double)array_bytes * (copying ? 2 : 1) * threads * (double)repeats / (to - from);
    if (rate > best) best = rate;
    if (to - from < slice / 2) repeats *= 2, first = now();
  }
  stop = 1;
  pthread_barrier_wait(&gate);
  for (int i = 0; i < threads; i++) pthread_join(team[i], NULL);
  printf("%.0f\n", best);
  return 0;
}
