// Copy and fill by the string instructions of x86, which move whole lines inside the core and may skip fetching what
// they overwrite.
//
// One instruction runs from where the last launch stopped to the end of the array, so there is no loop to unroll; an
// iteration is 1 KiB, as in the other copies. Nominal is unknown: the microcode behind the instruction chooses how to
// move.
#if defined(__x86_64__)

#include <cstring>

#include "../memory.hpp"
#include "../widths.hpp"

namespace mb::rep {

using namespace memory;

inline constexpr std::size_t body = 1024;
inline constexpr int filler = 0x3c;

struct state {
  std::byte *to = nullptr, *from = nullptr;
  std::size_t size = 0;
  std::int64_t pause_ns = 0;
  std::vector<std::size_t> poisoned;
};

inline state& state_of(const context& own) { return *static_cast<state*>(own.state.get()); }

template <bool copying>
struct loop {
  [[gnu::noinline]] static std::uint64_t run(context& own, std::uint64_t iterations) {
    const auto& held = state_of(own);
    for (auto left = iterations; left != 0;) {
      const auto part = std::min<std::uint64_t>(left, held.size / body - own.position);
      auto* to = held.to + own.position * body;
      auto* from = held.from + own.position * body;
      auto bytes = part * body;
      if constexpr (copying)
        asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
      else
        asm volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(filler) : "memory");
      own.position = (own.position + part) % (held.size / body);
      left -= part;
    }
    return iterations;
  }
};

namespace {

std::byte numbered(std::size_t i) { return static_cast<std::byte>(i + (i >> 8)); }

void fill_numbers(std::byte* array, std::size_t first, std::size_t last) {
  for (auto i = first; i < last; ++i) array[i] = numbered(i);
}

void fill_same(std::byte* array, std::size_t first, std::size_t last) {
  std::memset(array + first, filler, last - first);
}

template <bool copying>
void configure(context& own, const parameters& given) {
  const auto asked = requested(given, 16 << 10);
  auto held = std::make_shared<state>();
  held->size = asked.working_set / (copying ? 2 : 1) / body * body;
  if (held->size == 0) throw bad_parameter("parameter working_set must be at least 2048 bytes for a copy");
  held->to = array(own, copying ? "copy.i8" : "write.i8", held->size, asked.huge, copying ? fill_numbers : fill_same);
  held->from = copying ? array(own, "numbers.i8", held->size, asked.huge, fill_numbers) : held->to;
  held->pause_ns = requested_pause(given);
  own.working_set = held->size * (copying ? 2 : 1);
  own.position = 0;
  own.state = std::move(held);
}

// Poisons one line in the first iteration, in the last, and in some between. None of this is timed.
void arm(context& own, std::uint64_t iterations) {
  auto& held = state_of(own);
  rest(held.pause_ns);
  held.poisoned.clear();
  constexpr std::uint64_t samples = 8;
  const auto bodies = held.size / body;
  const auto reach = std::min<std::uint64_t>(iterations, bodies),
             step = std::max<std::uint64_t>(reach / (samples - 1), 1);
  for (std::uint64_t j = 0; j < samples; ++j) {
    const auto k = (own.position + std::min(j * step, reach - 1)) % bodies;
    held.poisoned.push_back(k * body + (k * 5 + j * 3) * line % body);
    std::memset(held.to + held.poisoned.back(), 0xff, line);
  }
}

template <bool copying>
bool check(const context& own, std::uint64_t) {
  const auto& held = state_of(own);
  bool right = true;
  for (const auto offset : held.poisoned)
    for (auto i = offset; i < offset + line; ++i) {
      const auto expected = copying ? numbered(i) : static_cast<std::byte>(filler);
      right = right && held.to[i] == expected;
      held.to[i] = expected;  // whatever happened, others find what they expect
    }
  return right;
}

template <bool copying>
kernel make() {
  const std::string what = copying ? "copy" : "write";
  sheet facts{.name = what + ".i8.rep",
              .measures = "memory",
              .roles = {"ceiling", "roof"},
              .says = copying ? "copies one array to another by rep movsb" : "writes one array by rep stosb",
              .unit = "vector",
              .dtype = "i8",
              .access = what,
              .variant = "rep",
              .frequency_license = narrow_license,
              .lanes = static_cast<int>(line),
              .access_bytes = static_cast<int>(line),
              .per_iteration = {.bytes_read = copying ? body : 0, .bytes_written = body},
              .params = {"working_set", "pages", "pause_us"},
              .needs = {"erms"},
              .reference_clock = "clock.v128",
              .operands = "exact",
              .symbol = symbol_of<loop<copying>>()};
  return {.facts = std::move(facts),
          .run = loop<copying>::run,
          .configure = configure<copying>,
          .check = check<copying>,
          .arm = arm};
}

MB_KERNEL(make<true>())
MB_KERNEL(make<false>())

}  // namespace
}  // namespace mb::rep

#endif
