#include "timing.hpp"

#include <chrono>

namespace mb::cuda {

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
  return static_cast<double>(std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count());
}

// Opens the gate whatever happens between closing it and here.
class Held {
 public:
  Held(const Table& table, const Gate* gate, Stream_ stream) : gate_(gate) {
    if (gate_ == nullptr) return;
    *gate_->flag = 0;
    enqueue(table, gate_->launch, stream);
  }
  ~Held() { open(); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  void open() {
    if (gate_ != nullptr) *gate_->flag = 1;
  }

 private:
  const Gate* gate_;
};

void start_copy(const Table& table, const Copy& copy, Stream_ stream) {
  switch (copy.kind) {
    case Copy::Kind::to_device:
      table.copy_to_device_async(copy.to, reinterpret_cast<const void*>(copy.from), copy.bytes, stream);
      break;
    case Copy::Kind::to_host:
      table.copy_to_host_async(reinterpret_cast<void*>(copy.to), copy.from, copy.bytes, stream);
      break;
    case Copy::Kind::on_device:
      table.copy_on_device_async(copy.to, copy.from, copy.bytes, stream);
      break;
    case Copy::Kind::peer:
      table.copy_peer_async(copy.to, copy.to_context, copy.from, copy.from_context, copy.bytes, stream);
      break;
  }
}

}  // namespace

void enqueue(const Table& table, const Launch& launch, Stream_ stream) {
  std::size_t size = launch.params.size();
  void* extra[] = {launch_param_buffer_pointer, const_cast<std::byte*>(launch.params.data()), launch_param_buffer_size,
                   &size, launch_param_end};
  table.launch(launch.function.handle, launch.grid[0], launch.grid[1], launch.grid[2], launch.block[0], launch.block[1],
               launch.block[2], launch.shared_bytes, stream, nullptr, extra);
}

Timer::Timer(const ContextPtr& context)
    : context_(context),
      stream_(make_stream(context)),
      other_(make_stream(context)),
      start_(make_event(context)),
      stop_(make_event(context)),
      joined_(make_event(context)) {}

double Timer::between(const Table& table) const {
  table.event_synchronize(stop_.get());
  float milliseconds = 0;
  table.event_elapsed(&milliseconds, start_.get(), stop_.get());
  return static_cast<double>(milliseconds) * 1e6;
}

double Timer::launches(const Launch& launch, int count, const Gate* gate) {
  if (count < 1 || (gate != nullptr && count > most_held))
    throw std::invalid_argument("a gate holds 1 to 512 launches");
  return context_->within([&](const Table& table) {
    Held held(table, gate, stream_.get());
    table.event_record(start_.get(), stream_.get());
    for (int i = 0; i < count; ++i) mb::cuda::enqueue(table, launch, stream_.get());
    table.event_record(stop_.get(), stream_.get());
    held.open();
    return between(table);
  });
}

GraphExec Timer::record_graph(const Table& table, const Launch& launch, int nodes) const {
  table.capture_begin(stream_.get(), capture_thread_local);
  Graph_ captured = nullptr;
  try {
    for (int i = 0; i < nodes; ++i) mb::cuda::enqueue(table, launch, stream_.get());
  } catch (...) {
    // The capture ends with the error that broke it; what it holds must still be given back.
    if (table.capture_end.ask(stream_.get(), &captured) == success && captured != nullptr)
      table.graph_destroy.ask(captured);
    throw;
  }
  table.capture_end(stream_.get(), &captured);
  const Graph graph(context_, captured);
  GraphExec_ instance = nullptr;
  table.graph_instantiate(&instance, captured, 0);
  GraphExec exec(context_, instance);
  if (table.graph_upload.present()) table.graph_upload(instance, stream_.get());
  return exec;
}

double Timer::replay(const Launch& launch, int nodes, int replays) {
  return context_->within([&](const Table& table) {
    const GraphExec exec = record_graph(table, launch, nodes);
    table.graph_launch(exec.get(), stream_.get());
    table.event_record(start_.get(), stream_.get());
    for (int i = 0; i < replays; ++i) table.graph_launch(exec.get(), stream_.get());
    table.event_record(stop_.get(), stream_.get());
    return between(table);
  });
}

double Timer::copies(const std::vector<Copy>& together, int times) {
  if (together.empty() || together.size() > 2) throw std::invalid_argument("one or two copies run together");
  return context_->within([&](const Table& table) {
    table.event_record(start_.get(), stream_.get());
    if (together.size() == 2) table.stream_wait(other_.get(), start_.get(), 0);
    for (int i = 0; i < times; ++i) {
      start_copy(table, together[0], stream_.get());
      if (together.size() == 2) start_copy(table, together[1], other_.get());
    }
    if (together.size() == 2) {
      table.event_record(joined_.get(), other_.get());
      table.stream_wait(stream_.get(), joined_.get(), 0);
    }
    table.event_record(stop_.get(), stream_.get());
    return between(table);
  });
}

double Timer::enqueue(const Launch& launch, int count) {
  return context_->within([&](const Table& table) {
    table.stream_synchronize(stream_.get());
    const auto start = Clock::now();
    for (int i = 0; i < count; ++i) mb::cuda::enqueue(table, launch, stream_.get());
    const double took = since(start);
    table.stream_synchronize(stream_.get());
    return took / count;
  });
}

double Timer::round_trip(const Launch& launch, int nodes) {
  return context_->within([&](const Table& table) {
    if (nodes == 0) {
      table.stream_synchronize(stream_.get());
      const auto start = Clock::now();
      mb::cuda::enqueue(table, launch, stream_.get());
      table.stream_synchronize(stream_.get());
      return since(start);
    }
    const GraphExec exec = record_graph(table, launch, nodes);
    table.graph_launch(exec.get(), stream_.get());
    table.stream_synchronize(stream_.get());
    const auto start = Clock::now();
    table.graph_launch(exec.get(), stream_.get());
    table.stream_synchronize(stream_.get());
    return since(start);
  });
}

double Timer::host_copy(const Copy& copy) {
  return context_->within([&](const Table& table) {
    table.synchronize();
    const auto start = Clock::now();
    if (copy.kind == Copy::Kind::to_device) {
      table.copy_to_device(copy.to, reinterpret_cast<const void*>(copy.from), copy.bytes);
      table.synchronize();  // the call may return while the last bytes are on their way
    } else {
      table.copy_to_host(reinterpret_cast<void*>(copy.to), copy.from, copy.bytes);
    }
    return since(start);
  });
}

}  // namespace mb::cuda
