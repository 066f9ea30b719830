// Rates of loops that do so many multiply-adds for every register they load: the roofline's shape, measured.
//
// Every row reads the same working set; x1 to x64 is the number of multiply-adds a load, so the arithmetic intensity is
// 2 x that / bytes of an element, in FLOP/byte. At the low end the memory level limits the loop, at the high end the
// multiply-add ports do, and where the two overlap neither is reached. Nominal: the smaller of fma.<width>'s rate and
// read.<width>'s rate times the intensity. 12 accumulators cover latency x ports (4 x 2) and leave registers for the
// operands. Loops of eight multiply-adds and more prefetch by software; with parameter prefetch=0 they leave that to
// the hardware, as compiled code does.
//
// Proof: the array holds small integers whose signs turn every 4 KiB, so sums stay exact and come back to zero with
// every pair of pages; each lane of each accumulator must hold what the pages between the launch's first and last
// iteration add up to.
#include <cstring>
#include <type_traits>
#include <utility>

#include "../../target.hpp"
#include "../memory.hpp"
#include "../widths.hpp"

namespace mb::intensity {

using namespace memory;

inline constexpr std::size_t chains = 12;

// Bytes between a load and what is prefetched beside it: some 30 lines, more than main memory's latency at any of these
// rates.
inline constexpr std::int64_t prefetched = 2048;

// Loads of one iteration: at least 16 where loads limit the loop, and no more multiply-adds than a core's buffers hold
// decoded.
constexpr std::size_t loads_of(std::size_t fmas) { return fmas <= 8 ? 32 : 256 / fmas; }

struct state {
  walk way;
  std::byte* array = nullptr;
  std::int64_t pause_ns = 0;
  bool cold = false;
  std::size_t start = 0;
  alignas(64) std::byte scale[64] = {};
  alignas(64) std::byte sums[chains][64] = {};
};

inline state& state_of(const context& own) { return *static_cast<state*>(own.state.get()); }

#if defined(__x86_64__)

#define MB_WITHOUT_AVX
namespace sse {
#include "../intensity.inc"
}
#undef MB_WITHOUT_AVX

MB_TARGET_BEGIN("avx2,fma")
namespace vex {
#include "../intensity.inc"
}
MB_TARGET_END

MB_TARGET_BEGIN("avx512f")
namespace evex {
#include "../intensity.inc"
}
MB_TARGET_END

#elif defined(__aarch64__)

namespace base {
#include "../intensity.inc"
}

#endif

namespace {

// The sum over a pair of pages is zero.
constexpr std::size_t pair = 2 * page;

template <class T>
int element(std::size_t i) {
  const auto chunk = i / (page / sizeof(T)), within = i % (page / sizeof(T));
  const auto size = static_cast<int>(1 + (within * 5 + chunk / 2 * 7) % 11);
  return chunk % 2 == 0 ? size : -size;
}

template <class T>
void fill(std::byte* array, std::size_t first, std::size_t last) {
  for (auto i = first / sizeof(T); i < last / sizeof(T); ++i) {
    const auto value = static_cast<T>(element<T>(i));
    std::memcpy(array + i * sizeof value, &value, sizeof value);
  }
}

int scale_of(std::size_t lane) { return 1 + static_cast<int>(lane % 3); }

template <class Loop, class Plain, class W, class T, std::size_t fmas>
struct row {
  static constexpr std::size_t lanes = W::bytes / sizeof(T);
  using totals = std::int64_t[chains][lanes];

  static void configure(context& own, const parameters& given) {
    const auto asked = requested(given, 16 << 10);
    const auto size = asked.working_set / pair * pair;
    if (size == 0)
      throw bad_parameter("parameter working_set must be at least " + std::to_string(pair) + " bytes here");
    auto held = std::make_shared<state>();
    held->way = {size, Loop::body, by_halves(size, own.cpu) ? 2U : 1U};
    held->array = array(own, sizeof(T) == 8 ? "signed.f64" : "signed.f32", size, asked.huge, fill<T>);
    held->pause_ns = requested_pause(given);
    held->cold = requested_cold(given);
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      const auto value = static_cast<T>(scale_of(lane));
      std::memcpy(held->scale + lane * sizeof value, &value, sizeof value);
    }
    const auto ahead = integer(given, "prefetch", prefetched, 0, prefetched);
    if (ahead != 0 && ahead != prefetched)
      throw bad_parameter("parameter prefetch must be 0 or " + std::to_string(prefetched) + " here");
    own.loop = ahead == 0 ? Plain::run : Loop::run;
    own.working_set = size;
    own.position = 0;
    own.state = std::move(held);
  }

  static void arm(context& own, std::uint64_t iterations) {
    auto& held = state_of(own);
    rest(held.pause_ns);
    held.start = own.position;
    if (held.cold) held.way.evict(held.array, held.start, iterations);
  }

  // Adds, `times` over, what the bodies before the k-th contribute, from the last pair of pages on that ended before
  // it.
  static void before(totals& sums, std::size_t k, int times) {
    const auto last = k * Loop::body;
    for (auto at = last / pair * pair; at < last; at += Loop::body)
      for (std::size_t i = 0; i < Loop::loads; ++i)
        for (std::size_t lane = 0; lane < lanes; ++lane) {
          const auto product = element<T>((at + i * W::bytes) / sizeof(T) + lane) * scale_of(lane) * times;
          for (std::size_t f = 0; f < fmas; ++f) sums[(i * fmas + f) % chains][lane] += product;
        }
  }

  static bool check(const context& own, std::uint64_t iterations) {
    const auto& held = state_of(own);
    const auto& way = held.way;
    totals sums = {};
    // Each stream went from the body where it stood to the one where it stands now; whole passes add nothing.
    for (unsigned stream = 0; stream < way.streams; ++stream) {
      const auto from = (held.start + stream) % way.period(),
                 steps = (iterations + way.streams - 1 - stream) / way.streams;
      const auto first = way.offset(from) / way.body;
      before(sums, first, -1);
      before(sums, static_cast<std::size_t>((first + steps) % way.bodies()), 1);
    }
    bool right = true;
    for (std::size_t chain = 0; chain < chains; ++chain)
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        T found = 0;
        std::memcpy(&found, held.sums[chain] + lane * sizeof found, sizeof found);
        right = right && found == static_cast<T>(sums[chain][lane]);
      }
    return right;
  }
};

template <template <class, class, std::size_t, bool> class Loop, class W, class T, std::size_t fmas>
kernel make(std::vector<std::string> needs) {
  using made = Loop<W, T, fmas, true>;
  using functions = row<made, Loop<W, T, fmas, false>, W, T, fmas>;
  const std::string dtype = sizeof(T) == 8 ? "f64" : "f32",
                    variant = std::string(W::name) + ".x" + std::to_string(fmas);
  sheet facts{.name = "intensity." + dtype + "." + variant,
              .measures = "intensity",
              .roles = {"intensity"},
              .says = "loads a register and does " + std::to_string(fmas) +
                      (fmas == 1 ? " multiply-add" : " multiply-adds") + " on it",
              .unit = "vector",
              .dtype = dtype,
              .accumulator = dtype,
              .access = "read",
              .variant = variant,
              .family = "intensity",
              .frequency_license = W::frequency_license,
              .ports = std::string("fma.") + W::name,
              .lanes = static_cast<int>(functions::lanes),
              .chains = static_cast<int>(chains),
              .math = static_cast<int>(made::loads * fmas),
              .loads = static_cast<int>(made::loads),
              .access_bytes = static_cast<int>(W::bytes),
              .per_iteration = {.flop = 2 * made::loads * fmas * functions::lanes, .bytes_read = made::body},
              .params = {"working_set", "pages", "prefetch", "pause_us", "cold"},
              .needs = std::move(needs),
              .reference_clock = W::clock,
              .operands = "exact",
              .symbol = symbol_of<made>()};
  return {.facts = std::move(facts),
          .run = made::run,
          .configure = functions::configure,
          .check = functions::check,
          .arm = functions::arm};
}

#if defined(__x86_64__)

// A multiplication and an addition in the place of a multiply-add, for cores that have none.
template <class T, std::size_t fmas>
kernel without_fma() {
  auto made = make<sse::loop, v128, T, fmas>({"sse2"});
  auto& facts = made.facts;
  const auto width = std::string(v128::name), after = ".x" + std::to_string(fmas);
  facts.unless = {facts.name};
  facts.variant = width + "_sse2" + after;
  facts.name = "intensity." + facts.dtype + "." + facts.variant;
  facts.says += ", multiplied and added apart";
  facts.ports = "mul." + width;
  facts.reference_clock = "clock.mul_add." + facts.dtype + "." + width;
  facts.beside = {{"mul", facts.math}, {"add", facts.math}};
  facts.flop_per_lane = 1;
  facts.math = 0;
  return made;
}

MB_KERNEL(without_fma<float, 1>())
MB_KERNEL(without_fma<float, 2>())
MB_KERNEL(without_fma<float, 4>())
MB_KERNEL(without_fma<float, 8>())
MB_KERNEL(without_fma<float, 16>())
MB_KERNEL(without_fma<float, 32>())
MB_KERNEL(without_fma<float, 64>())
MB_KERNEL(without_fma<double, 1>())
MB_KERNEL(without_fma<double, 2>())
MB_KERNEL(without_fma<double, 4>())
MB_KERNEL(without_fma<double, 8>())
MB_KERNEL(without_fma<double, 16>())
MB_KERNEL(without_fma<double, 32>())
MB_KERNEL(without_fma<double, 64>())

MB_KERNEL(make<vex::loop, v128, float, 1>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v128, float, 2>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v128, float, 4>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v128, float, 8>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v128, float, 16>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v128, float, 32>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v128, float, 64>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v128, double, 1>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v128, double, 2>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v128, double, 4>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v128, double, 8>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v128, double, 16>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v128, double, 32>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v128, double, 64>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v256, float, 1>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v256, float, 2>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v256, float, 4>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v256, float, 8>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v256, float, 16>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v256, float, 32>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v256, float, 64>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v256, double, 1>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v256, double, 2>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v256, double, 4>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v256, double, 8>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v256, double, 16>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v256, double, 32>({"avx", "fma"}))
MB_KERNEL(make<vex::loop, v256, double, 64>({"avx", "fma"}))
MB_KERNEL(make<evex::loop, v512, float, 1>({"avx512f"}))
MB_KERNEL(make<evex::loop, v512, float, 2>({"avx512f"}))
MB_KERNEL(make<evex::loop, v512, float, 4>({"avx512f"}))
MB_KERNEL(make<evex::loop, v512, float, 8>({"avx512f"}))
MB_KERNEL(make<evex::loop, v512, float, 16>({"avx512f"}))
MB_KERNEL(make<evex::loop, v512, float, 32>({"avx512f"}))
MB_KERNEL(make<evex::loop, v512, float, 64>({"avx512f"}))
MB_KERNEL(make<evex::loop, v512, double, 1>({"avx512f"}))
MB_KERNEL(make<evex::loop, v512, double, 2>({"avx512f"}))
MB_KERNEL(make<evex::loop, v512, double, 4>({"avx512f"}))
MB_KERNEL(make<evex::loop, v512, double, 8>({"avx512f"}))
MB_KERNEL(make<evex::loop, v512, double, 16>({"avx512f"}))
MB_KERNEL(make<evex::loop, v512, double, 32>({"avx512f"}))
MB_KERNEL(make<evex::loop, v512, double, 64>({"avx512f"}))

#elif defined(__aarch64__)

MB_KERNEL(make<base::loop, v128, float, 1>({"asimd"}))
MB_KERNEL(make<base::loop, v128, float, 2>({"asimd"}))
MB_KERNEL(make<base::loop, v128, float, 4>({"asimd"}))
MB_KERNEL(make<base::loop, v128, float, 8>({"asimd"}))
MB_KERNEL(make<base::loop, v128, float, 16>({"asimd"}))
MB_KERNEL(make<base::loop, v128, float, 32>({"asimd"}))
MB_KERNEL(make<base::loop, v128, float, 64>({"asimd"}))
MB_KERNEL(make<base::loop, v128, double, 1>({"asimd"}))
MB_KERNEL(make<base::loop, v128, double, 2>({"asimd"}))
MB_KERNEL(make<base::loop, v128, double, 4>({"asimd"}))
MB_KERNEL(make<base::loop, v128, double, 8>({"asimd"}))
MB_KERNEL(make<base::loop, v128, double, 16>({"asimd"}))
MB_KERNEL(make<base::loop, v128, double, 32>({"asimd"}))
MB_KERNEL(make<base::loop, v128, double, 64>({"asimd"}))

#endif

}  // namespace
}  // namespace mb::intensity
