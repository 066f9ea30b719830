// The Python module microbench._cpu: thin, no policy. The only file that knows pybind11.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../kernel.hpp"
#include "features.hpp"
#include "memory.hpp"
#include "team.hpp"
#include "topology.hpp"

namespace py = pybind11;

namespace {

py::object or_none(const std::string& text) {
  return text.empty() ? py::object(py::none()) : py::object(py::str(text));
}

py::dict describe(const mb::kernel& what) {
  const auto& facts = what.facts;
  py::dict work;
  work["flop"] = facts.per_iteration.flop;
  work["bytes_read"] = facts.per_iteration.bytes_read;
  work["bytes_written"] = facts.per_iteration.bytes_written;
  py::dict row;
  row["name"] = facts.name;
  row["measures"] = facts.measures;
  row["roles"] = py::tuple(py::cast(facts.roles));
  row["backend"] = "native";
  row["device_kind"] = "cpu";
  row["says"] = facts.says;
  row["unit"] = or_none(facts.unit);
  row["dtype"] = or_none(facts.dtype);
  row["accumulator"] = or_none(facts.accumulator);
  row["access"] = or_none(facts.access);
  row["variant"] = facts.variant;
  row["family"] = facts.family;
  row["unless"] = py::tuple(py::cast(facts.unless));
  row["frequency_license"] = or_none(facts.frequency_license);
  row["ports"] = or_none(facts.ports);
  row["lanes"] = facts.lanes;
  row["flop_per_lane"] = facts.flop_per_lane;
  row["chains"] = facts.chains;
  row["math"] = facts.math;
  row["beside"] = facts.beside;
  row["loads"] = facts.loads;
  row["stores"] = facts.stores;
  row["access_bytes"] = facts.access_bytes;
  row["cycles"] = facts.cycles;
  row["work"] = work;
  row["params"] = py::tuple(py::cast(facts.params));
  row["needs"] = py::tuple(py::cast(facts.needs));
  row["reference_clock"] = or_none(facts.reference_clock);
  row["operands"] = or_none(facts.operands);
  row["source"] = facts.source;
  row["symbol"] = or_none(facts.symbol);
  row["verified"] = facts.verified;
  row["unavailable"] = or_none(mb::unavailable(what));
  return row;
}

py::list kernels() {
  py::list rows;
  for (const auto& each : mb::kernels()) rows.append(describe(each));
  return rows;
}

py::dict features() {
  const auto& here = mb::cpu_features();
  py::dict row;
  row["vendor"] = or_none(here.vendor);
  row["brand"] = or_none(here.brand);
  row["family"] = here.family < 0 ? py::object(py::none()) : py::object(py::int_(here.family));
  row["model"] = here.model < 0 ? py::object(py::none()) : py::object(py::int_(here.model));
  row["stepping"] = here.stepping < 0 ? py::object(py::none()) : py::object(py::int_(here.stepping));
  row["flags"] = std::vector<std::string>(here.flags.begin(), here.flags.end());
  row["isa_cap"] = or_none(here.cap);
  row["tsc_hz"] = here.tsc_hz > 0 ? py::object(py::float_(here.tsc_hz)) : py::object(py::none());
  return row;
}

py::dict topology() {
  py::list caches;
  for (const auto& each : mb::cpu_caches()) {
    py::dict row;
    row["level"] = each.level;
    row["type"] = each.type;
    row["capacity_bytes"] = each.capacity_bytes;
    row["line_bytes"] = each.line_bytes;
    row["ways"] = each.ways;
    row["shared_by"] = each.shared_by;
    caches.append(row);
  }
  py::dict row;
  row["cpus"] = mb::allowed_cpus();
  row["caches"] = caches;
  return row;
}

py::list places(const std::vector<int>& cpus) {
  std::vector<mb::place> found;
  {
    const py::gil_scoped_release release;
    found = mb::places(cpus);
  }
  const auto told = [](int bits) { return bits < 0 ? py::object(py::none()) : py::object(py::int_(bits)); };
  py::list rows;
  for (const auto& each : found) {
    py::dict row;
    row["cpu"] = each.cpu;
    row["id"] = each.id;
    row["core_bits"] = told(each.core_bits);
    row["package_bits"] = told(each.package_bits);
    row["l1_bits"] = told(each.cache_bits[1]);
    row["l2_bits"] = told(each.cache_bits[2]);
    row["l3_bits"] = told(each.cache_bits[3]);
    row["kind"] = or_none(each.kind);
    rows.append(row);
  }
  return rows;
}

py::list memory() {
  py::list rows;
  for (const auto& each : mb::memory::holdings()) {
    py::dict row;
    row["role"] = each.role;
    row["cpu"] = each.cpu;
    row["pages"] = each.huge ? "huge" : "4k";
    row["bytes"] = each.bytes;
    row["huge_bytes"] = each.huge_bytes;
    rows.append(row);
  }
  return rows;
}

py::dict build_info() {
  py::dict row;
#if defined(__clang__)
  row["compiler"] = "clang";
  row["version"] = __clang_version__;
#else
  row["compiler"] = "gcc";
  row["version"] = __VERSION__;
#endif
#if defined(__OPTIMIZE__)
  row["optimised"] = true;
#else
  row["optimised"] = false;
#endif
  row["sanitisers"] = MICROBENCH_SANITIZERS;
#if defined(__x86_64__)
  row["architecture"] = "x86_64";
#else
  row["architecture"] = "aarch64";
#endif
  return row;
}

// What Python holds: a job that may have been closed, by any thread. Who measures holds it too, so that one which is
// closed meanwhile is freed by whoever measured it last. Freeing waits for the job's threads, so no one else waits with
// it: it happens without the GIL.
class job {
 public:
  job(const mb::kernel& what, const std::vector<int>& cpus, const mb::parameters& given)
      : held_(std::make_shared<mb::job>(what, cpus, given)) {}
  job(const job&) = delete;
  job& operator=(const job&) = delete;
  ~job() {
    const py::gil_scoped_release release;
    close();
  }

  std::shared_ptr<mb::job> held() const {
    const std::lock_guard lock(mutex_);
    if (!held_) throw mb::cannot_run("this kernel was closed");
    return held_;
  }

  void close() {
    std::shared_ptr<mb::job> last;
    const std::lock_guard lock(mutex_);
    last.swap(held_);
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<mb::job> held_;
};

std::unique_ptr<job> prepare(const std::string& name, const std::vector<int>& cpus, const mb::parameters& given) {
  const auto* what = mb::find(name);
  if (what == nullptr) throw mb::bad_parameter("there is no kernel " + name);
  const auto reason = mb::unavailable(*what);
  if (!reason.empty()) throw mb::cannot_run(name + " " + reason);
  const py::gil_scoped_release release;
  return std::make_unique<job>(*what, cpus, given);
}

py::tuple run(job& self, std::uint64_t iterations) {
  mb::timing seen;
  {
    const py::gil_scoped_release release;
    seen = self.held()->run(iterations);
  }
  return py::make_tuple(seen.ns, seen.iterations, seen.right, seen.switches, seen.moved, seen.away_ns);
}

py::tuple pairs(job& self, std::uint64_t iterations, const job* reference_clock, std::uint64_t reference_iterations,
                unsigned count, double limit_s) {
  constexpr double longest_s = 1e6;
  if (!(limit_s >= 0)) throw mb::bad_parameter("the time limit of a burst must be a number of seconds, at least 0");
  mb::burst seen;
  {
    const py::gil_scoped_release release;
    const auto clock = reference_clock == nullptr ? nullptr : reference_clock->held();
    seen = self.held()->take({iterations, clock.get(), reference_iterations, count,
                              static_cast<std::int64_t>(std::min(limit_s, longest_s) * 1e9)});
  }
  return py::make_tuple(py::tuple(py::cast(seen.ns)), py::tuple(py::cast(seen.reference_ns)), seen.iterations,
                        seen.reference_iterations, seen.right, seen.switches, seen.moved, seen.away_ns);
}

}  // namespace

PYBIND11_MODULE(_cpu, module) {
  module.def("kernels", &kernels);
  module.def("features", &features);
  module.def("topology", &topology);
  module.def("places", &places, py::arg("cpus"));
  module.def("build_info", &build_info);
  module.def("memory", &memory);
  module.def("prepare", &prepare, py::arg("kernel"), py::arg("cpus"), py::arg("params"));
  py::class_<job>(module, "Job")
      .def("run", &run, py::arg("iterations"))
      .def("pairs", &pairs, py::arg("iterations"), py::arg("reference_clock").none(true),
           py::arg("reference_iterations"), py::arg("count"), py::arg("limit_s"))
      .def("close", &job::close, py::call_guard<py::gil_scoped_release>());
}
