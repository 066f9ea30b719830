// The cost of a page's first touch: the fault, a cleared page, its entry in the page table.
//
// One iteration touches one page that the process never used, 4 KiB or 2 MiB. The pages of the last launch go back to
// the system before the next one starts; a launch of more pages than the working set has gives them back on the way,
// and pays for it.
#include <utility>

#include "../memory.hpp"
#include "../widths.hpp"

namespace mb::touch {

using namespace memory;

struct state {
  std::shared_ptr<arena> pages;
  std::size_t unit = page;
  std::size_t count = 0;
};

inline state& state_of(const context& own) { return *static_cast<state*>(own.state.get()); }

inline constexpr auto mark = std::byte{0x5a};

struct loop {
  [[gnu::noinline]] static std::uint64_t run(context& own, std::uint64_t iterations) {
    auto& held = state_of(own);
    for (std::uint64_t i = 0; i < iterations; ++i) {
      if (own.position == held.count) {
        held.pages->release();
        own.position = 0;
      }
      *static_cast<volatile std::byte*>(held.pages->begin() + own.position++ * held.unit) = mark;
    }
    return iterations;
  }
};

namespace {

void nothing(std::byte*, std::size_t, std::size_t) {}

void touch_all(std::byte* array, std::size_t first, std::size_t last) {
  for (auto i = first; i < last; i += page) array[i] = mark;
}

void configure(context& own, const parameters& given) {
  const auto asked = requested(given, 64 << 20);
  auto held = std::make_shared<state>();
  held->unit = asked.huge ? huge_page : page;
  held->count = std::max<std::size_t>(asked.working_set / held->unit, 1);
  held->pages = std::make_shared<arena>(held->count * held->unit, asked.huge);
  held->pages->grow(held->count * held->unit, asked.huge ? touch_all : nothing);
  if (asked.huge && held->pages->huge_bytes(memory::mappings()) < held->pages->filled())
    throw cannot_run(
        "the system gives no 2 MiB pages, or not enough of them; see /sys/kernel/mm/transparent_hugepage/enabled, or "
        "use pages=4k");
  own.working_set = held->count * held->unit;
  own.state = std::move(held);
}

void arm(context& own, std::uint64_t) {
  state_of(own).pages->release();
  own.position = 0;
}

// Each page touched last holds the mark, and nothing but zeros beside it.
bool check(const context& own, std::uint64_t iterations) {
  const auto& held = state_of(own);
  const auto reach = static_cast<std::size_t>((iterations - 1) % held.count + 1);
  if (own.position != reach) return false;
  bool right = true;
  for (std::size_t i = 0; i < reach; i += std::max<std::size_t>(reach / 64, 1)) {
    const auto* const at = held.pages->begin() + i * held.unit;
    right = right && at[0] == mark && at[1] == std::byte{0} && at[page - 1] == std::byte{0};
  }
  return right;
}

kernel make() {
  sheet facts{.name = "first_touch",
              .measures = "cost",
              .roles = {"cost"},
              .says = "touches one page that was never used, per iteration",
              .variant = "scalar",
              .frequency_license = narrow_license,
              .params = {"working_set", "pages"}};
  return {.facts = std::move(facts), .run = loop::run, .configure = configure, .check = check, .arm = arm};
}

MB_KERNEL(make())

}  // namespace
}  // namespace mb::touch
