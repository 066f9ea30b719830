#include "context.hpp"

namespace mb::cuda {

Context::Context(int ordinal) : ordinal(ordinal), name("cuda:" + std::to_string(ordinal)) {
  const Caller outer = std::exchange(caller(), Caller{name, ""});
  try {
    driver().device_get(&device_, ordinal);
    driver().primary_retain(&handle_, device_);
  } catch (...) {
    caller() = outer;
    throw;
  }
  caller() = outer;
}

// Released even after it was lost: the count belongs to this process and another library may hold the context too.
Context::~Context() { driver().primary_release.ask(device_); }

Context::Entry::Entry(Context& context) : outer_(caller()) {
  if (context.lost) {
    throw DriverError(context.name + " answers no more: an earlier error lost its context", "", 0, true);
  }
  caller() = Caller{context.name, context.subject};
  try {
    driver().push(context.handle_);
  } catch (const DriverError& error) {
    caller() = outer_;
    if (error.lost) context.lost = true;
    throw;
  }
}

Context::Entry::~Entry() {
  Context_ popped = nullptr;
  driver().pop.ask(&popped);
  caller() = outer_;
}

Memory allocate(const ContextPtr& context, std::size_t bytes) {
  DevicePtr address = 0;
  context->within([&](const Table& table) { table.alloc(&address, bytes); });
  return {context, address};
}

HostMemory allocate_pinned(const ContextPtr& context, std::size_t bytes) {
  void* address = nullptr;
  context->within([&](const Table& table) { table.host_alloc(&address, bytes, host_alloc_portable_mapped); });
  return {context, address};
}

Stream make_stream(const ContextPtr& context) {
  Stream_ stream = nullptr;
  context->within([&](const Table& table) { table.stream_create(&stream, stream_non_blocking); });
  return {context, stream};
}

Event make_event(const ContextPtr& context) {
  Event_ event = nullptr;
  context->within([&](const Table& table) { table.event_create(&event, event_default); });
  return {context, event};
}

}  // namespace mb::cuda
