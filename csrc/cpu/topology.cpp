#include "topology.hpp"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <memory>
#include <thread>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace mb {
namespace {

// Far above what any kernel is built for; a set of so many bits is 128 KiB.
constexpr int most_cpus = 1 << 20;

using cpu_set = std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)>;

cpu_set empty_set(int size) {
  cpu_set set(CPU_ALLOC(size), [](cpu_set_t* held) { CPU_FREE(held); });
  CPU_ZERO_S(CPU_ALLOC_SIZE(size), set.get());
  return set;
}

#if defined(__x86_64__)

struct registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

registers cpuid(unsigned leaf, unsigned subleaf = 0) {
  registers r;
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);  // leaves zeros above the highest leaf
  return r;
}

// Bits that tell `count` things apart.
int bits_for(unsigned count) { return static_cast<int>(std::bit_width(std::max(count, 1u) - 1)); }

// Leaf 0x1F or 0xB: one subleaf a level, each with the bits up to and including it; the last level is below the
// package.
bool by_levels(unsigned leaf, place& here) {
  constexpr unsigned threads = 1, most_levels = 8;
  for (unsigned level = 0; level < most_levels; ++level) {
    const auto r = cpuid(leaf, level);
    const auto type = r.c >> 8 & 0xff;
    if (type == 0 || (level == 0 && (r.b & 0xffff) == 0)) break;
    here.id = r.d;
    here.package_bits = static_cast<int>(r.a & 31);
    if (type == threads) here.core_bits = here.package_bits;
  }
  return here.package_bits >= 0;
}

// AMD's own leaf, of chips or hypervisors without leaf 0xB.
bool by_units(place& here) {
  const bool offered = cpuid(0x80000000).a >= 0x8000001e && (cpuid(0x80000001).c >> 22 & 1) != 0;
  if (!offered) return false;
  const auto unit = cpuid(0x8000001e);
  here.id = unit.a;
  here.core_bits = bits_for((unit.b >> 8 & 0xff) + 1);
  here.package_bits = static_cast<int>(cpuid(0x80000008).c >> 12 & 15);
  return here.package_bits > 0;
}

void by_first_leaf(place& here) {
  const auto first = cpuid(1);
  const bool several = (first.d >> 28 & 1) != 0;
  here.id = first.b >> 24;
  here.package_bits = several ? bits_for(first.b >> 16 & 0xff) : 0;
  here.core_bits = std::max(0, here.package_bits - bits_for((cpuid(4).a >> 26) + 1));
}

place account(int cpu) {
  place here;
  here.cpu = cpu;
  if (!by_levels(0x1f, here) && !by_levels(0xb, here) && !by_units(here)) by_first_leaf(here);
  const bool amd = cpuid(0).c == 0x444d4163 || cpuid(0).c == 0x656e6975;  // "cAMD", "uine" of HygonGenuine
  for (unsigned i = 0; i < 16; ++i) {
    const auto r = cpuid(amd ? 0x8000001d : 4, i);
    const auto type = r.a & 31, level = r.a >> 5 & 7;
    if (type == 0) break;
    if (type != 2 && level < here.cache_bits.size()) here.cache_bits[level] = bits_for((r.a >> 14 & 0xfff) + 1);
  }
  const bool hybrid = (cpuid(7).d >> 15 & 1) != 0;
  const auto type = hybrid ? cpuid(0x1a).a >> 24 : 0;
  here.kind = type == 0x40 ? "performance" : type == 0x20 ? "efficiency" : "";
  return here;
}

#endif

}  // namespace

std::vector<int> allowed_cpus() {
  std::vector<int> cpus;
  for (int size = CPU_SETSIZE; size <= most_cpus && cpus.empty(); size *= 2) {
    const auto set = empty_set(size);
    if (sched_getaffinity(0, CPU_ALLOC_SIZE(size), set.get()) != 0) continue;
    for (int cpu = 0; cpu < size; ++cpu)
      if (CPU_ISSET_S(static_cast<unsigned>(cpu), CPU_ALLOC_SIZE(size), set.get())) cpus.push_back(cpu);
  }
  return cpus;
}

int pin_thread(int cpu) {
  if (cpu < 0 || cpu >= most_cpus) return EINVAL;
  const int size = std::max(CPU_SETSIZE, cpu + 1);
  const auto set = empty_set(size);
  CPU_SET_S(static_cast<unsigned>(cpu), CPU_ALLOC_SIZE(size), set.get());
  return pthread_setaffinity_np(pthread_self(), CPU_ALLOC_SIZE(size), set.get());
}

#if defined(__x86_64__)

std::vector<place> places(const std::vector<int>& cpus) {
  std::vector<place> found;
  // A thread of its own, so that the caller stays where it was.
  std::thread([&] {
    for (const auto cpu : cpus)
      if (pin_thread(cpu) == 0) found.push_back(account(cpu));
  }).join();
  return found;
}

#else

std::vector<place> places(const std::vector<int>&) { return {}; }

#endif

}  // namespace mb
