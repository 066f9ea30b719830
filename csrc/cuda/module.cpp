// The Python face of the CUDA host: thin, no policy. Everything that waits for the device releases the interpreter lock.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <optional>

#include "context.hpp"

namespace py = pybind11;
using namespace mb::cuda;

namespace {

// An attribute that reads 0 is one that the driver will not tell (clocks under some virtual machines): None, not 0.
py::object attribute(const Table& table, DeviceHandle device, int which) {
  int value = 0;
  if (table.device_attribute.ask(&value, which, device) != success) return py::none();
  return py::int_(value);
}

py::dict device_facts(int ordinal, const std::map<std::string, int>& attributes) {
  const Caller outer = std::exchange(caller(), Caller{"cuda:" + std::to_string(ordinal), ""});
  const struct Restore {
    const Caller& outer;
    ~Restore() { caller() = outer; }
  } restore{outer};
  const Table& table = driver();
  DeviceHandle device = 0;
  table.device_get(&device, ordinal);
  char name[256] = {};
  table.device_name(name, sizeof name - 1, device);
  Uuid uuid{};
  table.device_uuid(&uuid, device);
  std::size_t memory = 0;
  table.device_memory(&memory, device);
  char pci[64] = {};
  table.device_pci(pci, sizeof pci - 1, device);
  py::dict found;
  found["name"] = std::string(name);
  found["uuid"] = py::bytes(reinterpret_cast<const char*>(uuid.bytes), sizeof uuid.bytes);
  found["memory_bytes"] = memory;
  found["pci"] = std::string(pci);
  for (const auto& [key, which] : attributes) found[py::str(key)] = attribute(table, device, which);
  return found;
}

int device_count() {
  int count = 0;
  driver().device_count(&count);
  return count;
}

py::dict build_info() {
  py::dict info;
#if defined(__clang__)
  info["compiler"] = "clang " __clang_version__;
#else
  info["compiler"] = "g++ " __VERSION__;
#endif
#if defined(__OPTIMIZE__)
  info["optimised"] = true;
#else
  info["optimised"] = false;
#endif
  info["cubins"] = MICROBENCH_CUBINS;
  info["nvcc"] = MICROBENCH_NVCC;
  info["why_no_cubins"] = MICROBENCH_WHY_NO_CUBINS;
  return info;
}

py::list exports() {
  static const Table rows;
  py::list found;
  for (const Row* row : rows.rows) found.append(py::make_tuple(row->name, row->required));
  return found;
}

// The exception carries call, code and whether the context is lost, besides its sentence.
void translate(const DriverError& error, const py::object& type) {
  py::object raised = type(error.what());
  raised.attr("call") = error.call;
  raised.attr("code") = error.code;
  raised.attr("lost") = error.lost;
  PyErr_SetObject(type.ptr(), raised.ptr());
}

}  // namespace

PYBIND11_MODULE(_cuda, module) {
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::object> driver_error;
  driver_error.call_once_and_store_result([&] { return py::object(py::exception<DriverError>(module, "DriverError", PyExc_RuntimeError)); });
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const DriverError& error) {
      translate(error, driver_error.get_stored());
    }
  });
  py::register_exception<NoDriver>(module, "NoDriver", PyExc_RuntimeError);

  module.def("driver_version", &driver_version);
  module.def("device_count", &device_count);
  module.def("device_facts", &device_facts, py::arg("ordinal"), py::arg("attributes"));
  module.def("build_info", &build_info);
  module.def("exports", &exports);
}
