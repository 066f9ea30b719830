// The clock that every timing uses: CLOCK_MONOTONIC, read through the vDSO. Not the time-stamp counter, which ticks at
// a rate of its own and would turn into "cycles" that are not the core's.
#pragma once

#include <time.h>

#include <cstdint>

namespace mb {

inline std::int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace mb
