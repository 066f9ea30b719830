// The data sheet of one loop, and MB_KERNEL, which registers it.
//
// A kernel is a class with a static `run(mb::context&, std::uint64_t iterations)`, the loop that is timed, and a row of
// facts about it. The class must live in a namespace inside `mb`: its ELF symbol, which the proof looks up, is derived
// from its type.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include <variant>
#include <vector>

namespace mb {

// One parameter of a case, as Python gives it.
using value = std::variant<bool, std::int64_t, double, std::string>;
using parameters = std::map<std::string, value>;

// The user asked for something that a kernel does not know.
struct bad_parameter : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// The machine refuses: permission, memory, a pinned CPU that has gone.
struct cannot_run : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// An integer parameter, or `otherwise` where it was not given; refuses what is no integer or lies outside [low, high].
std::int64_t integer(const parameters& given, const std::string& name, std::int64_t otherwise, std::int64_t low,
                     std::int64_t high);
// A word out of `allowed`, or `otherwise` where it was not given.
std::string word(const parameters& given, const std::string& name, const std::string& otherwise,
                 const std::vector<std::string>& allowed);

class barrier;

// What one thread of a prepared kernel owns. Made, filled and freed on the pinned thread itself, so that first touch is
// local.
struct alignas(4096) context {
  // Operands and results of compute kernels: registers and tiles only, so one fixed block is enough.
  std::array<std::byte, 32768> scratch{};
  // Working sets of memory kernels: `memory` owns, the rest says what of it the loop walks and how far it has come.
  std::shared_ptr<void> memory;
  std::byte* buffer = nullptr;
  std::size_t buffer_bytes = 0;
  std::size_t working_set = 0;
  std::size_t position = 0;
  std::size_t streams = 1;
  // Whatever a kernel has to remember beyond that, and the scalar it leaves for its check.
  std::shared_ptr<void> state;
  std::uint64_t result = 0;
  // The loop to run, where `configure` chose another than the registered one.
  std::uint64_t (*loop)(context&, std::uint64_t) = nullptr;
  unsigned thread = 0;
  unsigned threads = 1;
  int cpu = 0;
  // Which of the team's threads on this CPU it is: 0 but where a team has several there.
  unsigned seat = 0;
  // The NUMA node that its memory must come from; -1 leaves that to the first touch.
  int node = -1;
  barrier* team = nullptr;
  // Thread 0's, for what all threads of a team share; there from the first `arm` on, when all are configured.
  context* leader = nullptr;
};

// FLOP (an FMA is 2) and bytes of one iteration on one thread.
struct work {
  std::uint64_t flop = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
};

// The fields of records.Sheet, in its order; an empty string is Python's None.
struct sheet {
  std::string name = {};
  std::string measures = {};
  // What the kernel is measured for; records/roles.py says what each role asks of the plan and of the analysis. A
  // kernel takes part in nothing that it does not name here.
  //   ceiling       its best rate is a ceiling: of a unit, or of each memory level
  //   dram_ceiling  its best rate is a ceiling of main memory only
  //   roof          its ceilings bound the roofline
  //   sweep         it visits every working set; the memory levels are read off its curve
  //   intensity     its rates are the points that the roofline is fitted to
  //   latency       seconds per load at each level
  //   cost          seconds per iteration
  //   transfer      seconds that a cache line takes between two CPUs and back
  //   loaded        latency or bandwidth of some threads while the others keep memory busy
  //   clock         it tells the core clock beside other kernels
  std::vector<std::string> roles = {};
  std::string says = {};
  std::string unit = {};
  std::string dtype = {};
  std::string accumulator = {};
  std::string access = {};
  std::string variant = {};
  // Kernels that differ in register width alone; the widest that can run here stands for them. Empty: there is only
  // this one.
  std::string family = {};
  // Kernels that leave this one nothing to tell where one of them can run: it is planned only where none can.
  std::vector<std::string> unless = {};
  std::string frequency_license = {};
  std::string ports = {};
  int lanes = 1;
  int flop_per_lane = 2;
  int chains = 1;
  int math = 0;
  // Instructions of one iteration that the proof counts beside `math`: "add" and "mul", of one FLOP a lane, and
  // "widen", which a sequence needs and which does no work of its own.
  std::map<std::string, int> beside = {};
  int loads = 0;
  int stores = 0;
  int access_bytes = 0;
  double cycles = 0;
  work per_iteration = {};
  std::vector<std::string> params = {};
  std::vector<std::string> needs = {};
  std::string reference_clock = {};
  std::string operands = {};
  bool verified = true;
  std::string source = {};
  std::string symbol = {};
};

struct kernel {
  sheet facts;
  // Returns the iterations done, at least those asked for.
  std::uint64_t (*run)(context&, std::uint64_t iterations) = nullptr;
  // Takes the parameters and fills what must not be timed; runs on the pinned thread. Throws bad_parameter or
  // cannot_run.
  void (*configure)(context&, const parameters&) = nullptr;
  // Whether the last `run` left exactly what that many iterations must leave. None: the kernel leaves no result.
  bool (*check)(const context&, std::uint64_t iterations) = nullptr;
  // What has to happen before each `run` of so many iterations and must not be timed. None: nothing has.
  void (*arm)(context&, std::uint64_t iterations) = nullptr;
};

// All kernels of this binary, in order of registration.
const std::vector<kernel>& kernels();
// Null where the name is unknown.
const kernel* find(const std::string& name);
// Why this machine cannot run the kernel; empty where it can.
std::string unavailable(const kernel& what);

// The ELF symbol of `Loop::run`, by the Itanium rules: the class's own mangling, then the member and its parameter
// types. The class lives inside namespace mb, hence "S_" for it.
template <class Loop>
std::string symbol_of() {
  std::string type = typeid(Loop).name();
  if (!type.starts_with("N2mb")) throw std::logic_error("a kernel's class must live in a namespace inside mb");
  type.pop_back();
  return "_Z" + type + "3runERNS_7contextEm";
}

struct registration {
  registration(kernel what, const char* file);
  registration(std::vector<kernel> several, const char* file);
};

}  // namespace mb

#define MB_KERNEL_JOIN2_(a, b) a##b
#define MB_KERNEL_JOIN_(a, b) MB_KERNEL_JOIN2_(a, b)
// MB_KERNEL(expression): registers a kernel, or a list of them, before main or when the module is loaded.
#define MB_KERNEL(...) static const ::mb::registration MB_KERNEL_JOIN_(registered_, __COUNTER__){__VA_ARGS__, __FILE__};
