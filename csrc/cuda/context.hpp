// What the driver hands out and wants back: contexts, modules, memory, streams, events and graphs, each freed by its
// owner.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <utility>

#include "driver.hpp"

namespace mb::cuda {

// The primary context of one device: shared with every other library in this process, retained here and never reset.
class Context {
 public:
  explicit Context(int ordinal);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // Runs `body` with this context current and this device and subject named in errors. Once the context is lost nothing
  // is asked of the driver any more.
  template <class Body>
  auto within(Body&& body) {
    const Entry entry(*this);
    try {
      return body(driver());
    } catch (const DriverError& error) {
      if (error.lost) lost = true;
      throw;
    }
  }

  // For clean-up: the same without a word about errors, and nothing at all after the context is lost.
  template <class Body>
  void release(Body&& body) noexcept {
    if (lost) return;
    const Table& table = driver();
    Context_ before = nullptr;
    if (table.push.ask(handle_) != success) return;
    body(table);
    table.pop.ask(&before);
  }

  int ordinal;
  std::string name;     // "cuda:0"
  std::string subject;  // the case being measured
  bool lost = false;

  Context_ handle() const { return handle_; }

 private:
  class Entry {
   public:
    explicit Entry(Context& context);
    ~Entry();
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   private:
    Caller outer_;
  };
  DeviceHandle device_ = 0;
  Context_ handle_ = nullptr;
};

using ContextPtr = std::shared_ptr<Context>;

// One thing that the driver made in a context and takes back with `Free`.
template <class Handle, auto Free>
class Owned {
 public:
  Owned() = default;
  Owned(ContextPtr context, Handle handle) : context_(std::move(context)), handle_(handle) {}
  Owned(Owned&& other) noexcept
      : context_(std::move(other.context_)), handle_(std::exchange(other.handle_, Handle{})) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(context_, other.context_);
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Owned() { reset(); }

  void reset() noexcept {
    if (handle_ == Handle{}) return;
    const Handle handle = std::exchange(handle_, Handle{});
    context_->release([handle](const Table& table) { (table.*Free).ask(handle); });
  }
  Handle get() const { return handle_; }
  const ContextPtr& context() const { return context_; }

 private:
  ContextPtr context_;
  Handle handle_{};
};

using Memory = Owned<DevicePtr, &Table::free>;
using HostMemory = Owned<void*, &Table::host_free>;
using Image = Owned<Module_, &Table::module_unload>;
using Stream = Owned<Stream_, &Table::stream_destroy>;
using Event = Owned<Event_, &Table::event_destroy>;
using Graph = Owned<Graph_, &Table::graph_destroy>;
using GraphExec = Owned<GraphExec_, &Table::graph_exec_destroy>;

Memory allocate(const ContextPtr& context, std::size_t bytes);
HostMemory allocate_pinned(const ContextPtr& context, std::size_t bytes);
Stream make_stream(const ContextPtr& context);
Event make_event(const ContextPtr& context);

// A function and the module that it lives in.
struct Function {
  std::shared_ptr<Image> image;
  Function_ handle = nullptr;
  std::string name;
};

}  // namespace mb::cuda
