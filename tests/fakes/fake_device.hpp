// Invented GPUs: what the script that MB_FAKE_GPU names says of them, which calls it wants to fail, and what is held.
// FAKE.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "fake_words.hpp"

#define FAKE extern "C" __attribute__((visibility("default"))) int
#define ENTER(name) \
  if (const int code = fake::called(name)) return code

namespace fake {

constexpr int invalid_value = 1, out_of_memory = 2, not_initialized = 3, invalid_context = 201, invalid_image = 200,
              no_binary = 209, invalid_ptx = 218, peer_already_enabled = 704, unsupported_version = 222,
              invalid_handle = 400, not_found = 500, invalid_device = 101;

struct Gpu {
  std::string name = "FAKE GPU";
  std::map<int, int> attributes;
  std::size_t memory = std::size_t{1} << 30;
  double clock_hz = 1e9;
  double throttled_hz = 0;  // from then on, after so much work
  double throttle_after_ns = 0;
  double dram = 4e9, l2 = 12e9;  // byte/s
  double shared = 60e9;          // byte/s of all shared memories and L1s
  double latency_l1 = 30, latency_l2 = 200, latency_dram = 500, l1_bytes = 1 << 15;  // ns per load; bytes of one L1
  double latency_far = 0;              // ns per load of the far lines of L2; 0: none is far
  int copies = 0;                      // far lines are kept in the near part too
  double plain = 20e9, tensor = 1e12;  // FLOP/s of kernels without a rate of their own
  double launch_ns = 2500, graph_ns = 1200;
  double host_copy = 2e9;  // byte/s each way
  int step_ns = 32;
  double before_ns = 0, after_ns = 0;  // of a launch, outside of what its blocks stamp
  unsigned slow_sms = 0;               // multiprocessors that get less of L2 than the others, and how much
  double slow_rate = 1;
  double hungry =
      0;  // bytes that one multiprocessor must have in flight for a stream to reach its level's rate; 0: any number
  std::map<std::string, double> peak;  // FLOP/s by symbol
  double busy_ns = 0;
};

struct Fault {
  int nth = 0, code = 0, seen = 0;
};

struct State {
  int driver = 13000;
  std::vector<Gpu> gpus;
  std::map<std::string, Work> counts;
  std::map<std::string, Fault> faults;
  std::map<std::string, long> live;  // handles by kind
  std::map<std::string, long> calls;
  std::map<std::uintptr_t, std::size_t> memory;
  std::size_t used = 0;
  int sticky = 0;
  std::set<std::string> corrupt;                  // kernels whose result gets one wrong bit
  std::map<std::string, std::string> misbehaves;  // kernels whose launch hangs, dies, loses the device or is refused
  int late = 0;                                   // gates to come that time out
  double host_ns = 1e9;
  int current = -1;
  std::vector<int> stack;
};

inline State& state() {
  static State one;
  return one;
}

inline void read_counts(const std::string& path) {
  std::ifstream in(path);
  std::string symbol;
  Work work;
  while (in >> symbol >> work.flop >> work.bytes_read >> work.bytes_written) state().counts[symbol] = work;
}

inline void read_script() {
  const char* path = std::getenv("MB_FAKE_GPU");
  if (path == nullptr) {
    std::fprintf(stderr, "fake driver: MB_FAKE_GPU is not set\n");
    std::abort();
  }
  std::ifstream in(path);
  std::string line;
  State& s = state();
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::string key, symbol;
    words >> key;
    Gpu* gpu = s.gpus.empty() ? nullptr : &s.gpus.back();
    if (key.empty() || key[0] == '#') continue;
    if (key == "driver")
      words >> s.driver;
    else if (key == "counts") {
      words >> symbol;
      read_counts(symbol);
    } else if (key == "corrupt") {
      words >> symbol;
      s.corrupt.insert(symbol);
    } else if (key == "misbehave") {
      std::string how;
      words >> symbol >> how;
      s.misbehaves[symbol] = how;
    } else if (key == "late") {
      words >> s.late;
    } else if (key == "fail") {
      Fault f;
      words >> symbol >> f.nth >> f.code;
      s.faults[symbol] = f;
    } else if (key == "device")
      s.gpus.emplace_back();
    else if (gpu == nullptr)
      std::abort();
    else if (key == "name") {
      std::getline(words >> std::ws, gpu->name);
    } else if (key == "attribute") {
      int which, value;
      words >> which >> value;
      gpu->attributes[which] = value;
    } else if (key == "memory")
      words >> gpu->memory;
    else if (key == "clock_hz")
      words >> gpu->clock_hz;
    else if (key == "throttle")
      words >> gpu->throttle_after_ns >> gpu->throttled_hz;
    else if (key == "dram")
      words >> gpu->dram;
    else if (key == "l2")
      words >> gpu->l2;
    else if (key == "plain")
      words >> gpu->plain;
    else if (key == "tensor")
      words >> gpu->tensor;
    else if (key == "shared")
      words >> gpu->shared;
    else if (key == "latency")
      words >> gpu->l1_bytes >> gpu->latency_l1 >> gpu->latency_l2 >> gpu->latency_dram;
    else if (key == "latency_far")
      words >> gpu->latency_far;
    else if (key == "copies")
      words >> gpu->copies;
    else if (key == "launch_ns")
      words >> gpu->launch_ns;
    else if (key == "graph_ns")
      words >> gpu->graph_ns;
    else if (key == "host_copy")
      words >> gpu->host_copy;
    else if (key == "step_ns")
      words >> gpu->step_ns;
    else if (key == "edges")
      words >> gpu->before_ns >> gpu->after_ns;
    else if (key == "slow")
      words >> gpu->slow_sms >> gpu->slow_rate;
    else if (key == "hungry")
      words >> gpu->hungry;
    else if (key == "peak") {
      double rate;
      words >> symbol >> rate;
      gpu->peak[symbol] = rate;
    } else {
      std::fprintf(stderr, "fake driver: unknown key %s\n", key.c_str());
      std::abort();
    }
  }
}

// Ordinals after CUDA_VISIBLE_DEVICES: the driver stops at the first entry that is no device.
inline std::vector<int> visible() {
  const State& s = state();
  std::vector<int> found;
  const char* set = std::getenv("CUDA_VISIBLE_DEVICES");
  if (set == nullptr) {
    for (std::size_t i = 0; i < s.gpus.size(); ++i) found.push_back(static_cast<int>(i));
    return found;
  }
  std::istringstream words(set);
  std::string word;
  while (std::getline(words, word, ',')) {
    char* end = nullptr;
    const long index = std::strtol(word.c_str(), &end, 10);
    if (end == word.c_str() || index < 0 || index >= static_cast<long>(s.gpus.size())) break;
    found.push_back(static_cast<int>(index));
  }
  return found;
}

inline Gpu& gpu() { return state().gpus[static_cast<std::size_t>(state().current)]; }

// What becomes of a launch that the script spoils: 0 where it goes on.
inline int launch_spoilt(const std::string& symbol) {
  const auto found = state().misbehaves.find(symbol);
  if (found == state().misbehaves.end()) return 0;
  if (found->second == "hang")
    for (;;) pause();
  if (found->second == "die") std::abort();
  if (found->second == "lose") return state().sticky = 700;  // an illegal address
  return 701;                                                // refused: too many resources requested
}

// Counts the call, and answers whether it is to fail by itself.
inline int told_to_fail(const char* name) {
  State& s = state();
  ++s.calls[name];
  const auto fault = s.faults.find(name);
  if (fault == s.faults.end() || ++fault->second.seen != fault->second.nth) return 0;
  // Those of 700 to 719 that the documentation says leave the process in an inconsistent state.
  const std::set<int> sticky{700, 702, 709, 710, 714, 715, 716, 717, 718, 719};
  if (sticky.count(fault->second.code)) s.sticky = fault->second.code;
  return fault->second.code;
}
// The same for calls that also report what went wrong before them.
inline int called(const char* name) {
  state().host_ns += 300;
  const int code = told_to_fail(name);
  return code != 0 ? code : state().sticky;
}

}  // namespace fake
