// Streams without their loops: what a launch is given, how it is armed and checked, and the data sheet of a row. The
// loops of each instruction set are compiled in a file of their own, since each takes a third of a minute.
#pragma once

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "memory.hpp"
#include "stream_contents.hpp"
#include "widths.hpp"

namespace mb::stream {

using namespace memory;

// Bytes of an array that an iteration passes. Triads fill every port in every cycle, so that each restart of their loop
// costs one; scalar ones would no longer fit the caches of decoded instructions.
template <class W>
constexpr std::size_t body_of(op what) {
  return what == op::read ? 4096 : what == op::triad ? std::min<std::size_t>(4096, 128 * W::bytes) : 1024;
}

// Bytes of an iteration that are walked before a page's turn comes again where several lie side by side.
constexpr std::size_t turn_of(op what) { return what == op::read ? 4096 : 1024; }

// Registers of one read iteration that are added up.
inline constexpr std::size_t proofs = 4;

// Registers that are loaded before the first of them is stored.
inline constexpr unsigned together = 4;

struct state {
  walk way;
  std::byte *a = nullptr, *b = nullptr, *c = nullptr;  // destination and sources; unused ones point at a used one
  std::size_t ahead = 0;
  std::int64_t pause_ns = 0;
  bool cold = false;
  alignas(64) std::byte given[64] = {};  // what writes store, what triads scale by
  alignas(64) std::byte sum[64] = {};
  std::size_t start = 0;              // position before the launch
  std::uint32_t pass = 0;             // what a whole period of reads adds to each lane, less the lane's own number
  std::vector<std::size_t> poisoned;  // offsets of lines that the launch must put right
};

inline state& state_of(context& own) { return *static_cast<state*>(own.state.get()); }
inline const state& state_of(const context& own) { return *static_cast<const state*>(own.state.get()); }

inline walk way_of(op what, std::size_t body, const parameters& given, std::size_t working_set, int cpu) {
  const auto streams = static_cast<unsigned>(integer(given, "streams", 1, 1, 16));
  if ((streams & (streams - 1)) != 0) throw bad_parameter("parameter streams must be 1, 2, 4, 8 or 16");
  const auto unit = walk::unit(body, streams), size = working_set / arrays_of(what) / unit * unit;
  if (size == 0)
    throw bad_parameter("parameter working_set must be at least " + std::to_string(unit * arrays_of(what)) +
                        " bytes for " + word_of(what) + " with " + std::to_string(streams) +
                        (streams == 1 ? " stream" : " streams"));
  return {size, body, streams == 1 && by_halves(working_set, cpu) ? 2 : streams};
}

// What the added registers of iteration k say in lane 0.
inline std::uint32_t numbers(const walk& way, std::size_t k) {
  std::size_t sum = 0;
  for (std::size_t i = 0; i < proofs; ++i)
    sum += (way.offset(k) + way.inside(i * way.body / proofs)) / sizeof(std::uint32_t);
  return static_cast<std::uint32_t>(sum);
}

template <op what, class W, template <op, class, unsigned, bool, bool, unsigned> class Loop, bool past>
struct row {
  using T = std::conditional_t<std::is_same_v<W, word64>, double, float>;
  using first = Loop<what, W, 1, past, false, together>;
  // Where two loads and a store compete for the ports of every cycle.
  static constexpr bool grouped = what == op::triad && !past;

  static std::uint64_t (*chosen(unsigned streams, bool ahead, bool singly))(context&, std::uint64_t) {
    if (singly && (streams > 2 || ahead))
      throw bad_parameter("parameter group goes with one stream and without prefetch");
    if constexpr (grouped)
      if (singly) return Loop<what, W, 1, past, false, 1>::run;
    if constexpr (!std::is_same_v<W, word64>) {
      if (streams == 4) return Loop<what, W, 4, past, false, together>::run;
      if (streams == 8) return Loop<what, W, 8, past, false, together>::run;
      if (streams == 16) return Loop<what, W, 16, past, false, together>::run;
    }
    if (streams > 2) throw bad_parameter("parameter streams must be 1 or 2 for scalar kernels");
    return ahead ? Loop<what, W, 1, past, true, together>::run : first::run;
  }

  static bool requested_singly(const parameters& given) {
    const auto group = integer(given, "group", together, 1, together);
    if (group != 1 && group != together)
      throw bad_parameter("parameter group must be 1 or " + std::to_string(together));
    return group == 1;
  }

  static void configure(context& own, const parameters& given) {
    const auto asked = requested(given, 16 << 10);
    auto held = std::make_shared<state>();
    held->way = way_of(what, body_of<W>(what), given, asked.working_set, own.cpu);
    held->pause_ns = requested_pause(given);
    held->cold = requested_cold(given);
    held->ahead = static_cast<std::size_t>(integer(given, "prefetch", 0, 0, 65536));
    if (held->ahead != 0 && held->way.streams > 2)
      throw bad_parameter("parameter prefetch goes with 1 or 2 streams, not with more");
    own.loop = chosen(held->way.streams, held->ahead != 0, requested_singly(given));
    place(own, *held, asked.huge);
    for (std::size_t i = 0; i < 64 / sizeof(T); ++i) {
      const T value = scale;
      std::memcpy(held->given + i * sizeof value, &value, sizeof value);
    }
    if constexpr (what == op::write) contents<written>::fill(held->given, 0, sizeof held->given);
    if constexpr (what == op::read)
      for (std::size_t k = 0; k < held->way.period(); ++k) held->pass += numbers(held->way, k);
    own.working_set = held->way.size * arrays_of(what);
    own.streams = held->way.streams;
    own.position = 0;
    own.state = std::move(held);
  }

  // Takes the arrays; those that a kernel does not use point at one that it does.
  static void place(context& own, state& held, bool huge) {
    const auto size = held.way.size;
    const std::string dtype = sizeof(T) == 8 ? ".f64" : ".f32";
    if (arrays_of(what) > 1 && by_halves(size * arrays_of(what), own.cpu)) {
      place_side_by_side(own, held, huge);
    } else {
      if constexpr (what == op::read || what == op::copy) held.b = array(own, "numbers", size, huge, numbered::fill);
      if constexpr (what == op::triad) {
        held.b = array(own, "addends" + dtype, size, huge, addends<T>::fill);
        held.c = array(own, "factors" + dtype, size, huge, factors<T>::fill);
      }
      if constexpr (what != op::read)
        held.a = array(own, word_of(what) + (what == op::triad ? dtype : ""), size, huge, destination<what, T>::fill);
    }
    for (auto** each : {&held.a, &held.b, &held.c})
      if (*each == nullptr) *each = what == op::write ? held.a : held.b;
  }

  // In level 1 the arrays share an arena of their own. A core that looks a line up by a hash of its address lets arrays
  // that lie far apart push each other out, though all of them fit.
  static void place_side_by_side(context& own, state& held, bool huge) {
    const auto size = held.way.size, apart = round_up(size, page);
    const auto role = word_of(what) + std::to_string(8 * sizeof(T)) + " within " + std::to_string(apart);
    auto* const first = array(own, role, arrays_of(what) * apart, huge, [](std::byte*, std::size_t, std::size_t) {});
    held.a = first;
    held.b = first + apart;
    destination<what, T>::fill(held.a, 0, size);
    if constexpr (what == op::copy) numbered::fill(held.b, 0, size);
    if constexpr (what == op::triad) {
      held.c = held.b + apart;
      addends<T>::fill(held.b, 0, size);
      factors<T>::fill(held.c, 0, size);
    }
  }

  // Poisons one line in the first iteration, in the last, and in some between. None of this is timed.
  static void arm(context& own, std::uint64_t iterations) {
    auto& held = state_of(own);
    rest(held.pause_ns);
    held.start = own.position;
    held.poisoned.clear();
    if constexpr (what != op::read) {
      constexpr std::uint64_t samples = 8;
      const auto& way = held.way;
      const auto reach = std::min<std::uint64_t>(iterations, way.period()),
                 step = std::max<std::uint64_t>(reach / (samples - 1), 1);
      for (std::uint64_t j = 0; j < samples; ++j) {
        const auto k = (held.start + std::min(j * step, reach - 1)) % way.period();
        const auto offset = way.offset(k) + way.inside((k * 5 + j * 3) * line % way.body);
        std::memset(held.a + offset, 0x5a, line);
        held.poisoned.push_back(offset);
      }
    }
    if (held.cold)
      for (const std::byte* each : std::set<const std::byte*>{held.a, held.b, held.c})
        held.way.evict(each, held.start, iterations);
  }

  static bool check(const context& own, std::uint64_t iterations) {
    const auto& held = state_of(own);
    bool right = true;
    if constexpr (what == op::read) {
      const auto period = held.way.period();
      auto expected = static_cast<std::uint32_t>(iterations / period) * held.pass;
      for (std::uint64_t j = 0; j < iterations % period; ++j) expected += numbers(held.way, (held.start + j) % period);
      for (std::size_t lane = 0; lane < W::bytes / sizeof expected; ++lane) {
        std::uint32_t found = 0;
        std::memcpy(&found, held.sum + lane * sizeof found, sizeof found);
        right = right && found == expected + static_cast<std::uint32_t>(iterations * proofs * lane);
      }
    } else {
      for (const auto offset : held.poisoned) {
        right = right && destination<what, T>::intact(held.a, offset, offset + line);
        destination<what, T>::fill(held.a, offset, offset + line);  // whatever happened, others find what they expect
      }
    }
    return right;
  }
};

// Stores past the caches would give a cache's ceiling the rate of main memory. Reads of vectors show where levels end.
template <op what, class W, bool past>
std::vector<std::string> roles_of() {
  if constexpr (past) return {"dram_ceiling", "roof"};
  if constexpr (what == op::read && !std::is_same_v<W, word64>) return {"ceiling", "roof", "sweep"};
  return {"ceiling", "roof"};
}

template <bool grouped>
std::vector<std::string> params_of() {
  std::vector<std::string> known{"working_set", "pages", "streams", "prefetch", "pause_us", "cold"};
  if (grouped) known.insert(known.end(), "group");
  return known;
}

template <op what, class W, template <op, class, unsigned, bool, bool, unsigned> class Loop, bool past>
kernel make(std::vector<std::string> needs) {
  using made = row<what, W, Loop, past>;
  using first = typename made::first;
  constexpr auto count = static_cast<int>(first::count), sources = what == op::triad ? 2 : what == op::write ? 0 : 1;
  const std::string dtype = std::is_same_v<W, word64> ? "f64" : "f32",
                    variant = std::string(W::name) + (past ? "_nt" : "");
  const std::uint64_t body = first::body;
  sheet facts{.name = std::string(word_of(what)) + "." + dtype + "." + variant,
              .measures = "memory",
              .roles = roles_of<what, W, past>(),
              .says = std::string(says_of(what)) + (past ? ", storing past the caches" : ""),
              .unit = std::is_same_v<W, word64> ? "scalar" : "vector",
              .dtype = dtype,
              .access = word_of(what),
              .variant = variant,
              .family = word_of(what),
              .frequency_license = W::frequency_license,
              .ports = std::string(word_of(what)) + "." + W::name,
              .lanes = static_cast<int>(W::bytes / sizeof(typename made::T)),
              .math = what == op::triad ? count : 0,
              .loads = count * sources,
              .stores = what == op::read ? 0 : count,
              .access_bytes = static_cast<int>(W::bytes),
              .per_iteration = {.flop = what == op::triad ? 2 * body / sizeof(typename made::T) : 0,
                                .bytes_read = body * sources,
                                .bytes_written = what == op::read ? 0 : body},
              .params = params_of<made::grouped>(),
              .needs = std::move(needs),
              .reference_clock = W::clock,
              .operands = "exact",
              .symbol = symbol_of<first>()};
  return {.facts = std::move(facts),
          .run = first::run,
          .configure = made::configure,
          .check = made::check,
          .arm = made::arm};
}

// A multiplication and an addition in the place of a fused one.
inline void apart(sheet& facts) {
  facts.says += ", multiplied and added apart";
  facts.beside = {{"mul", facts.math}, {"add", facts.math}};
  facts.flop_per_lane = 1;
  facts.math = 0;
}

}  // namespace mb::stream
