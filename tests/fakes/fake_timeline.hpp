// Streams, events and graphs of the FAKE driver on a virtual clock, and the time that a launch takes there.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fake_device.hpp"
#include "fake_kernels.hpp"

namespace fake {

struct Module {
  std::string image;
};
struct Function {
  Module* module;
  std::string symbol;
};
struct Stream;
struct Event {
  double at = 0;
  bool recorded = false;
  Stream* stream = nullptr;
};
struct Op {
  double enqueued;
  std::function<void(Stream&, double)> run;
};
struct Stream {
  int device = 0;
  double free_at = 0;
  std::deque<Op> queue;
  bool capturing = false;
  std::vector<std::function<void(Stream&, double)>> captured;
};
struct Graph {
  std::vector<std::function<void(Stream&, double)>> nodes;
};
struct Exec {
  Graph graph;
};
struct Context {
  int device;
  int retained = 0;
};

inline std::map<int, Context>& contexts() {
  static std::map<int, Context> all;
  return all;
}
inline std::set<Stream*>& streams() {
  static std::set<Stream*> all;
  return all;
}
inline Stream& null_stream() {
  static Stream one;
  return one;
}
inline Stream& of(void* stream) { return stream == nullptr ? null_stream() : *static_cast<Stream*>(stream); }

// The host waits for the device: on the virtual clock always, and for real where that is short, so that what the
// product times by the host's own clock (a launch and the wait for it) takes as long as this GPU was told. Longer waits
// would only make tests slow.
inline void wait_until(double at) {
  constexpr double longest_ns = 20'000;
  const double left = at - state().host_ns;
  if (left <= 0) return;
  state().host_ns = at;
  const auto until =
      std::chrono::steady_clock::now() + std::chrono::nanoseconds(static_cast<long>(left <= longest_ns ? left : 0));
  while (std::chrono::steady_clock::now() < until) {
  }
}

inline void drain(Stream& stream) {
  while (!stream.queue.empty()) {
    Op op = stream.queue.front();
    stream.queue.pop_front();
    op.run(stream, std::max(stream.free_at, op.enqueued));
  }
  wait_until(stream.free_at);
}
inline void drain_all() {
  for (Stream* each : streams()) drain(*each);
  drain(null_stream());
}

inline double clock_now(Gpu& g) {
  return g.throttled_hz > 0 && g.busy_ns > g.throttle_after_ns ? g.throttled_hz : g.clock_hz;
}

struct Launched {
  std::string symbol;
  unsigned grid[3], block[3];
  std::string params;
};

// Time of so many steps: the level by the bytes that the ring of addresses really visits, the side of L2 by each line's
// address.
inline double chased(Gpu& g, const std::string& symbol, const Parameters& p, std::uint64_t steps) {
  if (symbol == "chase_shared") return static_cast<double>(steps) * g.latency_l1;
  const double set =
      128.0 * static_cast<double>(ring(p.pointer(8), static_cast<std::uint64_t>(g.attributes[38]) / 128 + 1));
  if (set <= g.l1_bytes && symbol != "chase_cg") return static_cast<double>(steps) * g.latency_l1;
  if (set > g.attributes[38]) return static_cast<double>(steps) * g.latency_dram;
  if (g.latency_far <= 0) return static_cast<double>(steps) * g.latency_l2;
  // Copies have what the near part's own lines, half of the set, leave of it; single lines and small sets find room
  // there.
  const double half = g.attributes[38] / 2.0, own = set / 2;
  const double copied = g.copies ? std::clamp((half - own) / own, 0.0, 1.0) : 0.0;
  double ns = 0;
  std::uint64_t at = p.pointer(8);
  for (std::uint64_t i = 0; i < steps; ++i) {
    at = *reinterpret_cast<const std::uint64_t*>(at);
    ns += far(at) ? copied * g.latency_l2 + (1 - copied) * g.latency_far : g.latency_l2;
  }
  return ns;
}

// When each block of a launch begins and ends, and where it runs, from when the first begins.
struct Ran {
  double begin, end;
  unsigned sm;
};

// All blocks at once for so long, or where there are slow multiprocessors and the last cache answers: handed out as
// room becomes free, to multiprocessors whose rates differ and that together have the rate of which `ns` was reckoned.
inline std::vector<Ran> blocks_of(const Gpu& g, const Launched& launch, double ns, bool uneven) {
  const auto sms = static_cast<unsigned>(g.attributes.at(16));
  const unsigned blocks = launch.grid[0];
  std::vector<Ran> ran;
  if (!uneven) {
    for (unsigned b = 0; b < blocks; ++b) ran.push_back({(b % 7) * static_cast<double>(g.step_ns), ns, b % sms});
    return ran;
  }
  const unsigned fit = static_cast<unsigned>(g.attributes.at(39)) / launch.block[0];
  const unsigned together = std::min(fit, std::max(1U, blocks / sms));
  const double slow = g.slow_sms, mean = (sms - slow + slow * g.slow_rate) / sms;
  const double each = ns * sms * together / blocks * mean;  // a block's time on a fast multiprocessor
  std::multimap<double, unsigned> room;
  for (unsigned at = 0; at < together * sms; ++at) room.emplace(0.0, at % sms);
  for (unsigned b = 0; b < blocks; ++b) {
    const auto [begin, sm] = *room.begin();
    room.erase(room.begin());
    ran.push_back({begin, begin + (sm < g.slow_sms ? each / g.slow_rate : each), sm});
    room.emplace(ran.back().end, sm);
  }
  return ran;
}

inline void execute(const Launched& launch, Stream& stream, double start) {
  Gpu& g = gpu();
  Parameters p{launch.params};
  if (launch.symbol == "gate") {
    // Released as soon as the host says so; a flag that is still down when somebody waits would be a hang, here the
    // time-out.
    const auto* flag = reinterpret_cast<const volatile std::uint32_t*>(p.pointer(8));
    auto* out = reinterpret_cast<std::uint32_t*>(p.pointer(0));
    // A script may have the host come late so many times.
    const bool open = *flag != 0 && !(state().late > 0 && state().late-- > 0);
    *out = open ? 1 : 2;
    stream.free_at = open ? std::max(start, state().host_ns) : start + static_cast<double>(p.u64(24));
    return;
  }
  if (launch.symbol == "empty") {
    stream.free_at = start + 800;
    return;
  }
  if (launch.symbol == "chase_lay" || launch.symbol == "chase_touch") {
    run(launch.symbol, p, launch.grid[0], launch.block[0]);
    stream.free_at = start + 800;
    return;
  }
  const auto found = state().counts.find(launch.symbol);
  if (found == state().counts.end()) {
    std::fprintf(stderr, "fake driver: no counted work for %s\n", launch.symbol.c_str());
    std::abort();
  }
  const double sms = g.attributes[16];
  const double blocks = launch.grid[0];
  const double iterations = p.iterations(launch.symbol);
  const double share = clock_now(g) / g.clock_hz;
  const Work& work = found->second;
  double ns = 0;
  bool uneven = false;
  const bool tensor = launch.symbol.find("mma_") != std::string::npos || starts(launch.symbol, "tcgen05");
  const double peak = g.peak.count(launch.symbol) ? g.peak[launch.symbol] : tensor ? g.tensor : g.plain;
  ns = work.flop * iterations * blocks / (peak * share) * 1e9;
  const bool near =
      starts(launch.symbol, "read_shared") || starts(launch.symbol, "write_shared") || launch.symbol == "read_l1";
  if (starts(launch.symbol, "chase")) {
    ns = chased(g, launch.symbol, p, static_cast<std::uint64_t>(16 * iterations));
  } else if (near) {
    ns = (work.bytes_read + work.bytes_written) * iterations * blocks / (g.shared * share) * 1e9;
  } else if (work.bytes_read + work.bytes_written > 0) {
    const bool cached = p.working_set(work) <= g.attributes[38];
    double rate = cached ? g.l2 * share : g.dram;
    const double resident = std::min(blocks / sms, static_cast<double>(g.attributes[39]) / launch.block[0]);
    if (g.hungry > 0) rate *= std::min(1.0, bytes_in_flight(launch.symbol, launch.block[0]) * resident / g.hungry);
    uneven = cached && g.slow_sms > 0;
    ns = std::max(ns, (work.bytes_read + work.bytes_written) * iterations * blocks / rate * 1e9);
  }
  const double began = start + g.before_ns;
  double end = began;
  const std::vector<Ran> ran = blocks_of(g, launch, ns, uneven);
  run(launch.symbol, p, static_cast<unsigned>(blocks), launch.block[0]);
  if (state().corrupt.count(launch.symbol)) corrupt(launch.symbol, p);
  auto* stamps = p.stamps(launch.symbol);
  for (unsigned b = 0; b < launch.grid[0]; ++b) {
    end = std::max(end, began + ran[b].end);
    if (stamps == nullptr) continue;
    auto coarse = [&](double at) {
      return static_cast<std::uint64_t>(at / g.step_ns) * static_cast<std::uint64_t>(g.step_ns);
    };
    std::uint64_t* mine = stamps + 6 * b;
    mine[0] = coarse(began + ran[b].begin);
    mine[2] = coarse(began + ran[b].end);
    mine[1] = 1000 * b;
    mine[3] = mine[1] + static_cast<std::uint64_t>(static_cast<double>(mine[2] - mine[0]) * clock_now(g) * 1e-9);
    mine[4] = ran[b].sm;
    mine[5] = static_cast<std::uint64_t>(iterations);
  }
  end += g.after_ns;
  g.busy_ns += ns;
  stream.free_at = end;
}

inline int enqueue(Stream& stream, double latency, std::function<void(Stream&, double)> run) {
  if (stream.capturing) {
    stream.captured.push_back(std::move(run));
    return 0;
  }
  stream.queue.push_back({state().host_ns + latency, std::move(run)});
  return 0;
}

inline int copy_now(void* to, const void* from, std::size_t bytes) {
  drain_all();
  std::memcpy(to, from, bytes);
  state().host_ns += 1e3 + static_cast<double>(bytes) / gpu().host_copy * 1e9;
  return 0;
}

inline int copy_later(Stream& stream, std::uintptr_t to, std::uintptr_t from, std::size_t bytes, double rate) {
  return enqueue(stream, 1000, [=](Stream& s, double start) {
    std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
    s.free_at = start + static_cast<double>(bytes) / rate * 1e9;
  });
}

// Whether a range lies inside one allocation.
inline bool owned(std::uintptr_t address, std::size_t bytes) {
  const auto& memory = state().memory;
  auto next = memory.upper_bound(address);
  if (next == memory.begin()) return false;
  --next;
  return address + bytes <= next->first + next->second;
}

}  // namespace fake
