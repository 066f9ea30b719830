// Timing on one stream: events around launches with the queue held by a gate, graph replay, copies, and what the host
// pays.
//
// An experiment is: close the gate, record, launch, record, open the gate, wait, subtract. With the gate closed until
// everything is queued, no launch cost lies between the two events. Nothing empties the caches in between: what must
// come from DRAM works on several last caches instead, and so throws out its own past.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "context.hpp"

namespace mb::cuda {

// One launch with its parameters packed as the kernel lays them out.
struct Launch {
  Function function;
  std::array<unsigned, 3> grid{1, 1, 1};
  std::array<unsigned, 3> block{1, 1, 1};
  unsigned shared_bytes = 0;
  std::vector<std::byte> params;
};

// The queue gate: a kernel that spins on `flag` until the host writes 1 there. It gives up by itself after the time in
// its parameters, because a host that dies with the gate closed would leave the device hanging. What it must not be
// used for: a kernel that never ran before (lazy loading waits for the device and so for the gate),
// CUDA_LAUNCH_BLOCKING and profilers (each launch waits), and more launches than the queue takes (the launch call
// itself would wait): `most_held`.
struct Gate {
  Launch launch;
  volatile std::uint32_t* flag = nullptr;  // pinned, mapped
};
constexpr int most_held = 512;

struct Copy {
  enum class Kind { to_device, to_host, on_device, peer };
  Kind kind = Kind::to_device;
  std::uintptr_t to = 0;
  std::uintptr_t from = 0;
  std::size_t bytes = 0;
  Context_ to_context = nullptr;  // peer only
  Context_ from_context = nullptr;
};

class Timer {
 public:
  explicit Timer(const ContextPtr& context);

  // Nanoseconds of device time for `count` launches one after another.
  double launches(const Launch& launch, int count, const Gate* gate);
  // The same for `replays` of a graph that holds the launch `nodes` times.
  double replay(const Launch& launch, int nodes, int replays);
  // Copies on one stream each, started together: device time from the first start to the last end.
  double copies(const std::vector<Copy>& together, int times);
  // What the host sees: nanoseconds per launch until the call returns, and from launch to the end of the wait.
  double enqueue(const Launch& launch, int count);
  double round_trip(const Launch& launch, int nodes);
  // A copy of pageable memory, which returns when it is done.
  double host_copy(const Copy& copy);

 private:
  double between(const Table& table) const;
  GraphExec record_graph(const Table& table, const Launch& launch, int nodes) const;

  ContextPtr context_;
  Stream stream_;
  Stream other_;
  Event start_;
  Event stop_;
  Event joined_;
};

void enqueue(const Table& table, const Launch& launch, Stream_ stream);

}  // namespace mb::cuda
