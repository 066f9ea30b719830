#include "features.hpp"

#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <utility>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#endif

namespace mb {
namespace {

// The sets that MICROBENCH_ISA can name, lowest first, each with the flags it adds.
using isa_set = std::pair<std::string, std::vector<std::string>>;

#if defined(__x86_64__)

const std::vector<isa_set>& isa_sets() {
  static const std::vector<isa_set> sets{
      {"sse2", {}},
      {"sse4", {"ssse3", "sse4_1"}},
      {"avx", {"avx", "f16c"}},
      {"avx2", {"fma", "avx2", "vaes"}},
      {"avx_vnni", {"avx_vnni"}},
      {"avx512", {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"}},
      {"amx", {"amx_tile", "amx_int8", "amx_bf16", "amx_fp16"}},
  };
  return sets;
}

struct registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

registers cpuid(unsigned leaf, unsigned subleaf = 0) {
  registers r;
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);  // leaves zeros above the highest leaf
  return r;
}

std::uint64_t saved_state() {
  if ((cpuid(1).c >> 27 & 1) == 0) return 0;  // OSXSAVE
  unsigned low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

constexpr long request_permission = 0x1023;  // ARCH_REQ_XCOMP_PERM
constexpr long supported_states = 0x1021;    // ARCH_GET_XCOMP_SUPP
constexpr unsigned tile_data = 18;           // XFEATURE_XTILEDATA

bool tiles_offered() {
  std::uint64_t states = 0;
  return syscall(SYS_arch_prctl, supported_states, &states) == 0 && (states >> tile_data & 1) != 0;
}

std::set<std::string> flags() {
  struct row {
    const char* name;
    unsigned leaf, subleaf;
    unsigned registers::* where;
    unsigned bit;
    std::uint64_t state;  // XCR0 bits that the operating system must save
  };
  constexpr std::uint64_t none = 0, ymm = 0x6, zmm = 0xe6, tiles = 0x60000;
  static constexpr std::array rows{
      row{"sse2", 1, 0, &registers::d, 26, none},       row{"sse4_1", 1, 0, &registers::c, 19, none},
      row{"avx", 1, 0, &registers::c, 28, ymm},         row{"fma", 1, 0, &registers::c, 12, ymm},
      row{"f16c", 1, 0, &registers::c, 29, ymm},        row{"avx2", 7, 0, &registers::b, 5, ymm},
      row{"avx_vnni", 7, 1, &registers::a, 4, ymm},     row{"avx512f", 7, 0, &registers::b, 16, zmm},
      row{"avx512dq", 7, 0, &registers::b, 17, zmm},    row{"avx512bw", 7, 0, &registers::b, 30, zmm},
      row{"avx512vl", 7, 0, &registers::b, 31, zmm},    row{"avx512_vnni", 7, 0, &registers::c, 11, zmm},
      row{"avx512_bf16", 7, 1, &registers::a, 5, zmm},  row{"avx512_fp16", 7, 0, &registers::d, 23, zmm},
      row{"amx_tile", 7, 0, &registers::d, 24, tiles},  row{"amx_int8", 7, 0, &registers::d, 25, tiles},
      row{"amx_bf16", 7, 0, &registers::d, 22, tiles},  row{"clflushopt", 7, 0, &registers::b, 23, none},
      row{"hypervisor", 1, 0, &registers::c, 31, none}, row{"erms", 7, 0, &registers::b, 9, none},
      row{"ssse3", 1, 0, &registers::c, 9, none},       row{"vaes", 7, 0, &registers::c, 9, ymm},
      row{"amx_fp16", 7, 1, &registers::a, 21, tiles},
  };
  const auto saved = saved_state();
  std::set<std::string> found;
  for (const auto& each : rows) {
    const auto r = cpuid(each.leaf, each.subleaf);
    if ((r.*each.where >> each.bit & 1) == 0 || (saved & each.state) != each.state) continue;
    if (each.state == tiles && !tiles_offered()) continue;
    found.insert(each.name);
  }
  return found;
}

void identify(features& here) {
  const auto first = cpuid(0);
  here.vendor.resize(12);
  std::memcpy(here.vendor.data(), &first.b, 4);
  std::memcpy(here.vendor.data() + 4, &first.d, 4);
  std::memcpy(here.vendor.data() + 8, &first.c, 4);
  std::array<char, 49> brand{};
  for (unsigned i = 0; i < 3; ++i) {
    const auto part = cpuid(0x80000002 + i);
    std::memcpy(brand.data() + 16 * i, &part, 16);
  }
  here.brand = brand.data();
  const auto signature = cpuid(1).a;
  here.stepping = static_cast<int>(signature & 15);
  here.family = static_cast<int>(signature >> 8 & 15);
  here.model = static_cast<int>(signature >> 4 & 15);
  if (here.family == 15 || here.family == 6) here.model += static_cast<int>(signature >> 12 & 0xf0);
  if (here.family == 15) here.family += static_cast<int>(signature >> 20 & 0xff);
  const auto tsc = cpuid(0x15);
  if (tsc.a != 0 && tsc.b != 0 && tsc.c != 0) here.tsc_hz = double(tsc.c) * tsc.b / tsc.a;
}

#elif defined(__aarch64__)

const std::vector<isa_set>& isa_sets() {
  static const std::vector<isa_set> sets{
      {"neon", {"asimd"}},
      {"armv8_2", {"asimdhp", "asimddp"}},
      {"bf16", {"bf16", "i8mm"}},
      {"sve", {"sve", "sve2", "svei8mm", "svebf16"}},
  };
  return sets;
}

std::set<std::string> flags() {
  const auto first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
  std::set<std::string> found;
  if ((first & HWCAP_ASIMD) != 0) found.insert("asimd");
  if ((first & HWCAP_ASIMDHP) != 0) found.insert("asimdhp");
  if ((first & HWCAP_ASIMDDP) != 0) found.insert("asimddp");
  if ((first & HWCAP_SVE) != 0) found.insert("sve");
  if ((second & HWCAP2_BF16) != 0) found.insert("bf16");
  if ((second & HWCAP2_I8MM) != 0) found.insert("i8mm");
  if ((second & HWCAP2_SVE2) != 0) found.insert("sve2");
  if ((second & HWCAP2_SVEI8MM) != 0) found.insert("svei8mm");
  if ((second & HWCAP2_SVEBF16) != 0) found.insert("svebf16");
  return found;
}

void identify(features& here) {
  std::uint64_t frequency = 0;
  asm volatile("mrs %0, cntfrq_el0" : "=r"(frequency));
  here.tsc_hz = double(frequency);
}

#else
#error "microbench runs on x86-64 and aarch64 only"
#endif

void apply_cap(features& here) {
  const char* asked = std::getenv("MICROBENCH_ISA");
  if (asked == nullptr || *asked == 0) return;
  const auto& sets = isa_sets();
  const auto cap = std::find_if(sets.begin(), sets.end(), [&](const isa_set& each) { return each.first == asked; });
  if (cap == sets.end()) {
    std::string known;
    for (const auto& each : sets) known += (known.empty() ? "" : ", ") + each.first;
    throw std::invalid_argument("MICROBENCH_ISA=" + std::string(asked) +
                                " names no instruction set; known here: " + known);
  }
  here.cap = asked;
  for (auto above = cap + 1; above != sets.end(); ++above)
    for (const auto& flag : above->second)
      if (here.flags.erase(flag) != 0) here.hidden.insert(flag);
}

}  // namespace

const features& cpu_features() {
  static const features here = [] {
    features found;
    found.flags = flags();
    identify(found);
    apply_cap(found);
    return found;
  }();
  return here;
}

#if defined(__x86_64__)

std::vector<cache> cpu_caches() {
  const bool amd = cpu_features().vendor == "AuthenticAMD" || cpu_features().vendor == "HygonGenuine";
  std::vector<cache> found;
  for (unsigned i = 0; i < 16; ++i) {
    const auto r = cpuid(amd ? 0x8000001d : 4, i);
    static constexpr std::array types{"", "data", "instruction", "unified"};
    const auto type = r.a & 31;
    if (type == 0 || type > 3) break;
    cache each;
    each.level = static_cast<int>(r.a >> 5 & 7);
    each.type = types.at(type);
    each.line_bytes = static_cast<int>((r.b & 0xfff) + 1);
    each.ways = static_cast<int>((r.b >> 22) + 1);
    each.shared_by = static_cast<int>((r.a >> 14 & 0xfff) + 1);
    each.capacity_bytes =
        std::uint64_t((r.b >> 12 & 0x3ff) + 1) * each.ways * each.line_bytes * (std::uint64_t{r.c} + 1);
    found.push_back(each);
  }
  return found;
}

bool allow_tiles() { return syscall(SYS_arch_prctl, request_permission, tile_data) == 0; }

#else

std::vector<cache> cpu_caches() { return {}; }

bool allow_tiles() { return false; }

#endif

}  // namespace mb
