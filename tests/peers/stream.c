/* Copy and triad by the rules of STREAM: static arrays of doubles that no cache holds, one OpenMP loop per operation,
 * compiled code only, every pass timed on its own, the first one discarded, the best one reported, results checked at
 * the end.
 *
 * Usage: stream copy|triad SECONDS            compile with -DELEMENTS=N, the length of each of the three arrays
 * Prints the best pass in byte/s, as bytes that the program asks for: 16 an element for copy, 24 for triad.
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef ELEMENTS
#define ELEMENTS 20000000
#endif

static double a[ELEMENTS], b[ELEMENTS], c[ELEMENTS];

int main(int argc, char** argv) {
  if (argc != 3) return fprintf(stderr, "usage: %s copy|triad SECONDS\n", argv[0]), 2;
  const int triad = strcmp(argv[1], "triad") == 0;
  const double limit = atof(argv[2]), scale = 3.0;
  double best = 1e30;

#pragma omp parallel for
  for (long i = 0; i < ELEMENTS; i++) {
    a[i] = 1.0;
    b[i] = 2.0;
    c[i] = 0.5;
  }
  const double begin = omp_get_wtime();
  for (int pass = 0; pass < 3 || omp_get_wtime() - begin < limit; pass++) {
    const double start = omp_get_wtime();
    if (triad) {
#pragma omp parallel for
      for (long i = 0; i < ELEMENTS; i++) a[i] = b[i] + scale * c[i];
    } else {
#pragma omp parallel for
      for (long i = 0; i < ELEMENTS; i++) a[i] = b[i];
    }
    const double seconds = omp_get_wtime() - start;
    if (pass > 0 && seconds < best) best = seconds;
  }
  for (long i = 0; i < ELEMENTS; i++)
    if (a[i] != (triad ? 3.5 : 2.0)) return fprintf(stderr, "wrong result at %ld\n", i), 1;
  printf("%.0f\n", (triad ? 24.0 : 16.0) * ELEMENTS / best);
  return 0;
}
