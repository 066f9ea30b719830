// Where a CPU says it is: the numbers that cpuid gives each one, for systems that do not describe their CPUs.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace mb {

// One CPU's own account. CPUs with equal `id >> bits` share what the bits count: a core, a package, a cache.
struct place {
  int cpu = 0;
  std::uint64_t id = 0;                           // x2APIC
  int core_bits = -1;                             // -1: not told
  int package_bits = -1;                          // of sockets
  std::array<int, 4> cache_bits{-1, -1, -1, -1};  // by level; data and unified caches
  std::string kind;                               // performance or efficiency; empty on chips whose cores are alike
};

// The accounts of these CPUs, each read on that CPU; those where this thread may not run are left out. Empty on
// architectures whose user programs cannot ask.
std::vector<place> places(const std::vector<int>& cpus);

// The CPUs that this process may use, in ascending order, however many the kernel was built for.
std::vector<int> allowed_cpus();
// Pins the calling thread; returns 0 or an errno.
int pin_thread(int cpu);

}  // namespace mb
