// Working sets of memory kernels: where the bytes come from, and in which order a loop walks them.
//
// A working set belongs to one thread and is touched first by that thread. Its pages are asked for by name, because
// they decide what is measured: with 4 KiB pages a chase through a big set measures page walks, and 2 MiB pages take
// them away.
//
// A plan holds many cases at once, so arrays are shared: all kernels that want the same contents on the same thread get
// prefixes of one arena. That is safe because every kernel leaves an array as it found it, and the jobs of a process
// take turns.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../kernel.hpp"

namespace mb::memory {

inline constexpr std::size_t line = 64;
inline constexpr std::size_t page = 4096;
inline constexpr std::size_t huge_page = std::size_t{2} << 20;

constexpr std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

// Writes the contents of an array's bytes [first, last); both are multiples of the page.
using filling = void (*)(std::byte* array, std::size_t first, std::size_t last);

// Addresses of this process that are mapped at once, and how many of them are on 2 MiB pages.
struct mapping {
  std::uintptr_t first = 0, last = 0;
  std::size_t huge_bytes = 0;
};
// All of them, from /proc/self/smaps; none where that cannot be read. Reading it walks every page table: a tenth of a
// second and more, so it is read once for all arenas.
std::vector<mapping> mappings();

// Anonymous memory, aligned to 2 MiB whatever its pages, with inaccessible memory on both sides: a loop that runs over
// its end dies instead of measuring something else, and no neighbour is merged with it, so that its huge pages can be
// counted.
class arena {
 public:
  // Reserves addresses only. Throws cannot_run, in one sentence, where there are none left.
  arena(std::size_t reserve, bool huge, int node = -1);
  ~arena();
  arena(const arena&) = delete;
  arena& operator=(const arena&) = delete;

  std::byte* begin() const { return begin_; }
  bool huge() const { return huge_; }
  std::size_t reserved() const { return reserved_; }
  std::size_t filled() const { return filled_; }
  // Makes at least the first `bytes` usable and fills what is new; the calling thread touches it first. Throws
  // cannot_run, in one sentence, where the memory is not there.
  void grow(std::size_t bytes, filling fill);
  // Gives every page back to the system, so that the next touch faults again.
  void release();
  // Bytes on 2 MiB pages, of the mappings of this process.
  std::size_t huge_bytes(const std::vector<mapping>& mappings) const;

 private:
  std::byte* mapped_ = nullptr;
  std::byte* begin_ = nullptr;
  std::size_t reserved_ = 0;
  std::atomic<std::size_t> filled_ = 0;  // read while others grow it
  bool huge_;
  int node_;
  std::mutex growing_;
};

// Around a fork: what is known of arenas is not changed meanwhile, and the child fills arenas of its own.
void before_fork();
void after_fork(bool child);

// The first `bytes` of the array with the contents named `role`, for this thread. Held by `own.memory` until the
// context goes.
std::byte* array(context& own, const std::string& role, std::size_t bytes, bool huge, filling fill);

// What the arenas that are in use hold, for the record.
struct holding {
  std::string role;
  int cpu = 0;
  bool huge = false;
  std::size_t bytes = 0;
  std::size_t huge_bytes = 0;
};
std::vector<holding> holdings();

// The parameters that all memory kernels share.
struct request {
  std::size_t working_set = 0;
  bool huge = true;
};
request requested(const parameters& given, std::size_t otherwise);
// The parameter pause_us in nanoseconds.
std::int64_t requested_pause(const parameters& given);
// The parameter cold: whether each launch evicts first what it will touch.
bool requested_cold(const parameters& given);
// Evicts these lines from every cache.
void evict(const std::vector<const std::byte*>& lines);
// Lets the neighbours of a shared cache have their time: sleeps, outside whatever is timed.
void rest(std::int64_t ns);

// Whether a loop walks a working set by halves, see `walk`: where the CPU's level 1 holds it. False where its capacity
// is unknown.
bool by_halves(std::size_t working_set, int cpu);

// The order in which the iterations of a loop visit an array of `size` bytes, `body` bytes at a time.
//
// streams 1: in ascending order. 2: the two halves in turn, so that no load instruction strides evenly; some level 1
// prefetchers answer an even stride with needless lookups, which cost a tenth of the read rate. 4, 8, 16: so many pages
// of 4 KiB side by side, `body / streams` bytes of each in turn, which keeps as many prefetchers busy.
struct walk {
  std::size_t size = 0;
  std::size_t body = 0;
  unsigned streams = 1;

  // Bytes that an array must be a multiple of.
  static constexpr std::size_t unit(std::size_t body, unsigned streams) { return streams <= 2 ? body : streams * page; }
  std::size_t bodies() const { return size / body; }
  // Iterations after which the walk repeats.
  std::size_t period() const { return streams == 2 ? 2 * bodies() : bodies(); }
  // Where iteration k begins, for k below the period.
  std::size_t offset(std::size_t k) const {
    if (streams == 1) return k * body;
    if (streams == 2) return (k / 2 + (k % 2 == 0 ? 0 : bodies() / 2)) % bodies() * body;
    const auto part = body / streams, steps = page / part;
    return k / steps * (streams * page) + k % steps * part;
  }
  // Evicts from every cache what iterations k to k + iterations of an array touch, so that a launch of those finds it
  // in main memory.
  void evict(const std::byte* array, std::size_t k, std::uint64_t iterations) const;
  // Where the j-th byte of an iteration lies, from where it begins.
  std::size_t inside(std::size_t j) const {
    const auto part = streams <= 2 ? body : body / streams;
    return j / part * page + j % part;
  }
};

}  // namespace mb::memory
