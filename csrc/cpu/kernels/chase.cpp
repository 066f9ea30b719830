// The time from asking for a line to having it: each load's address is the value of the one before.
//
// The lines of a working set form one cycle in random order, so that no prefetcher can guess and every line is used
// once a round. 32 loads an iteration hide its counter. Nominal: the load-to-use latency of the level that holds the
// set (4 or 5 cycles in level 1). With 4 KiB pages, big sets measure page walks as well; parameter `window` confines
// the order to so many bytes at a time, visited window by window, which keeps the walks rare. Some processors fetch a
// line's neighbour along with it, and inside a window it would still be there: so the even lines of all windows come
// first, then the odd ones. `cold` evicts beforehand what a launch will touch, so that main memory answers whatever
// caches there are. A set that may have been driven out since its last launch, because others ran in between, is
// brought back by reading it in order, which takes a tenth of the time of following it. `pause_us` lets the other users
// of a shared level have their time before each launch: a launch of one round then tells whether the level still holds
// the set.
//
// Proof: every line knows its place in the cycle, and the launch must end as many places further as it made loads.
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <numeric>
#include <random>
#include <utility>

#include "../memory.hpp"
#include "../widths.hpp"

namespace mb::chase {

using namespace memory;

inline constexpr std::size_t loads = 32;

// What a line of the working set holds; the rest of it stays empty.
struct node {
  node* next;
  std::uint64_t place;
  std::uint64_t length;  // of the cycle; 0 where none was made yet
  std::uint64_t window;
};

struct state {
  node* at = nullptr;
  const std::byte* array = nullptr;
  std::uint64_t start = 0;
  std::int64_t pause_ns = 0;
  bool cold = false;
  std::chrono::steady_clock::time_point armed{};
  std::vector<const std::byte*> touched;  // by the launch that is evicted, for the addresses alone
};

inline state& state_of(const context& own) { return *static_cast<state*>(own.state.get()); }

[[gnu::always_inline]] inline void follow(node*& at) {
#if defined(__x86_64__)
  asm volatile("movq (%0), %0" : "+r"(at) : : "memory");
#else
  asm volatile("ldr %0, [%0]" : "+r"(at) : : "memory");
#endif
}

struct loop {
  template <std::size_t... i>
  [[gnu::always_inline]] static void all(node*& at, std::index_sequence<i...>) {
    ((static_cast<void>(i), follow(at)), ...);
  }

  [[gnu::noinline]] static std::uint64_t run(context& own, std::uint64_t iterations) {
    node* at = state_of(own).at;
    for (auto left = iterations; left != 0; --left) all(at, std::make_index_sequence<loads>{});
    state_of(own).at = at;
    return iterations;
  }
};

namespace {

node* line_at(std::byte* array, std::size_t i) { return reinterpret_cast<node*>(array + i * line); }

// Links all lines into one cycle: windows in random order, the lines of each in random order.
void link(std::byte* array, std::size_t lines, std::size_t window) {
  std::minstd_rand random(1);
  const auto inside = window / line;
  const std::size_t passes = window < lines * line ? 2 : 1;
  std::vector<std::size_t> windows((lines + inside - 1) / inside);
  std::iota(windows.begin(), windows.end(), std::size_t{0});
  std::shuffle(windows.begin(), windows.end(), random);
  std::vector<std::uint32_t> order;
  order.reserve(inside / passes + 1);
  node* first = nullptr;
  node* last = nullptr;
  std::uint64_t place = 0;
  for (std::size_t pass = 0; pass < passes; ++pass) {
    for (const auto each : windows) {
      order.clear();
      for (auto i = each * inside + pass; i < std::min(lines, (each + 1) * inside); i += passes)
        order.push_back(static_cast<std::uint32_t>(i));
      std::shuffle(order.begin(), order.end(), random);
      for (const auto i : order) {
        node* const here = line_at(array, i);
        *here = {nullptr, place++, lines, window};
        if (first == nullptr) first = here;
        if (last != nullptr) last->next = here;
        last = here;
      }
    }
  }
  last->next = first;
}

void clear(std::byte* array, std::size_t first, std::size_t last) { std::memset(array + first, 0, last - first); }

void configure(context& own, const parameters& given) {
  const auto asked = requested(given, 16 << 10);
  const auto lines = asked.working_set / line;
  if (lines > std::size_t{1} << 32) throw bad_parameter("parameter working_set must be at most 256 GiB for a chase");
  const auto limit = static_cast<std::int64_t>(std::size_t{1} << 46);
  auto window = static_cast<std::size_t>(integer(given, "window", 0, 0, limit)) / page * page;
  if (window == 0 || window > lines * line) window = lines * line;
  // A cycle of another length has another order, so each length is an array of its own.
  const auto role = "cycle." + std::to_string(lines) + "." + std::to_string(window);
  auto* const memory = array(own, role, lines * line, asked.huge, clear);
  auto* const first = line_at(memory, 0);
  if (first->length != lines || first->window != window) link(memory, lines, window);
  auto held = std::make_shared<state>();
  held->at = first;
  held->array = memory;
  held->pause_ns = requested_pause(given);
  held->cold = requested_cold(given);
  own.working_set = lines * line;
  own.state = std::move(held);
}

// Finds out what a launch will touch before any of it is evicted: a line that comes back while others are looked at
// would be found in a cache.
void evict_ahead(state& held, std::uint64_t iterations) {
  const auto count = std::min<std::uint64_t>(iterations * loads, held.at->length);
  held.touched.clear();
  const node* at = held.at;
  for (std::uint64_t i = 0; i < count; ++i, at = at->next)
    held.touched.push_back(reinterpret_cast<const std::byte*>(at));
  evict(held.touched);
}

// Launches of one visit follow each other within this; what comes later comes after other kernels.
constexpr auto visit = std::chrono::milliseconds(10);

// Beyond twice the last cache nothing of a set stays until its next round; where no size is told, every set is read.
bool may_stay(std::size_t bytes) {
  std::size_t last = 0;
#ifdef _SC_LEVEL1_DCACHE_SIZE
  for (const int name : {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE, _SC_LEVEL4_CACHE_SIZE})
    last = std::max(last, static_cast<std::size_t>(std::max(0L, sysconf(name))));
#endif
  return last == 0 || bytes <= 2 * last;
}

void bring_back(const context& own, state& held) {
  const auto now = std::chrono::steady_clock::now();
  const bool due = now - held.armed > visit;
  held.armed = now;
  if (!due || !may_stay(own.working_set)) return;
  for (std::size_t i = 0; i < own.working_set / line; ++i) {
    const auto* at = held.array + i * line;
    std::uint64_t seen = 0;
    std::memcpy(&seen, at, sizeof seen);
    asm volatile("" : : "r"(seen));
  }
}

void arm(context& own, std::uint64_t iterations) {
  auto& held = state_of(own);
  if (held.cold)
    evict_ahead(held, iterations);
  else if (held.pause_ns == 0)
    bring_back(own, held);
  rest(held.pause_ns);
  held.start = held.at->place;
}

bool check(const context& own, std::uint64_t iterations) {
  const auto& held = state_of(own);
  return held.at->place == (held.start + iterations % held.at->length * loads) % held.at->length;
}

kernel make() {
  sheet facts{.name = "chase",
              .measures = "latency",
              .roles = {"latency", "sweep"},
              .says = "follows pointers from line to line in random order",
              .unit = "scalar",
              .access = "read",
              .variant = "scalar",
              .frequency_license = narrow_license,
              .loads = loads,
              .access_bytes = sizeof(node*),
              .per_iteration = {.bytes_read = loads * sizeof(node*)},
              .params = {"working_set", "pages", "window", "pause_us", "cold"},
              .operands = "exact",
              .symbol = symbol_of<loop>()};
  return {.facts = std::move(facts), .run = loop::run, .configure = configure, .check = check, .arm = arm};
}

MB_KERNEL(make())

}  // namespace
}  // namespace mb::chase
