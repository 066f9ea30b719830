// Jobs drawn at random, for sanitizers: what no list of cases thinks of.
#pragma once

#include <cstdint>

namespace mb {

// Prepares so many jobs on several threads of the caller's kind: any kernel, on any CPUs, with parameters right and
// wrong. They run, take bursts beside reference clocks and are closed, also while others measure them. Prints a line of
// counts. Returns how many computed a wrong result or threw what is neither bad_parameter nor cannot_run.
unsigned random_jobs(unsigned count, std::uint64_t seed);

}  // namespace mb
