// A FAKE of the CUDA driver for tests: invented GPUs on a virtual clock, scripted by the file that MB_FAKE_GPU names.
//
// It knows the documented names and signatures only, written down again and not shared with the product. A launch takes
// the time that its work needs at the invented GPU's rates; the work per iteration comes from a file of counts that the
// tests' PTX interpreter wrote, never from the product's sheets. Kernels it can execute leave real results; others
// leave the outcome file's. Device memory is host memory, so every byte copied is a byte copied. Every handle is
// counted, and any call can be told to fail.
//
// Here: devices, contexts and memory. fake_cuda_work.cpp has modules, launches, streams, events and graphs.
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "fake_timeline.hpp"

using namespace fake;

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
  *text = code == out_of_memory ? "out of memory"
          : code == 700         ? "an illegal memory access was encountered"
                                : "fake error";
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
  std::snprintf(name, static_cast<std::size_t>(size), "%s",
                state().gpus[static_cast<std::size_t>(device)].name.c_str());
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
  return owned(to, bytes) ? copy_later(of(stream), to, reinterpret_cast<std::uintptr_t>(from), bytes, gpu().host_copy)
                          : invalid_value;
}
FAKE cuMemcpyDtoHAsync_v2(void* to, std::uintptr_t from, std::size_t bytes, void* stream) {
  ENTER("cuMemcpyDtoHAsync_v2");
  return owned(from, bytes) ? copy_later(of(stream), reinterpret_cast<std::uintptr_t>(to), from, bytes, gpu().host_copy)
                            : invalid_value;
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
