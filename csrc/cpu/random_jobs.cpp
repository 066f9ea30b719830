#include "random_jobs.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <exception>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "memory.hpp"
#include "team.hpp"
#include "topology.hpp"

namespace mb {
namespace {

constexpr unsigned callers = 4, places_for_jobs = 12;

struct counts {
  std::atomic<unsigned> prepared = 0, refused = 0, ran = 0, wrong = 0, closed_while_running = 0;
};

// What several callers share: jobs that any of them may run or close.
struct shelf {
  struct entry {
    std::shared_ptr<job> held;
    std::vector<int> cpus;
    const kernel* what = nullptr;
  };
  std::mutex mutex;
  std::array<entry, places_for_jobs> entries;
};

class caller {
 public:
  caller(shelf& jobs, counts& seen, std::uint64_t seed) : jobs_(jobs), seen_(seen), random_(seed) {}

  // Until it has prepared so many jobs.
  void act(unsigned wanted) {
    while (prepared_ < wanted) {
      attempt([&] { prepare(); });
      for (unsigned run = below(4); run > 0; --run) attempt([&] { measure(); });
      if (below(3) == 0) attempt([&] { close(); });
      if (below(16) == 0) memory::holdings();
    }
  }

 private:
  template <class What>
  void attempt(const What& what) {
    try {
      what();
    } catch (const bad_parameter&) {
      ++seen_.refused;
    } catch (const cannot_run&) {
      ++seen_.refused;
    } catch (const std::exception& error) {
      ++seen_.wrong;
      std::printf("random jobs: FAILED: %s\n", error.what());
    }
  }

  unsigned below(unsigned bound) { return std::uniform_int_distribution<unsigned>(0, bound - 1)(random_); }

  template <class Items>
  const auto& any(const Items& items) {
    return items[below(static_cast<unsigned>(items.size()))];
  }

  // One CPU, all of them, one twice; now and then what is none.
  std::vector<int> some_cpus() {
    static const auto mine = allowed_cpus();
    switch (below(12)) {
      case 0:
        return {};
      case 1:
        return {1 << 20};
      case 2:
        return {mine.front(), mine.front()};
      case 3:
      case 4:
      case 5:
        return {mine.begin(), mine.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(mine.size(), 4))};
      case 6:
        return {mine.back()};
      default:
        return {mine.front()};
    }
  }

  // Mostly a value that a parameter of that name may have, and now and then any.
  value some_value(const std::string& name) {
    static const std::vector<std::int64_t> sizes{1024, 4096, 24'576, 65'536, 300'000, 1 << 20};
    static const std::vector<std::int64_t> numbers{-1, 0, 1, 2, 4, 8, 100, 1 << 12, std::int64_t{1} << 62};
    if (below(8) == 0) return any(std::vector<value>{true, -0.5, std::string("x"), std::int64_t{-1}, std::string()});
    if (name == "working_set") return any(sizes);
    if (name == "pages") return std::string(below(2) == 0 ? "4k" : "huge");
    if (name == "pause_us") return std::int64_t{below(50)};
    return below(2) == 0 ? any(numbers) : std::int64_t{below(3)};
  }

  void prepare() {
    static const auto here = [] {
      std::vector<kernel> found;
      for (const auto& each : kernels())
        if (unavailable(each).empty()) found.push_back(each);
      return found;
    }();
    const auto& what = any(here);
    parameters given;
    for (const auto& name : what.facts.params)
      if (name == "working_set" || below(3) == 0) given.emplace(name, some_value(name));
    if (below(20) == 0) given.emplace("no_such_parameter", std::int64_t{1});
    const auto cpus = some_cpus();
    shelf::entry made{std::make_shared<job>(what, cpus, given), cpus, &what};
    ++seen_.prepared;
    ++prepared_;
    const std::lock_guard lock(jobs_.mutex);
    std::swap(jobs_.entries[below(places_for_jobs)], made);
  }

  shelf::entry some_job() {
    const std::lock_guard lock(jobs_.mutex);
    return any(jobs_.entries);
  }

  void measure() {
    const auto chosen = some_job(), beside = some_job();
    if (!chosen.held) return;
    // Starting threads, touching pages and passing lines take thousands of times as long as an instruction.
    const auto slow = chosen.what->facts.measures == "cost" || chosen.what->facts.measures == "latency";
    const std::uint64_t iterations = below(slow ? 8 : 1000);
    if (below(2) == 0) {
      judge(chosen, chosen.held->run(iterations).right);
      return;
    }
    order asked;
    asked.iterations = iterations;
    asked.count = below(6);
    asked.limit_ns = std::int64_t{below(3)} * 1'000'000;
    if (beside.held && beside.held != chosen.held && below(2) == 0) {
      asked.reference_clock = beside.held.get();
      asked.reference_iterations = below(slow ? 8 : 100);
    }
    judge(chosen, chosen.held->take(asked).right, asked.reference_clock != nullptr ? beside.what : nullptr);
  }

  void judge(const shelf::entry& chosen, std::optional<bool> right, const kernel* beside = nullptr) {
    ++seen_.ran;
    if (chosen.held.use_count() == 1) ++seen_.closed_while_running;
    if (right != false) return;
    ++seen_.wrong;
    std::printf("random jobs: %s WRONG%s%s\n", chosen.what->facts.name.c_str(), beside == nullptr ? "" : " beside ",
                beside == nullptr ? "" : beside->facts.name.c_str());
  }

  void close() {
    shelf::entry closed;
    const std::lock_guard lock(jobs_.mutex);
    std::swap(jobs_.entries[below(places_for_jobs)], closed);
  }

  shelf& jobs_;
  counts& seen_;
  std::mt19937_64 random_;
  unsigned prepared_ = 0;
};

}  // namespace

unsigned random_jobs(unsigned count, std::uint64_t seed) {
  shelf jobs;
  counts seen;
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < callers; ++i)
    threads.emplace_back([&, i] { caller(jobs, seen, seed + i).act((count + callers - 1 - i) / callers); });
  for (auto& thread : threads) thread.join();
  std::printf("random jobs: %u prepared, %u refused, %u bursts, %u closed while others measured them, %u wrong\n",
              seen.prepared.load(), seen.refused.load(), seen.ran.load(), seen.closed_while_running.load(),
              seen.wrong.load());
  return seen.wrong;
}

}  // namespace mb
