// What this CPU can execute, in the words of /proc/cpuinfo, read from cpuid (x86-64) or the auxiliary vector (aarch64)
// and from what the operating system saves on a context switch. MICROBENCH_ISA hides everything above a named set.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace mb {

struct features {
  std::string vendor;
  std::string brand;
  int family = -1;
  int model = -1;
  int stepping = -1;
  std::set<std::string> flags;   // usable
  std::set<std::string> hidden;  // there, but above the cap
  std::string cap;               // empty without MICROBENCH_ISA
  double tsc_hz = 0;             // 0: not told
};

struct cache {
  int level = 0;
  std::string type;  // data, instruction, unified
  std::uint64_t capacity_bytes = 0;
  int line_bytes = 0;
  int ways = 0;
  int shared_by = 0;
};

// Read once; throws std::invalid_argument where MICROBENCH_ISA names no known set.
const features& cpu_features();
// Caches as cpuid tells them; empty where the architecture has no such instruction.
std::vector<cache> cpu_caches();
// Asks the operating system for the tile state of this process; false where it refuses. AMX faults without it.
bool allow_tiles();

}  // namespace mb
