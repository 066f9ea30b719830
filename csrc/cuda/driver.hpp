// The CUDA driver API, found at run time: what is declared here is all that this project needs of it, so the module
// builds with any C++ compiler and imports where there is no driver. Types and names follow the documented ABI; a test
// compares them with the vendor's header wherever one is installed.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

namespace mb::cuda {

using Result = int;
using DeviceHandle = int;
using DevicePtr = unsigned long long;
using Context_ = struct CUctx_st*;
using Module_ = struct CUmod_st*;
using Function_ = struct CUfunc_st*;
using Stream_ = struct CUstream_st*;
using Event_ = struct CUevent_st*;
using Graph_ = struct CUgraph_st*;
using GraphExec_ = struct CUgraphExec_st*;

struct Uuid {
  unsigned char bytes[16];
};

constexpr Result success = 0;
constexpr Result error_not_found = 500;
constexpr Result error_peer_already_enabled = 704;

// Pointer markers of cuLaunchKernel's `extra`, which takes the parameters as one packed buffer.
inline void* const launch_param_end = nullptr;
inline void* const launch_param_buffer_pointer = reinterpret_cast<void*>(1);
inline void* const launch_param_buffer_size = reinterpret_cast<void*>(2);

constexpr unsigned event_default = 0;
constexpr unsigned stream_non_blocking = 1;
constexpr unsigned host_alloc_portable_mapped = 3;
constexpr int capture_thread_local = 1;

// An error of the driver as one sentence: the call, what it said, on which device, during which case.
class DriverError : public std::runtime_error {
 public:
  DriverError(const std::string& sentence, std::string call, Result code, bool lost)
      : std::runtime_error(sentence), call(std::move(call)), code(code), lost(lost) {}
  std::string call;
  Result code;
  bool lost;  // the context is gone: every later call on it fails the same way
};

// No driver here, or one without a function that this project cannot do without.
class NoDriver : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// After one of these the context answers nothing but the same error.
bool loses_context(Result code);

// Who is calling, for the sentence of an error; set by Context for the time of one entry.
struct Caller {
  std::string device;
  std::string subject;
};
Caller& caller();

class Table;

class Row {
 public:
  Row(Table* table, const char* name, bool required);
  const char* name;
  bool required;
  void* address = nullptr;

  // Raises DriverError unless the code is success.
  void demand(Result code) const;
  bool present() const { return address != nullptr; }
};

template <class... Args>
class Call : public Row {
 public:
  explicit Call(Table* table, const char* name, bool required = true) : Row(table, name, required) {}

  // The bare code, for clean-up and for questions where an error is an answer.
  Result ask(Args... args) const {
    if (address == nullptr) return error_not_found;
    return reinterpret_cast<Result (*)(Args...)>(address)(args...);
  }
  void operator()(Args... args) const { demand(ask(args...)); }
};

// One row per function: the exact exported name, and whether the project can do without it.
class Table {
 public:
  std::vector<Row*> rows;

  Call<unsigned> init{this, "cuInit"};
  Call<int*> driver_version{this, "cuDriverGetVersion"};
  Call<Result, const char**> error_name{this, "cuGetErrorName"};
  Call<Result, const char**> error_string{this, "cuGetErrorString"};

  Call<int*> device_count{this, "cuDeviceGetCount"};
  Call<DeviceHandle*, int> device_get{this, "cuDeviceGet"};
  Call<char*, int, DeviceHandle> device_name{this, "cuDeviceGetName"};
  Call<Uuid*, DeviceHandle> device_uuid{this, "cuDeviceGetUuid_v2"};
  Call<int*, int, DeviceHandle> device_attribute{this, "cuDeviceGetAttribute"};
  Call<std::size_t*, DeviceHandle> device_memory{this, "cuDeviceTotalMem_v2"};
  Call<char*, int, DeviceHandle> device_pci{this, "cuDeviceGetPCIBusId"};
  Call<int*, DeviceHandle, DeviceHandle> can_access_peer{this, "cuDeviceCanAccessPeer", false};

  Call<Context_*, DeviceHandle> primary_retain{this, "cuDevicePrimaryCtxRetain"};
  Call<DeviceHandle> primary_release{this, "cuDevicePrimaryCtxRelease_v2"};
  Call<Context_> push{this, "cuCtxPushCurrent_v2"};
  Call<Context_*> pop{this, "cuCtxPopCurrent_v2"};
  Call<> synchronize{this, "cuCtxSynchronize"};
  Call<Context_, unsigned> enable_peer{this, "cuCtxEnablePeerAccess", false};

  Call<std::size_t*, std::size_t*> memory_info{this, "cuMemGetInfo_v2"};
  Call<DevicePtr*, std::size_t> alloc{this, "cuMemAlloc_v2"};
  Call<DevicePtr> free{this, "cuMemFree_v2"};
  Call<void**, std::size_t, unsigned> host_alloc{this, "cuMemHostAlloc"};
  Call<void*> host_free{this, "cuMemFreeHost"};
  Call<DevicePtr*, void*, unsigned> host_pointer{this, "cuMemHostGetDevicePointer_v2"};
  Call<DevicePtr, const void*, std::size_t> copy_to_device{this, "cuMemcpyHtoD_v2"};
  Call<void*, DevicePtr, std::size_t> copy_to_host{this, "cuMemcpyDtoH_v2"};
  Call<DevicePtr, const void*, std::size_t, Stream_> copy_to_device_async{this, "cuMemcpyHtoDAsync_v2"};
  Call<void*, DevicePtr, std::size_t, Stream_> copy_to_host_async{this, "cuMemcpyDtoHAsync_v2"};
  Call<DevicePtr, DevicePtr, std::size_t, Stream_> copy_on_device_async{this, "cuMemcpyDtoDAsync_v2"};
  Call<DevicePtr, Context_, DevicePtr, Context_, std::size_t, Stream_> copy_peer_async{this, "cuMemcpyPeerAsync",
                                                                                       false};
  Call<DevicePtr, unsigned, std::size_t, Stream_> fill_async{this, "cuMemsetD32Async"};

  Call<Module_*, const void*> module_load{this, "cuModuleLoadData"};
  Call<Module_> module_unload{this, "cuModuleUnload"};
  Call<Function_*, Module_, const char*> module_function{this, "cuModuleGetFunction"};
  Call<int*, int, Function_> function_attribute{this, "cuFuncGetAttribute"};
  Call<Function_, int, int> function_set{this, "cuFuncSetAttribute"};
  Call<int*, Function_, int, std::size_t> occupancy{this, "cuOccupancyMaxActiveBlocksPerMultiprocessor"};
  Call<Function_, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Stream_, void**, void**> launch{
      this, "cuLaunchKernel"};

  Call<Stream_*, unsigned> stream_create{this, "cuStreamCreate"};
  Call<Stream_> stream_destroy{this, "cuStreamDestroy_v2"};
  Call<Stream_> stream_synchronize{this, "cuStreamSynchronize"};
  Call<Stream_, Event_, unsigned> stream_wait{this, "cuStreamWaitEvent"};

  Call<Event_*, unsigned> event_create{this, "cuEventCreate"};
  Call<Event_> event_destroy{this, "cuEventDestroy_v2"};
  Call<Event_, Stream_> event_record{this, "cuEventRecord"};
  Call<Event_> event_synchronize{this, "cuEventSynchronize"};
  Call<float*, Event_, Event_> event_elapsed{this, "cuEventElapsedTime"};

  Call<Stream_, int> capture_begin{this, "cuStreamBeginCapture_v2"};
  Call<Stream_, Graph_*> capture_end{this, "cuStreamEndCapture"};
  Call<GraphExec_*, Graph_, unsigned long long> graph_instantiate{this, "cuGraphInstantiateWithFlags"};
  Call<GraphExec_, Stream_> graph_upload{this, "cuGraphUpload", false};
  Call<GraphExec_, Stream_> graph_launch{this, "cuGraphLaunch"};
  Call<GraphExec_> graph_exec_destroy{this, "cuGraphExecDestroy"};
  Call<Graph_> graph_destroy{this, "cuGraphDestroy"};

  Table() = default;
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;
};

// The table with its addresses filled in and cuInit called, once per process. Raises NoDriver or DriverError.
const Table& driver();

// The driver's version (12080 for 12.8) as far as it can be learnt without a device; 0 where there is no driver.
int driver_version();

// Name and description of an error code, from the driver where it knows them.
std::string describe(Result code);

}  // namespace mb::cuda
