// A FAKE of the CUDA driver for tests: invented GPUs on a virtual clock, scripted by the file that MB_FAKE_GPU names.
//
// It knows the documented names and signatures only, written down again and not shared with the product. A launch takes the time that its
// work needs at the invented GPU's rates; the work per iteration comes from a file of counts that the tests' PTX interpreter wrote,
// never from the product's sheets. Kernels it can execute leave real results; others leave the outcome file's. Device memory is
// host memory, so every byte copied is a byte copied. Every handle is counted, and any call can be told to fail.
#include <sys/mman.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "fake_kernels.hpp"

namespace {

using fake::Work;

struct Gpu {
  std::string name = "FAKE GPU";
  std::map<int, int> attributes;
  std::size_t memory = std::size_t{1} << 30;
  double clock_hz = 1e9;
  double throttled_hz = 0;  // from then on, after so much work
  double throttle_after_ns = 0;
  double dram = 4e9, l2 = 12e9;                                                      // byte/s
  double shared = 60e9;                                                              // byte/s of all shared memories and L1s
  double latency_l1 = 30, latency_l2 = 200, latency_dram = 500, l1_bytes = 1 << 15;  // ns per load; bytes of one L1
  double latency_far = 0;                                                            // ns per load of the far lines of L2; 0: none is far
  double plain = 20e9, tensor = 1e12;                                                // FLOP/s of kernels without a rate of their own
  double launch_ns = 2500, graph_ns = 1200;
  double host_copy = 2e9;  // byte/s each way
  int step_ns = 32;
  double hungry = 0;  // bytes that one multiprocessor must have in flight for a stream to reach its level's rate; 0: any number
  std::map<std::string, double> peak;  // FLOP/s by symbol
  double busy_ns = 0;
};

struct Fault {
  int nth = 0, code = 0, seen = 0;
};

struct State {
  int driver = 13000;
  std::vector<Gpu> gpus;
  std::map<std::string, Work> counts;
  std::map<std::string, Fault> faults;
  std::map<std::string, long> live;  // handles by kind
  std::map<std::string, long> calls;
  std::map<std::uintptr_t, std::size_t> memory;
  std::size_t used = 0;
  int sticky = 0;
  std::set<std::string> corrupt;  // kernels whose result gets one wrong bit
  double host_ns = 1e9;
  int current = -1;
  std::vector<int> stack;
};

State& state() {
  static State one;
  return one;
}

void read_counts(const std::string& path) {
  std::ifstream in(path);
  std::string symbol;
  Work work;
  while (in >> symbol >> work.flop >> work.bytes_read >> work.bytes_written) state().counts[symbol] = work;
}

void read_script() {
  const char* path = std::getenv("MB_FAKE_GPU");
  if (path == nullptr) {
    std::fprintf(stderr, "fake driver: MB_FAKE_GPU is not set\n");
    std::abort();
  }
  std::ifstream in(path);
  std::string line;
  State& s = state();
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::string key, symbol;
    words >> key;
    Gpu* gpu = s.gpus.empty() ? nullptr : &s.gpus.back();
    if (key.empty() || key[0] == '#') continue;
    if (key == "driver")
      words >> s.driver;
    else if (key == "counts") {
      words >> symbol;
      read_counts(symbol);
    } else if (key == "corrupt") {
      words >> symbol;
      s.corrupt.insert(symbol);
    } else if (key == "fail") {
      Fault f;
      words >> symbol >> f.nth >> f.code;
      s.faults[symbol] = f;
    } else if (key == "device")
      s.gpus.emplace_back();
    else if (gpu == nullptr)
      std::abort();
    else if (key == "name") {
      std::getline(words >> std::ws, gpu->name);
    } else if (key == "attribute") {
      int which, value;
      words >> which >> value;
      gpu->attributes[which] = value;
    } else if (key == "memory")
      words >> gpu->memory;
    else if (key == "clock_hz")
      words >> gpu->clock_hz;
    else if (key == "throttle")
      words >> gpu->throttle_after_ns >> gpu->throttled_hz;
    else if (key == "dram")
      words >> gpu->dram;
    else if (key == "l2")
      words >> gpu->l2;
    else if (key == "plain")
      words >> gpu->plain;
    else if (key == "tensor")
      words >> gpu->tensor;
    else if (key == "shared")
      words >> gpu->shared;
    else if (key == "latency")
      words >> gpu->l1_bytes >> gpu->latency_l1 >> gpu->latency_l2 >> gpu->latency_dram;
    else if (key == "latency_far")
      words >> gpu->latency_far;
    else if (key == "launch_ns")
      words >> gpu->launch_ns;
    else if (key == "graph_ns")
      words >> gpu->graph_ns;
    else if (key == "host_copy")
      words >> gpu->host_copy;
    else if (key == "step_ns")
      words >> gpu->step_ns;
    else if (key == "hungry")
      words >> gpu->hungry;
    else if (key == "peak") {
      double rate;
      words >> symbol >> rate;
      gpu->peak[symbol] = rate;
    } else {
      std::fprintf(stderr, "fake driver: unknown key %s\n", key.c_str());
      std::abort();
    }
  }
}

// Ordinals after CUDA_VISIBLE_DEVICES: the driver stops at the first entry that is no device.
std::vector<int> visible() {
  const State& s = state();
  std::vector<int> found;
  const char* set = std::getenv("CUDA_VISIBLE_DEVICES");
  if (set == nullptr) {
    for (std::size_t i = 0; i < s.gpus.size(); ++i) found.push_back(static_cast<int>(i));
    return found;
  }
  std::istringstream words(set);
  std::string word;
  while (std::getline(words, word, ',')) {
    char* end = nullptr;
    const long index = std::strtol(word.c_str(), &end, 10);
    if (end == word.c_str() || index < 0 || index >= static_cast<long>(s.gpus.size())) break;
    found.push_back(static_cast<int>(index));
  }
  return found;
}

Gpu& gpu() { return state().gpus[static_cast<std::size_t>(state().current)]; }

// Counts the call, and answers whether it is to fail by itself.
int told_to_fail(const char* name) {
  State& s = state();
  ++s.calls[name];
  const auto fault = s.faults.find(name);
  if (fault == s.faults.end() || ++fault->second.seen != fault->second.nth) return 0;
  // Those of 700 to 719 that the documentation says leave the process in an inconsistent state.
  const std::set<int> sticky{700, 702, 709, 710, 714, 715, 716, 717, 718, 719};
  if (sticky.count(fault->second.code)) s.sticky = fault->second.code;
  return fault->second.code;
}
// The same for calls that also report what went wrong before them.
int called(const char* name) {
  state().host_ns += 300;
  const int code = told_to_fail(name);
  return code != 0 ? code : state().sticky;
}

constexpr int invalid_value = 1, out_of_memory = 2, not_initialized = 3, invalid_context = 201, invalid_image = 200, no_binary = 209,
              invalid_ptx = 218, peer_already_enabled = 704, unsupported_version = 222, invalid_handle = 400, not_found = 500,
              invalid_device = 101;

struct Module {
  std::string image;
};
struct Function {
  Module* module;
  std::string symbol;
};
struct Stream;
struct Event {
  double at = 0;
  bool recorded = false;
  Stream* stream = nullptr;
};
struct Op {
  double enqueued;
  std::function<void(Stream&, double)> run;
};
struct Stream {
  int device = 0;
  double free_at = 0;
  std::deque<Op> queue;
  bool capturing = false;
  std::vector<std::function<void(Stream&, double)>> captured;
};
struct Graph {
  std::vector<std::function<void(Stream&, double)>> nodes;
};
struct Exec {
  Graph graph;
};
struct Context {
  int device;
  int retained = 0;
};

std::map<int, Context>& contexts() {
  static std::map<int, Context> all;
  return all;
}
std::set<Stream*>& streams() {
  static std::set<Stream*> all;
  return all;
}
Stream& null_stream() {
  static Stream one;
  return one;
}
Stream& of(void* stream) { return stream == nullptr ? null_stream() : *static_cast<Stream*>(stream); }

// The host waits for the device: on the virtual clock always, and for real where that is short, so that what the product times by the
// host's own clock (a launch and the wait for it) takes as long as this GPU was told. Longer waits would only make tests slow.
void wait_until(double at) {
  constexpr double longest_ns = 20'000;
  const double left = at - state().host_ns;
  if (left <= 0) return;
  state().host_ns = at;
  const auto until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(static_cast<long>(left <= longest_ns ? left : 0));
  while (std::chrono::steady_clock::now() < until) {
  }
}

void drain(Stream& stream) {
  while (!stream.queue.empty()) {
    Op op = stream.queue.front();
    stream.queue.pop_front();
    op.run(stream, std::max(stream.free_at, op.enqueued));
  }
  wait_until(stream.free_at);
}
void drain_all() {
  for (Stream* each : streams()) drain(*each);
  drain(null_stream());
}

double clock_now(Gpu& g) { return g.throttled_hz > 0 && g.busy_ns > g.throttle_after_ns ? g.throttled_hz : g.clock_hz; }

struct Launched {
  std::string symbol;
  unsigned grid[3], block[3];
  std::string params;
};

// Time of so many steps: the level by the bytes that the ring of addresses really visits, the side of L2 by each line's address.
double chased(Gpu& g, const std::string& symbol, const fake::Parameters& p, std::uint64_t steps) {
  if (symbol == "chase_shared") return static_cast<double>(steps) * g.latency_l1;
  const double set = 128.0 * static_cast<double>(fake::ring(p.pointer(8), static_cast<std::uint64_t>(g.attributes[38]) / 128 + 1));
  if (set <= g.l1_bytes && symbol != "chase_cg") return static_cast<double>(steps) * g.latency_l1;
  if (set > g.attributes[38]) return static_cast<double>(steps) * g.latency_dram;
  if (g.latency_far <= 0) return static_cast<double>(steps) * g.latency_l2;
  double ns = 0;
  std::uint64_t at = p.pointer(8);
  for (std::uint64_t i = 0; i < steps; ++i) {
    at = *reinterpret_cast<const std::uint64_t*>(at);
    ns += fake::far(at) ? g.latency_far : g.latency_l2;
  }
  return ns;
}

void execute(const Launched& launch, Stream& stream, double start) {
  Gpu& g = gpu();
  fake::Parameters p{launch.params};
  if (launch.symbol == "gate") {
    // Released as soon as the host says so; a flag that is still down when somebody waits would be a hang, here the time-out.
    const auto* flag = reinterpret_cast<const volatile std::uint32_t*>(p.pointer(8));
    auto* out = reinterpret_cast<std::uint32_t*>(p.pointer(0));
    const bool open = *flag != 0;
    *out = open ? 1 : 2;
    stream.free_at = open ? std::max(start, state().host_ns) : start + static_cast<double>(p.u64(24));
    return;
  }
  if (launch.symbol == "empty") {
    stream.free_at = start + 800;
    return;
  }
  const auto found = state().counts.find(launch.symbol);
  if (found == state().counts.end()) {
    std::fprintf(stderr, "fake driver: no counted work for %s\n", launch.symbol.c_str());
    std::abort();
  }
  const double sms = g.attributes[16];
  const double blocks = launch.grid[0];
  const double iterations = p.iterations(launch.symbol);
  const double share = clock_now(g) / g.clock_hz;
  const Work& work = found->second;
  double ns = 0;
  const bool tensor = launch.symbol.find("mma_") != std::string::npos || fake::starts(launch.symbol, "tcgen05");
  const double peak = g.peak.count(launch.symbol) ? g.peak[launch.symbol] : tensor ? g.tensor : g.plain;
  ns = work.flop * iterations * blocks / (peak * share) * 1e9;
  const bool near = fake::starts(launch.symbol, "read_shared") || fake::starts(launch.symbol, "write_shared") || launch.symbol == "read_l1";
  if (fake::starts(launch.symbol, "chase")) {
    ns = chased(g, launch.symbol, p, static_cast<std::uint64_t>(16 * iterations));
  } else if (near) {
    ns = (work.bytes_read + work.bytes_written) * iterations * blocks / (g.shared * share) * 1e9;
  } else if (work.bytes_read + work.bytes_written > 0) {
    const bool cached = p.working_set(work) <= g.attributes[38];
    double rate = cached ? g.l2 * share : g.dram;
    if (g.hungry > 0) rate *= std::min(1.0, fake::bytes_in_flight(launch.symbol, launch.block[0]) * blocks / sms / g.hungry);
    ns = std::max(ns, (work.bytes_read + work.bytes_written) * iterations * blocks / rate * 1e9);
  }
  const double end = start + ns;
  fake::run(launch.symbol, p, static_cast<unsigned>(blocks), launch.block[0]);
  if (state().corrupt.count(launch.symbol)) fake::corrupt(launch.symbol, p);
  if (auto* stamps = p.stamps(launch.symbol)) {
    for (unsigned b = 0; b < launch.grid[0]; ++b) {
      auto coarse = [&](double at) { return static_cast<std::uint64_t>(at / g.step_ns) * static_cast<std::uint64_t>(g.step_ns); };
      std::uint64_t* mine = stamps + 6 * b;
      mine[0] = coarse(start + (b % 7) * g.step_ns);
      mine[2] = coarse(end);
      mine[1] = 1000 * b;
      mine[3] = mine[1] + static_cast<std::uint64_t>(static_cast<double>(mine[2] - mine[0]) * clock_now(g) * 1e-9);
      mine[4] = b % static_cast<unsigned>(sms);
      mine[5] = static_cast<std::uint64_t>(iterations);
    }
  }
  g.busy_ns += ns;
  stream.free_at = end;
}

int enqueue(Stream& stream, double latency, std::function<void(Stream&, double)> run) {
  if (stream.capturing) {
    stream.captured.push_back(std::move(run));
    return 0;
  }
  stream.queue.push_back({state().host_ns + latency, std::move(run)});
  return 0;
}

int copy_now(void* to, const void* from, std::size_t bytes) {
  drain_all();
  std::memcpy(to, from, bytes);
  state().host_ns += 1e3 + static_cast<double>(bytes) / gpu().host_copy * 1e9;
  return 0;
}

int copy_later(Stream& stream, std::uintptr_t to, std::uintptr_t from, std::size_t bytes, double rate) {
  return enqueue(stream, 1000, [=](Stream& s, double start) {
    std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
    s.free_at = start + static_cast<double>(bytes) / rate * 1e9;
  });
}

// Whether a range lies inside one allocation.
bool owned(std::uintptr_t address, std::size_t bytes) {
  const auto& memory = state().memory;
  auto next = memory.upper_bound(address);
  if (next == memory.begin()) return false;
  --next;
  return address + bytes <= next->first + next->second;
}

}  // namespace

#define FAKE extern "C" __attribute__((visibility("default"))) int
#define ENTER(name) \
  if (const int code = called(name)) return code

FAKE cuInit(unsigned) {
  static const bool once = (read_script(), true);
  (void)once;
  ENTER("cuInit");
  return visible().empty() ? 100 : 0;
}
FAKE cuDriverGetVersion(int* version) {
  if (state().gpus.empty() && state().calls["cuInit"] == 0) cuInit(0), state().calls.clear();
  ENTER("cuDriverGetVersion");
  *version = state().driver;
  return 0;
}
FAKE cuGetErrorName(int code, const char** name) {
  if (const int failed = told_to_fail("cuGetErrorName")) return failed;
  static std::map<int, std::string> names;
  names[code] = "CUDA_ERROR_" + std::to_string(code);
  *name = names[code].c_str();
  return 0;
}
FAKE cuGetErrorString(int code, const char** text) {
  if (const int failed = told_to_fail("cuGetErrorString")) return failed;
  *text = code == out_of_memory ? "out of memory" : code == 700 ? "an illegal memory access was encountered" : "fake error";
  return 0;
}
FAKE cuDeviceGetCount(int* count) {
  ENTER("cuDeviceGetCount");
  *count = static_cast<int>(visible().size());
  return 0;
}
FAKE cuDeviceGet(int* device, int ordinal) {
  ENTER("cuDeviceGet");
  if (ordinal < 0 || ordinal >= static_cast<int>(visible().size())) return invalid_device;
  *device = visible()[static_cast<std::size_t>(ordinal)];
  return 0;
}
FAKE cuDeviceGetName(char* name, int size, int device) {
  ENTER("cuDeviceGetName");
  std::snprintf(name, static_cast<std::size_t>(size), "%s", state().gpus[static_cast<std::size_t>(device)].name.c_str());
  return 0;
}
FAKE cuDeviceGetUuid_v2(unsigned char* uuid, int device) {
  ENTER("cuDeviceGetUuid_v2");
  for (int i = 0; i < 16; ++i) uuid[i] = static_cast<unsigned char>(0xA0 + i + 16 * device);
  return 0;
}
FAKE cuDeviceGetAttribute(int* value, int which, int device) {
  ENTER("cuDeviceGetAttribute");
  *value = state().gpus[static_cast<std::size_t>(device)].attributes[which];
  return 0;
}
FAKE cuDeviceTotalMem_v2(std::size_t* bytes, int device) {
  ENTER("cuDeviceTotalMem_v2");
  *bytes = state().gpus[static_cast<std::size_t>(device)].memory;
  return 0;
}
FAKE cuDeviceGetPCIBusId(char* id, int size, int device) {
  ENTER("cuDeviceGetPCIBusId");
  std::snprintf(id, static_cast<std::size_t>(size), "0000:%02X:00.0", device);
  return 0;
}
FAKE cuDeviceCanAccessPeer(int* can, int from, int to) {
  ENTER("cuDeviceCanAccessPeer");
  *can = from != to;
  return 0;
}
FAKE cuDevicePrimaryCtxRetain(void** context, int device) {
  ENTER("cuDevicePrimaryCtxRetain");
  Context& one = contexts()[device];
  one.device = device;
  ++one.retained;
  ++state().live["context"];
  *context = &one;
  return 0;
}
FAKE cuDevicePrimaryCtxRelease_v2(int device) {
  ENTER("cuDevicePrimaryCtxRelease_v2");
  if (contexts()[device].retained-- <= 0) return invalid_context;
  --state().live["context"];
  return 0;
}
FAKE cuCtxPushCurrent_v2(void* context) {
  ENTER("cuCtxPushCurrent_v2");
  if (context == nullptr || static_cast<Context*>(context)->retained <= 0) return invalid_context;
  state().stack.push_back(state().current);
  state().current = static_cast<Context*>(context)->device;
  return 0;
}
FAKE cuCtxPopCurrent_v2(void** context) {
  if (const int failed = told_to_fail("cuCtxPopCurrent_v2")) return failed;
  if (state().stack.empty()) return invalid_context;
  if (context != nullptr) *context = &contexts()[state().current];
  state().current = state().stack.back();
  state().stack.pop_back();
  return 0;
}
FAKE cuCtxSynchronize() {
  ENTER("cuCtxSynchronize");
  drain_all();
  return 0;
}
FAKE cuCtxEnablePeerAccess(void* peer, unsigned) {
  ENTER("cuCtxEnablePeerAccess");
  static std::set<std::pair<int, int>> enabled;
  return enabled.insert({state().current, static_cast<Context*>(peer)->device}).second ? 0 : peer_already_enabled;
}
FAKE cuMemGetInfo_v2(std::size_t* free_bytes, std::size_t* total) {
  ENTER("cuMemGetInfo_v2");
  *total = gpu().memory;
  *free_bytes = gpu().memory - std::min(gpu().memory, state().used);
  return 0;
}
FAKE cuMemAlloc_v2(std::uintptr_t* address, std::size_t bytes) {
  ENTER("cuMemAlloc_v2");
  if (state().current < 0) return invalid_context;
  if (bytes == 0) return invalid_value;
  if (state().used + bytes > gpu().memory) return out_of_memory;
  void* got = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  *address = reinterpret_cast<std::uintptr_t>(got);
  state().memory[*address] = bytes;
  state().used += bytes;
  ++state().live["memory"];
  return 0;
}
FAKE cuMemFree_v2(std::uintptr_t address) {
  ENTER("cuMemFree_v2");
  drain_all();
  const auto found = state().memory.find(address);
  if (found == state().memory.end()) return invalid_value;
  munmap(reinterpret_cast<void*>(address), found->second);
  state().used -= found->second;
  state().memory.erase(found);
  --state().live["memory"];
  return 0;
}
FAKE cuMemHostAlloc(void** address, std::size_t bytes, unsigned) {
  ENTER("cuMemHostAlloc");
  *address = std::calloc(1, bytes);
  ++state().live["pinned"];
  return 0;
}
FAKE cuMemFreeHost(void* address) {
  ENTER("cuMemFreeHost");
  drain_all();
  std::free(address);
  --state().live["pinned"];
  return 0;
}
FAKE cuMemHostGetDevicePointer_v2(std::uintptr_t* device, void* host, unsigned) {
  ENTER("cuMemHostGetDevicePointer_v2");
  *device = reinterpret_cast<std::uintptr_t>(host);
  return 0;
}
FAKE cuMemcpyHtoD_v2(std::uintptr_t to, const void* from, std::size_t bytes) {
  ENTER("cuMemcpyHtoD_v2");
  return owned(to, bytes) ? copy_now(reinterpret_cast<void*>(to), from, bytes) : invalid_value;
}
FAKE cuMemcpyDtoH_v2(void* to, std::uintptr_t from, std::size_t bytes) {
  ENTER("cuMemcpyDtoH_v2");
  return owned(from, bytes) ? copy_now(to, reinterpret_cast<const void*>(from), bytes) : invalid_value;
}
FAKE cuMemcpyHtoDAsync_v2(std::uintptr_t to, const void* from, std::size_t bytes, void* stream) {
  ENTER("cuMemcpyHtoDAsync_v2");
  return owned(to, bytes) ? copy_later(of(stream), to, reinterpret_cast<std::uintptr_t>(from), bytes, gpu().host_copy) : invalid_value;
}
FAKE cuMemcpyDtoHAsync_v2(void* to, std::uintptr_t from, std::size_t bytes, void* stream) {
  ENTER("cuMemcpyDtoHAsync_v2");
  return owned(from, bytes) ? copy_later(of(stream), reinterpret_cast<std::uintptr_t>(to), from, bytes, gpu().host_copy) : invalid_value;
}
FAKE cuMemcpyDtoDAsync_v2(std::uintptr_t to, std::uintptr_t from, std::size_t bytes, void* stream) {
  ENTER("cuMemcpyDtoDAsync_v2");
  if (!owned(to, bytes) || !owned(from, bytes)) return invalid_value;
  return copy_later(of(stream), to, from, bytes, gpu().dram / 2);
}
FAKE cuMemcpyPeerAsync(std::uintptr_t to, void*, std::uintptr_t from, void*, std::size_t bytes, void* stream) {
  ENTER("cuMemcpyPeerAsync");
  return copy_later(of(stream), to, from, bytes, gpu().host_copy * 4);
}
FAKE cuMemsetD32Async(std::uintptr_t to, unsigned word, std::size_t count, void* stream) {
  ENTER("cuMemsetD32Async");
  if (!owned(to, count * 4)) return invalid_value;
  return enqueue(of(stream), 1000, [=](Stream& s, double start) {
    auto* words = reinterpret_cast<unsigned*>(to);
    for (std::size_t i = 0; i < count; ++i) words[i] = word;
    s.free_at = start + static_cast<double>(count) * 4 / gpu().dram * 1e9;
  });
}
// PTX: of an ISA that the driver's compiler knows, for a chip that is no newer than this one.
static int load_ptx(void** module, const char* text) {
  int major = 0, minor = 0, arch = 0;
  const char* at = std::strstr(text, ".version ");
  if (at == nullptr || std::sscanf(at, ".version %d.%d", &major, &minor) != 2) return invalid_image;
  const int needs = major >= 9 ? 13000 + 10 * minor : 12000 + 10 * (minor + (minor > 5 ? 1 : 0));
  if (needs > state().driver) return unsupported_version;
  at = std::strstr(text, ".target sm_");
  if (at == nullptr || std::sscanf(at, ".target sm_%d", &arch) != 1) return invalid_ptx;
  if (arch > gpu().attributes[75] * 10 + gpu().attributes[76]) return no_binary;
  *module = new Module{text};
  ++state().live["module"];
  return 0;
}
FAKE cuModuleLoadData(void** module, const void* image) {
  ENTER("cuModuleLoadData");
  const auto* bytes = static_cast<const unsigned char*>(image);
  if (std::memcmp(bytes,
                  "\x7f"
                  "ELF",
                  4) != 0)
    return load_ptx(module, static_cast<const char*>(image));
  // The format's version: 8 came with toolkit 13, and with toolkit 12 for Blackwell alone.
  const bool newer = bytes[8] >= 8;
  const int arch = newer ? bytes[0x31] : bytes[0x30];
  if (newer && arch < 100 && state().driver < 13000) return unsupported_version;
  if (arch / 10 != gpu().attributes[75] || arch % 10 > gpu().attributes[76]) return no_binary;
  std::uint64_t sections = 0;
  std::uint16_t each = 0, number = 0;
  std::memcpy(&sections, bytes + 0x28, 8);
  std::memcpy(&each, bytes + 0x3A, 2);
  std::memcpy(&number, bytes + 0x3C, 2);
  *module = new Module{std::string(reinterpret_cast<const char*>(bytes), sections + std::size_t{each} * number)};
  ++state().live["module"];
  return 0;
}
FAKE cuModuleUnload(void* module) {
  ENTER("cuModuleUnload");
  delete static_cast<Module*>(module);
  --state().live["module"];
  return 0;
}
FAKE cuModuleGetFunction(void** function, void* module, const char* name) {
  ENTER("cuModuleGetFunction");
  const std::string section = std::string(".text.") + name + '\0', entry = std::string(".entry ") + name + "(";
  const std::string& image = static_cast<Module*>(module)->image;
  if (image.find(section) == std::string::npos && image.find(entry) == std::string::npos) return not_found;
  static std::map<std::string, Function> all;  // functions belong to their module and are not given back
  Function& made = all[name];
  made = {static_cast<Module*>(module), name};
  *function = &made;
  return 0;
}
FAKE cuFuncGetAttribute(int* value, int, void*) {
  ENTER("cuFuncGetAttribute");
  *value = 0;
  return 0;
}
FAKE cuFuncSetAttribute(void*, int, int value) {
  ENTER("cuFuncSetAttribute");
  return value <= gpu().attributes[97] ? 0 : invalid_value;
}
FAKE cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void*, int threads, std::size_t shared) {
  ENTER("cuOccupancyMaxActiveBlocksPerMultiprocessor");
  *blocks = gpu().attributes[39] / threads;
  if (shared > 0) *blocks = std::min(*blocks, static_cast<int>(gpu().attributes[81] / shared));
  return 0;
}
FAKE cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned, void* stream,
                    void** params, void** extra) {
  ENTER("cuLaunchKernel");
  if (params != nullptr || extra == nullptr || bx * by * bz > 1024) return invalid_value;
  if (extra[0] != reinterpret_cast<void*>(1) || extra[2] != reinterpret_cast<void*>(2) || extra[4] != nullptr) return invalid_value;
  const std::size_t size = *static_cast<std::size_t*>(extra[3]);
  const auto* made = static_cast<Function*>(function);
  if (size != fake::parameter_bytes(made->symbol)) return invalid_value;
  Launched launch{made->symbol, {gx, gy, gz}, {bx, by, bz}, std::string(static_cast<char*>(extra[1]), size)};
  const int device = state().current;
  return enqueue(of(stream), gpu().launch_ns, [launch, device](Stream& s, double start) {
    const int before = std::exchange(state().current, device);
    execute(launch, s, start);
    state().current = before;
  });
}
FAKE cuStreamCreate(void** stream, unsigned) {
  ENTER("cuStreamCreate");
  auto* made = new Stream;
  made->device = state().current;
  streams().insert(made);
  *stream = made;
  ++state().live["stream"];
  return 0;
}
FAKE cuStreamDestroy_v2(void* stream) {
  ENTER("cuStreamDestroy_v2");
  drain(of(stream));
  streams().erase(static_cast<Stream*>(stream));
  delete static_cast<Stream*>(stream);
  --state().live["stream"];
  return 0;
}
FAKE cuStreamSynchronize(void* stream) {
  ENTER("cuStreamSynchronize");
  drain(of(stream));
  return 0;
}
FAKE cuStreamWaitEvent(void* stream, void* event, unsigned) {
  ENTER("cuStreamWaitEvent");
  return enqueue(of(stream), 0, [event](Stream& s, double start) {
    auto* awaited = static_cast<Event*>(event);
    if (awaited->stream != nullptr && awaited->stream != &s) drain(*awaited->stream);
    s.free_at = std::max(start, awaited->at);
  });
}
FAKE cuEventCreate(void** event, unsigned) {
  ENTER("cuEventCreate");
  *event = new Event;
  ++state().live["event"];
  return 0;
}
FAKE cuEventDestroy_v2(void* event) {
  ENTER("cuEventDestroy_v2");
  drain_all();
  delete static_cast<Event*>(event);
  --state().live["event"];
  return 0;
}
FAKE cuEventRecord(void* event, void* stream) {
  ENTER("cuEventRecord");
  auto* one = static_cast<Event*>(event);
  one->stream = &of(stream);
  one->recorded = true;
  return enqueue(of(stream), 0, [one](Stream& s, double start) { one->at = s.free_at = start; });
}
FAKE cuEventSynchronize(void* event) {
  ENTER("cuEventSynchronize");
  const auto* one = static_cast<Event*>(event);
  if (!one->recorded) return invalid_handle;
  drain(*one->stream);
  return 0;
}
FAKE cuEventElapsedTime(float* milliseconds, void* start, void* stop) {
  ENTER("cuEventElapsedTime");
  *milliseconds = static_cast<float>((static_cast<Event*>(stop)->at - static_cast<Event*>(start)->at) * 1e-6);
  return 0;
}
FAKE cuStreamBeginCapture_v2(void* stream, int) {
  ENTER("cuStreamBeginCapture_v2");
  of(stream).capturing = true;
  of(stream).captured.clear();
  return 0;
}
FAKE cuStreamEndCapture(void* stream, void** graph) {
  of(stream).capturing = false;
  ENTER("cuStreamEndCapture");
  *graph = new Graph{of(stream).captured};
  ++state().live["graph"];
  return 0;
}
FAKE cuGraphInstantiateWithFlags(void** exec, void* graph, unsigned long long) {
  ENTER("cuGraphInstantiateWithFlags");
  *exec = new Exec{*static_cast<Graph*>(graph)};
  ++state().live["exec"];
  return 0;
}
FAKE cuGraphUpload(void*, void*) {
  ENTER("cuGraphUpload");
  return 0;
}
FAKE cuGraphLaunch(void* exec, void* stream) {
  ENTER("cuGraphLaunch");
  const Graph graph = static_cast<Exec*>(exec)->graph;
  const double each = gpu().graph_ns;
  return enqueue(of(stream), gpu().launch_ns, [graph, each](Stream& s, double start) {
    s.free_at = start;
    for (const auto& node : graph.nodes) node(s, s.free_at + each);
  });
}
FAKE cuGraphExecDestroy(void* exec) {
  ENTER("cuGraphExecDestroy");
  drain_all();
  delete static_cast<Exec*>(exec);
  --state().live["exec"];
  return 0;
}
FAKE cuGraphDestroy(void* graph) {
  ENTER("cuGraphDestroy");
  delete static_cast<Graph*>(graph);
  --state().live["graph"];
  return 0;
}

FAKE fake_fail_too(const char* name, int nth, int code) {
  if (name != nullptr) state().faults[name] = {nth, code, 0};
  return 0;
}
// For the tests alone: fail a call, forget faults, and tell what is still held.
FAKE fake_fail(const char* name, int nth, int code) {
  state().faults.clear();
  state().calls.clear();
  state().sticky = 0;
  state().stack.clear();
  state().current = -1;
  return fake_fail_too(name, nth, code);
}
FAKE fake_live(char* out, int size) {
  std::string text;
  for (const auto& [kind, count] : state().live) text += kind + "=" + std::to_string(count) + " ";
  std::snprintf(out, static_cast<std::size_t>(size), "%s", text.c_str());
  return 0;
}
FAKE fake_used() { return static_cast<int>(state().used); }
FAKE fake_calls(const char* name) { return static_cast<int>(state().calls[name]); }
