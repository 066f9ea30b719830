#include "memory.hpp"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <thread>
#include <tuple>

#include "features.hpp"

namespace mb::memory {
namespace {

constexpr auto unlimited = std::numeric_limits<std::size_t>::max();

// Memory asked for but not yet touched, which the system still counts as free: the threads of a team fill at the same
// time.
std::atomic<std::size_t> pending = 0;

// A file that holds one number of bytes, or the word "max".
std::size_t number_in(const char* path) {
  std::ifstream file(path);
  std::size_t bytes = 0;
  return file >> bytes ? bytes : unlimited;
}

// Bytes that can be touched before the system, or the control group of this process, starts to push others out.
std::size_t available() {
  auto free = unlimited;
  std::ifstream file("/proc/meminfo");
  for (std::string text; std::getline(file, text);)
    if (std::size_t kib = 0; std::sscanf(text.c_str(), "MemAvailable: %zu kB", &kib) == 1) free = kib * 1024;
  const auto limit = number_in("/sys/fs/cgroup/memory.max"), used = number_in("/sys/fs/cgroup/memory.current");
  if (limit != unlimited && used <= limit) free = std::min(free, limit - used);
  // A twentieth stays free: the last of it would wake the out-of-memory killer.
  return free - free / 20;
}

#if defined(__x86_64__)
// The older instruction waits for each line; the newer one is asked for by cpuid, once.
void evict_line(const std::byte* where) {
  static const bool quick = cpu_features().flags.contains("clflushopt");
  if (quick)
    asm volatile("clflushopt %0" : : "m"(*where));
  else
    asm volatile("clflush %0" : : "m"(*where));
}
void fence() { asm volatile("mfence" : : : "memory"); }
#elif defined(__aarch64__)
void evict_line(const std::byte* where) { asm volatile("dc civac, %0" : : "r"(where) : "memory"); }
void fence() { asm volatile("dsb sy" : : : "memory"); }
#endif

// By the system call itself: libnuma would be one more library for one call. No page is elsewhere, or the touch fails.
bool bind_to(int node, void* from, std::size_t bytes) {
  constexpr int only_these = 2;  // MPOL_BIND
  constexpr auto bits = std::numeric_limits<unsigned long>::digits;
  std::vector<unsigned long> mask(static_cast<std::size_t>(node / bits) + 1);
  mask.back() = 1UL << (node % bits);
  return syscall(SYS_mbind, from, bytes, only_these, mask.data(), mask.size() * bits + 1, 0U) == 0;
}

// Capacity of a CPU's level 1: from cpuid, which answers for the CPU that asks, or as the kernel tells it. 0: unknown.
std::size_t level1_bytes(int cpu) {
  for (const auto& each : cpu_caches())
    if (each.level == 1 && each.type != "instruction") return each.capacity_bytes;
  const auto caches = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cache/index";
  for (int index = 0; index < 16; ++index) {
    const auto folder = caches + std::to_string(index) + "/";
    std::ifstream level_file(folder + "level"), type_file(folder + "type"), size_file(folder + "size");
    int level = 0;
    std::string type;
    std::size_t kib = 0;
    if (!(level_file >> level && type_file >> type && size_file >> kib)) continue;
    if (level == 1 && type != "Instruction") return kib * 1024;
  }
  return 0;
}

std::string mib(std::size_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

cannot_run no_room(std::size_t bytes, std::size_t more, std::size_t free) {
  return cannot_run("a working set of " + mib(bytes) + " needs " + mib(more) + " more memory, and " + mib(free) +
                    " are free; ask for a smaller set or fewer threads");
}

// Contents, CPU, seat there, huge pages, node, process: what a child was forked off with may have been half filled.
using key = std::tuple<std::string, int, unsigned, bool, int, pid_t>;

std::mutex pool_mutex;
std::map<key, std::weak_ptr<arena>>& pool() {
  static std::map<key, std::weak_ptr<arena>> arenas;
  return arenas;
}

// An arena of its own for each key; a new one where the old has not enough addresses left, which those who hold it
// keep.
std::shared_ptr<arena> shared_arena(const key& which, std::size_t bytes) {
  const std::lock_guard lock(pool_mutex);
  auto& known = pool()[which];
  auto held = known.lock();
  if (held && held->reserved() >= bytes) return held;
  // Addresses have a price where an emulator keeps tables of all that it ever gave (6 MiB for each GiB), and where
  // a limit counts them: what cannot be filled is not asked for, and no more than the sets of most sweeps need.
  if (const auto free = available(); bytes > free) throw no_room(bytes, bytes, free);
  constexpr auto usual = std::size_t{256} << 20;
  held = std::make_shared<arena>(std::max(usual, round_up(bytes, huge_page)), std::get<3>(which), std::get<4>(which));
  known = held;
  return held;
}

}  // namespace

void before_fork() { pool_mutex.lock(); }

void after_fork(bool child) {
  if (child) pending = 0;
  pool_mutex.unlock();
}

arena::arena(std::size_t reserve, bool huge, int node)
    : reserved_(round_up(reserve, huge_page)), huge_(huge), node_(node) {
  const auto whole = reserved_ + 2 * huge_page;
  void* const got = mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (got == MAP_FAILED)
    throw cannot_run("the system refused addresses for a working set of " + mib(reserve) + " (" + std::strerror(errno) +
                     "); ask for a smaller one");
  mapped_ = static_cast<std::byte*>(got);
  const auto address = reinterpret_cast<std::uintptr_t>(mapped_);
  begin_ = mapped_ + (round_up(address + page, huge_page) - address);
}

arena::~arena() { munmap(mapped_, reserved_ + 2 * huge_page); }

void arena::grow(std::size_t bytes, filling fill) {
  const std::lock_guard lock(growing_);
  const auto wanted = round_up(bytes, huge_ ? huge_page : page);
  if (wanted <= filled_) return;
  const auto more = wanted - filled_;
  const auto others = pending.fetch_add(more), free = available();
  if (others + more > free) {
    pending.fetch_sub(more);
    throw no_room(bytes, more, free > others ? free - others : 0);
  }
  if (mprotect(begin_ + filled_, more, PROT_READ | PROT_WRITE) != 0) {
    const int error = errno;
    pending.fetch_sub(more);
    throw cannot_run("the system refused a working set of " + mib(bytes) + " (" + std::strerror(error) +
                     "); ask for a smaller one");
  }
  if (node_ >= 0 && !bind_to(node_, begin_ + filled_, more)) {
    const int error = errno;
    pending.fetch_sub(more);
    throw cannot_run("the system refused memory of NUMA node " + std::to_string(node_) + " (" + std::strerror(error) +
                     "); the nodes that this process may use are in /proc/self/status, Mems_allowed_list");
  }
  // Advice only: what came of it is what huge_bytes() tells.
  madvise(begin_ + filled_, more, huge_ ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  fill(begin_, filled_, wanted);
  filled_ = wanted;
  pending.fetch_sub(more);
}

void arena::release() { madvise(begin_, filled_, MADV_DONTNEED); }

std::vector<mapping> mappings() {
  std::vector<mapping> found;
  std::ifstream file("/proc/self/smaps");
  for (std::string text; std::getline(file, text);) {
    unsigned long first = 0, last = 0, kib = 0;
    if (std::sscanf(text.c_str(), "%lx-%lx ", &first, &last) == 2) found.push_back({first, last, 0});
    if (!found.empty() && std::sscanf(text.c_str(), "AnonHugePages: %lu kB", &kib) == 1)
      found.back().huge_bytes = kib * 1024;
  }
  return found;
}

std::size_t arena::huge_bytes(const std::vector<mapping>& mappings) const {
  const auto first = reinterpret_cast<std::uintptr_t>(begin_), last = first + filled_;
  std::size_t total = 0;
  for (const auto& each : mappings)
    if (each.first < last && each.last > first) total += each.huge_bytes;
  return std::min(total, filled_.load());
}

std::byte* array(context& own, const std::string& role, std::size_t bytes, bool huge, filling fill) {
  auto held = shared_arena({role, own.cpu, own.seat, huge, own.node, getpid()}, bytes);
  held->grow(bytes, fill);
  if (!own.memory) own.memory = std::make_shared<std::vector<std::shared_ptr<arena>>>();
  static_cast<std::vector<std::shared_ptr<arena>>*>(own.memory.get())->push_back(held);
  return held->begin();
}

std::vector<holding> holdings() {
  const std::lock_guard lock(pool_mutex);
  const auto mapped = mappings();
  std::vector<holding> all;
  for (const auto& [which, known] : pool())
    if (const auto held = known.lock(); held && std::get<5>(which) == getpid())
      all.push_back({std::get<0>(which), std::get<1>(which), held->huge(), held->filled(), held->huge_bytes(mapped)});
  return all;
}

request requested(const parameters& given, std::size_t otherwise) {
  // The upper end belongs to no machine; it keeps the arithmetic on sizes far from overflow.
  const auto bytes = integer(given, "working_set", static_cast<std::int64_t>(otherwise), 1024, std::int64_t{1} << 46);
  return {static_cast<std::size_t>(bytes), word(given, "pages", "huge", {"4k", "huge"}) == "huge"};
}

std::int64_t requested_pause(const parameters& given) { return 1000 * integer(given, "pause_us", 0, 0, 10'000'000); }

bool requested_cold(const parameters& given) { return integer(given, "cold", 0, 0, 1) != 0; }

bool by_halves(std::size_t working_set, int cpu) { return working_set <= level1_bytes(cpu); }

void walk::evict(const std::byte* array, std::size_t k, std::uint64_t iterations) const {
  const auto side = streams <= 2 ? 1U : streams;
  const auto part = body / side;
  for (std::uint64_t j = 0; j < std::min<std::uint64_t>(iterations, period()); ++j) {
    const auto* const from = array + offset((k + j) % period());
    for (std::size_t page_of = 0; page_of < side; ++page_of)
      for (std::size_t at = 0; at < part; at += line) evict_line(from + page_of * page + at);
  }
  fence();
}

void evict(const std::vector<const std::byte*>& lines) {
  for (const auto* const each : lines) evict_line(each);
  fence();
}

void rest(std::int64_t ns) {
  if (ns > 0) std::this_thread::sleep_for(std::chrono::nanoseconds(ns));
}

}  // namespace mb::memory
