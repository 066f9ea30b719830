// The time from asking for a line to having it: each load's address is the value of the one before.
//
// The lines of a working set form one cycle in random order, so that no prefetcher can guess and every line is used
// once a round. 32 loads an iteration hide its counter. Nominal: the load-to-use latency of the level that holds the
// set (4 or 5 cycles in level 1). With 4 KiB pages, big sets measure page walks as well; parameter `window` confines
// the order to so many bytes at a time, visited window by window, which keeps the walks rare. `pause_us` lets the other
// users of a shared level have their time before each launch: a launch of one round then tells whether the level still
// holds the set.
//
// Proof: every line knows its place in the cycle, and the launch must end as many places further as it made loads.
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
  std::uint64_t start = 0;
  std::int64_t pause_ns = 0;
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
  std::vector<std::uint32_t> order(lines);
  std::iota(order.begin(), order.end(), 0U);
  const auto inside = window / line;
  std::vector<std::size_t> windows((lines + inside - 1) / inside);
  std::iota(windows.begin(), windows.end(), std::size_t{0});
  std::shuffle(windows.begin(), windows.end(), random);
  node* const first = line_at(array, windows.front() * inside);
  node* last = nullptr;
  std::uint64_t place = 0;
  for (const auto each : windows) {
    const auto begin = order.begin() + static_cast<std::ptrdiff_t>(each * inside);
    const auto end = order.begin() + static_cast<std::ptrdiff_t>(std::min(lines, (each + 1) * inside));
    std::shuffle(begin, end, random);
    for (auto i = begin; i != end; ++i) {
      node* const here = line_at(array, *i);
      *here = {first, place++, lines, window};
      if (last != nullptr) last->next = here;
      last = here;
    }
  }
  // The cycle closes at the line that came first, which need not be the window's lowest.
  last->next = line_at(array, order[windows.front() * inside]);
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
  held->pause_ns = requested_pause(given);
  own.working_set = lines * line;
  own.state = std::move(held);
}

void arm(context& own, std::uint64_t) {
  auto& held = state_of(own);
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
              .params = {"working_set", "pages", "window", "pause_us"},
              .operands = "exact",
              .symbol = symbol_of<loop>()};
  return {.facts = std::move(facts), .run = loop::run, .configure = configure, .check = check, .arm = arm};
}

MB_KERNEL(make())

}  // namespace
}  // namespace mb::chase
