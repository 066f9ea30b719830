// The Python face of the CUDA host: thin, no policy. Everything that waits for the device releases the interpreter
// lock.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>
#include <map>
#include <optional>

#include "timing.hpp"

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

// False too where the driver has no such question.
bool can_access_peer(int ordinal, int peer) {
  const Table& table = driver();
  DeviceHandle from = 0;
  DeviceHandle to = 0;
  table.device_get(&from, ordinal);
  table.device_get(&to, peer);
  int can = 0;
  return table.can_access_peer.ask(&can, from, to) == success && can != 0;
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

// Device memory and its size; `close` gives it back before Python gets round to it.
struct Buffer {
  Memory memory;
  std::size_t size = 0;

  void within_bounds(std::size_t offset, std::size_t bytes) const {
    if (memory.get() == 0) throw std::runtime_error("this buffer is closed");
    if (offset > size || bytes > size - offset) throw std::out_of_range("outside the buffer");
  }
  void write(const py::buffer& data, std::size_t offset) const {
    const py::buffer_info info = data.request();
    const std::size_t bytes = static_cast<std::size_t>(info.size) * static_cast<std::size_t>(info.itemsize);
    within_bounds(offset, bytes);
    const py::gil_scoped_release unlocked;
    // A copy of ordinary memory may return before its last bytes have arrived, and the timer's stream does not wait for
    // it.
    memory.context()->within([&](const Table& table) {
      table.copy_to_device(memory.get() + offset, info.ptr, bytes);
      table.synchronize();
    });
  }
  py::bytes read(std::size_t offset, std::size_t bytes) const {
    within_bounds(offset, bytes);
    std::string data(bytes, '\0');
    {
      const py::gil_scoped_release unlocked;
      memory.context()->within(
          [&](const Table& table) { table.copy_to_host(data.data(), memory.get() + offset, bytes); });
    }
    return py::bytes(data);
  }
  void fill(unsigned word) const {
    within_bounds(0, size);
    const py::gil_scoped_release unlocked;
    memory.context()->within([&](const Table& table) {
      table.fill_async(memory.get(), word, size / 4, nullptr);
      table.synchronize();
    });
  }
};

struct Pinned {
  HostMemory memory;
  std::size_t size = 0;
  DevicePtr device_address = 0;
};

struct Module {
  std::shared_ptr<Image> image;

  Function function(const std::string& name) const {
    if (image->get() == nullptr) throw std::runtime_error("this module is closed");
    Function found{image, nullptr, name};
    image->context()->within(
        [&](const Table& table) { table.module_function(&found.handle, image->get(), name.c_str()); });
    return found;
  }
};

int occupancy(const Function& function, int threads, std::size_t shared_bytes) {
  int blocks = 0;
  function.image->context()->within(
      [&](const Table& table) { table.occupancy(&blocks, function.handle, threads, shared_bytes); });
  return blocks;
}

int function_attribute(const Function& function, int which) {
  int value = 0;
  function.image->context()->within(
      [&](const Table& table) { table.function_attribute(&value, which, function.handle); });
  return value;
}

void set_function_attribute(const Function& function, int which, int value) {
  function.image->context()->within([&](const Table& table) { table.function_set(function.handle, which, value); });
}

Launch make_launch(const Function& function, std::array<unsigned, 3> grid, std::array<unsigned, 3> block,
                   unsigned shared_bytes, const py::bytes& params) {
  const std::string_view packed = params;
  Launch launch{function, grid, block, shared_bytes, {}};
  launch.params.resize(packed.size());
  std::memcpy(launch.params.data(), packed.data(), packed.size());
  return launch;
}

// The exception carries call, code and whether the context is lost, besides its sentence.
void translate(const DriverError& error, const py::object& type) {
  py::object raised = type(error.what());
  raised.attr("call") = error.call;
  raised.attr("code") = error.code;
  raised.attr("lost") = error.lost;
  PyErr_SetObject(type.ptr(), raised.ptr());
}

void bind_memory(py::module_& module) {
  py::class_<Buffer>(module, "Buffer")
      .def_property_readonly("address", [](const Buffer& self) { return self.memory.get(); })
      .def_readonly("size", &Buffer::size)
      .def("write", &Buffer::write, py::arg("data"), py::arg("offset") = 0)
      .def("read", &Buffer::read, py::arg("offset"), py::arg("size"))
      .def("fill", &Buffer::fill, py::arg("word"))
      .def("close", [](Buffer& self) { self.memory.reset(); });
  py::class_<Pinned>(module, "Pinned", py::buffer_protocol())
      .def_property_readonly("address",
                             [](const Pinned& self) { return reinterpret_cast<std::uintptr_t>(self.memory.get()); })
      .def_readonly("device_address", &Pinned::device_address)
      .def_readonly("size", &Pinned::size)
      .def_buffer([](const Pinned& self) {
        if (self.memory.get() == nullptr) throw std::runtime_error("this memory is closed");
        return py::buffer_info(static_cast<unsigned char*>(self.memory.get()), static_cast<py::ssize_t>(self.size));
      })
      .def("close", [](Pinned& self) { self.memory.reset(); });
}

void bind_code(py::module_& module) {
  py::class_<Module>(module, "Module")
      .def("function", &Module::function, py::arg("name"))
      .def("close", [](Module& self) { self.image->reset(); });
  py::class_<Function>(module, "Function")
      .def_readonly("name", &Function::name)
      .def("attribute", &function_attribute, py::arg("which"))
      .def("set_attribute", &set_function_attribute, py::arg("which"), py::arg("value"))
      .def("occupancy", &occupancy, py::arg("threads"), py::arg("shared_bytes") = 0);
  py::class_<Launch>(module, "Launch")
      .def(py::init(&make_launch), py::arg("function"), py::arg("grid"), py::arg("block"), py::arg("shared_bytes"),
           py::arg("params"));
  py::class_<Gate>(module, "Gate")
      .def(py::init([](const Launch& launch, const Pinned& flag) {
             return Gate{launch, static_cast<volatile std::uint32_t*>(flag.memory.get())};
           }),
           py::arg("launch"), py::arg("flag"), py::keep_alive<1, 3>());
}

void bind_context(py::module_& module) {
  py::class_<Context, ContextPtr>(module, "Context")
      .def(py::init<int>(), py::arg("ordinal"))
      .def_readonly("name", &Context::name)
      .def_readwrite("subject", &Context::subject)
      .def_readonly("lost", &Context::lost)
      .def("memory_info",
           [](Context& self) {
             std::size_t free = 0;
             std::size_t total = 0;
             self.within([&](const Table& table) { table.memory_info(&free, &total); });
             return py::make_tuple(free, total);
           })
      .def("synchronize",
           [](Context& self) {
             const py::gil_scoped_release unlocked;
             self.within([](const Table& table) { table.synchronize(); });
           })
      .def(
          "load",
          [](const ContextPtr& self, const py::bytes& image) {
            const std::string code = image;  // kept whole and terminated while the driver reads it
            Module_ handle = nullptr;
            self->within([&](const Table& table) { table.module_load(&handle, code.data()); });
            return Module{std::make_shared<Image>(self, handle)};
          },
          py::arg("image"))
      .def(
          "alloc", [](const ContextPtr& self, std::size_t size) { return Buffer{allocate(self, size), size}; },
          py::arg("size"))
      .def(
          "pinned",
          [](const ContextPtr& self, std::size_t size) {
            Pinned made{allocate_pinned(self, size), size, 0};
            self->within([&](const Table& table) { table.host_pointer(&made.device_address, made.memory.get(), 0); });
            return made;
          },
          py::arg("size"))
      .def(
          "enable_peer",
          [](Context& self, const Context& peer) {
            self.within([&](const Table& table) {
              const Result code = table.enable_peer.ask(peer.handle(), 0);
              if (code != error_peer_already_enabled) table.enable_peer.demand(code);
            });
          },
          py::arg("peer"));
}

void bind_timing(py::module_& module) {
  using unlocked = py::call_guard<py::gil_scoped_release>;
  py::enum_<Copy::Kind>(module, "CopyKind")
      .value("to_device", Copy::Kind::to_device)
      .value("to_host", Copy::Kind::to_host)
      .value("on_device", Copy::Kind::on_device)
      .value("peer", Copy::Kind::peer);
  py::class_<Copy>(module, "Copy")
      .def(py::init([](Copy::Kind kind, std::uintptr_t to, std::uintptr_t from, std::size_t size,
                       const Context* to_context, const Context* from_context) {
             return Copy{kind,
                         to,
                         from,
                         size,
                         to_context ? to_context->handle() : nullptr,
                         from_context ? from_context->handle() : nullptr};
           }),
           py::arg("kind"), py::arg("to"), py::arg("source"), py::arg("size"), py::arg("to_context") = nullptr,
           py::arg("from_context") = nullptr);
  py::class_<Timer>(module, "Timer")
      .def(py::init<const ContextPtr&>(), py::arg("context"))
      .def("launches", &Timer::launches, py::arg("launch"), py::arg("count") = 1, py::arg("gate") = nullptr, unlocked())
      .def("replay", &Timer::replay, py::arg("launch"), py::arg("nodes"), py::arg("replays"), unlocked())
      .def("copies", &Timer::copies, py::arg("together"), py::arg("times"), unlocked())
      .def("enqueue", &Timer::enqueue, py::arg("launch"), py::arg("count"), unlocked())
      .def("round_trip", &Timer::round_trip, py::arg("launch"), py::arg("nodes") = 0, unlocked())
      .def("host_copy", &Timer::host_copy, py::arg("copy"), unlocked());
}

}  // namespace

PYBIND11_MODULE(_cuda, module) {
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::object> driver_error;
  driver_error.call_once_and_store_result(
      [&] { return py::object(py::exception<DriverError>(module, "DriverError", PyExc_RuntimeError)); });
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
  module.def("can_access_peer", &can_access_peer, py::arg("ordinal"), py::arg("peer"));
  bind_memory(module);
  bind_code(module);
  bind_context(module);
  bind_timing(module);
}
