#include "driver.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <array>

namespace mb::cuda {

namespace {

// Errors that the driver documents as leaving the process with an inconsistent state: illegal address, launch timeout,
// context destroyed, assert, hardware stack, illegal instruction, misaligned address, invalid address space, invalid
// pc, launch failure, uncorrectable ECC and NVLink errors, contained and uncontained failures, and "unknown".
constexpr std::array<Result, 16> context_losing{214, 220, 226, 700, 702, 709, 710, 714,
                                                715, 716, 717, 718, 719, 721, 722, 999};

struct Loaded {
  Table table;
  std::string reason;  // why the table cannot be used; empty where it can
};

// The handle is kept for the life of the process: the driver does not survive being unloaded.
std::string fill(Table& table) {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* said = dlerror();
    return std::string("no CUDA driver: ") + (said != nullptr ? said : "libcuda.so.1 cannot be opened");
  }
  std::string missing;
  for (Row* row : table.rows) {
    row->address = dlsym(library, row->name);
    if (row->address == nullptr && row->required) missing += (missing.empty() ? "" : ", ") + std::string(row->name);
  }
  return missing.empty() ? "" : "the CUDA driver here has no " + missing;
}

Loaded& loaded() {
  static Loaded once;
  static const bool filled = [] {
    once.reason = fill(once.table);
    return true;
  }();
  (void)filled;
  return once;
}

}  // namespace

Row::Row(Table* table, const char* name, bool required) : name(name), required(required) {
  table->rows.push_back(this);
}

Caller& caller() {
  thread_local Caller who;
  return who;
}

bool loses_context(Result code) {
  return std::find(context_losing.begin(), context_losing.end(), code) != context_losing.end();
}

std::string describe(Result code) {
  const Table& table = loaded().table;
  const char* name = nullptr;
  const char* says = nullptr;
  if (table.error_name.ask(code, &name) != success) name = nullptr;
  if (table.error_string.ask(code, &says) != success) says = nullptr;
  const std::string number = std::to_string(code);
  if (name == nullptr) return "error " + number;
  return (says != nullptr ? std::string(says) + " (" : std::string("(")) + name + ", " + number + ")";
}

void Row::demand(Result code) const {
  if (code == success) return;
  const Caller& who = caller();
  std::string sentence = std::string(name) + " failed";
  if (!who.device.empty()) sentence += " on " + who.device;
  if (!who.subject.empty()) sentence += " during " + who.subject;
  sentence += ": " + describe(code);
  throw DriverError(sentence, name, code, loses_context(code));
}

const Table& driver() {
  const Loaded& found = loaded();
  if (!found.reason.empty()) throw NoDriver(found.reason);
  // A cuInit that failed is asked again at the next call: the device nodes of a container may come up late.
  static const bool ready = [&found] {
    found.table.init(0);
    return true;
  }();
  (void)ready;
  return found.table;
}

int driver_version() {
  int version = 0;
  return loaded().table.driver_version.ask(&version) == success ? version : 0;
}

}  // namespace mb::cuda
