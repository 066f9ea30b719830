// What a load from main memory takes while other cores keep it busy, and what those get meanwhile.
//
// Thread 0 follows pointers through lines in random order; every other thread reads an array of its own from end to end
// with plain loads, which the compiler's vectors and the hardware's prefetchers carry to what one core can move. Two
// kernels are the same threads with the roles exchanged: `loaded.latency` times a number of pointers while the streams
// go on until it is done, `loaded.bandwidth` a number of blocks on every stream while the pointers are followed. So one
// gives latency and the other bandwidth of one load on memory. With one thread the first is a chase without a load.
//
// Proof: the pointer is as many places further as it made loads, and the words of every block add up.
#include <atomic>
#include <numeric>
#include <random>

#include "../memory.hpp"
#include "../widths.hpp"

namespace mb::loaded {

using namespace memory;

inline constexpr std::size_t loads = 32;
inline constexpr std::size_t words = page / sizeof(std::uint64_t);

struct node {
  node* next;
  std::uint64_t place;
};

struct state {
  node* at = nullptr;
  std::uint64_t start = 0, followed = 0;
  const std::uint64_t* array = nullptr;
  std::size_t blocks = 0, block = 0;
  std::uint64_t sum = 0, read = 0;
  std::uint64_t runs = 0;
  // The leader's: how many timed threads have ended in all runs so far. It only grows, so nobody has to set it back
  // while somebody still waits for it.
  alignas(2 * line) std::atomic<std::uint64_t> ended = 0;
};

inline state& state_of(const context& own) { return *static_cast<state*>(own.state.get()); }

[[gnu::always_inline]] inline void follow(state& mine) {
  auto* at = mine.at;
  for (std::size_t i = 0; i < loads; ++i) {
    at = at->next;
    asm volatile("" : "+r"(at));
  }
  mine.at = at;
  mine.followed += loads;
}

[[gnu::always_inline]] inline void read_block(state& mine) {
  const auto* const from = mine.array + mine.block * words;
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < words; ++i) sum += from[i];
  asm volatile("" : "+r"(sum));
  mine.sum += sum;
  ++mine.read;
  if (++mine.block == mine.blocks) mine.block = 0;
}

// What this thread does: for so many iterations where it is timed, else until all timed threads have ended.
template <class Step>
[[gnu::always_inline]] inline void go_on(context& own, std::uint64_t iterations, unsigned timed, bool is_timed,
                                         const Step& step) {
  auto& ended = state_of(*own.leader).ended;
  const auto all = ++state_of(own).runs * timed;
  if (is_timed) {
    for (auto left = iterations; left != 0; --left) step();
    ended.fetch_add(1, std::memory_order_acq_rel);
  } else {
    while (ended.load(std::memory_order_acquire) < all) step();
  }
}

struct latency {
  [[gnu::noinline]] static std::uint64_t run(context& own, std::uint64_t iterations) {
    auto& mine = state_of(own);
    if (own.thread == 0)
      go_on(own, iterations, 1, true, [&] { follow(mine); });
    else
      go_on(own, iterations, 1, false, [&] { read_block(mine); });
    return iterations;
  }
};

struct bandwidth {
  [[gnu::noinline]] static std::uint64_t run(context& own, std::uint64_t iterations) {
    auto& mine = state_of(own);
    const auto streams = own.threads - 1;
    if (own.thread == 0)
      go_on(own, iterations, std::max(streams, 1U), streams == 0, [&] { follow(mine); });
    else
      go_on(own, iterations, streams, true, [&] { read_block(mine); });
    return iterations;
  }
};

namespace {

void clear(std::byte* array, std::size_t first, std::size_t last) {
  std::fill(array + first, array + last, std::byte{});
}

void count(std::byte* array, std::size_t first, std::size_t last) {
  auto* const all = reinterpret_cast<std::uint64_t*>(array);
  for (auto i = first / sizeof *all; i < last / sizeof *all; ++i) all[i] = i % words;
}

node* line_at(std::byte* array, std::size_t i) { return reinterpret_cast<node*>(array + i * line); }

void link(std::byte* array, std::size_t lines) {
  std::minstd_rand random(1);
  std::vector<std::uint32_t> order(lines);
  std::iota(order.begin(), order.end(), 0U);
  std::shuffle(order.begin(), order.end(), random);
  for (std::size_t i = 0; i < lines; ++i) *line_at(array, order[i]) = {line_at(array, order[(i + 1) % lines]), i};
}

void configure(context& own, const parameters& given) {
  const auto asked = requested(given, 64 << 10);
  auto held = std::make_shared<state>();
  if (own.thread == 0) {
    const auto lines = std::max<std::size_t>(asked.working_set / line, 1);
    if (lines > std::size_t{1} << 32) throw bad_parameter("parameter working_set must be at most 256 GiB here");
    auto* const memory = array(own, "loaded.cycle." + std::to_string(lines), lines * line, asked.huge, clear);
    if (line_at(memory, 0)->next == nullptr) link(memory, lines);
    held->at = line_at(memory, 0);
    held->blocks = lines;
  } else {
    const auto bytes = round_up(asked.working_set, page);
    held->array = reinterpret_cast<const std::uint64_t*>(array(own, "loaded.words", bytes, asked.huge, count));
    held->blocks = bytes / page;
  }
  own.working_set = asked.working_set;
  own.state = std::move(held);
}

void arm(context& own, std::uint64_t) {
  auto& mine = state_of(own);
  mine.followed = mine.read = mine.sum = 0;
  if (mine.at != nullptr) mine.start = mine.at->place;
}

bool check(const context& own, std::uint64_t) {
  const auto& mine = state_of(own);
  if (mine.at != nullptr) return mine.at->place == (mine.start + mine.followed) % mine.blocks;
  return mine.sum == mine.read * (words * (words - 1) / 2);
}

sheet facts(const char* name, const char* measures, const char* says) {
  return {.name = name,
          .measures = measures,
          .roles = {"loaded"},
          .says = says,
          .unit = "scalar",
          .access = "read",
          .variant = "scalar",
          .frequency_license = narrow_license,
          .params = {"working_set", "pages"},
          .operands = "exact"};
}

kernel timed_chase() {
  auto about = facts("loaded.latency", "latency", "follows pointers while the other threads read main memory");
  about.loads = loads;
  about.access_bytes = sizeof(node*);
  about.per_iteration.bytes_read = loads * sizeof(node*);
  about.symbol = symbol_of<latency>();
  return {std::move(about), latency::run, configure, check, arm};
}

kernel timed_streams() {
  auto about = facts("loaded.bandwidth", "memory", "reads main memory while one thread follows pointers");
  about.access_bytes = sizeof(std::uint64_t);
  about.per_iteration.bytes_read = page;
  about.symbol = symbol_of<bandwidth>();
  return {std::move(about), bandwidth::run, configure, check, arm};
}

MB_KERNEL(timed_chase())
MB_KERNEL(timed_streams())

}  // namespace
}  // namespace mb::loaded
