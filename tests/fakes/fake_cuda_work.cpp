// The FAKE driver's modules, launches, streams, events and graphs; see fake_cuda.cpp.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "fake_timeline.hpp"

using namespace fake;

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
FAKE cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                    unsigned, void* stream, void** params, void** extra) {
  ENTER("cuLaunchKernel");
  if (params != nullptr || extra == nullptr || bx * by * bz > 1024) return invalid_value;
  if (extra[0] != reinterpret_cast<void*>(1) || extra[2] != reinterpret_cast<void*>(2) || extra[4] != nullptr)
    return invalid_value;
  const std::size_t size = *static_cast<std::size_t*>(extra[3]);
  const auto* made = static_cast<Function*>(function);
  if (const int spoilt = fake::launch_spoilt(made->symbol); spoilt != 0) return spoilt;
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
