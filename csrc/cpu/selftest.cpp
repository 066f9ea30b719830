// Every kernel of the registry checked by a plain executable: for cross builds, for sanitizers, and where there is no
// Python.
//
// Each available kernel runs on one thread and on all, for several iteration counts, and its result must be exact every
// time. One line a kernel; exit 1 where one is wrong or throws anything but "cannot run here" (no huge pages under an
// emulator, say). Words on the command line select kernels whose names contain one of them;
// `--jobs N [SEED]` runs jobs drawn at random instead.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <vector>

#include "features.hpp"
#include "random_jobs.hpp"
#include "team.hpp"
#include "topology.hpp"

namespace {

bool selected(const std::string& name, int words, char** word) {
  if (words == 0) return true;
  for (int i = 0; i < words; ++i)
    if (name.find(word[i]) != std::string::npos) return true;
  return false;
}

// The first count that leaves a wrong result, or 0. The counts straddle the points where accumulators turn their sign.
std::uint64_t first_wrong(const mb::kernel& what, const std::vector<int>& cpus) {
  mb::job job(what, cpus, {});
  // Starting a thread takes an emulator or a sanitizer a thousand times as long as a multiply-add.
  const std::uint64_t most = what.facts.measures == "cost" ? 68 : 4097;
  for (const std::uint64_t iterations : {1, 2, 63, 64, 65, 66, 67, 68, 127, 1000, 4095, 4096, 4097})
    if (iterations <= most && job.run(iterations).right == false) return iterations;
  return 0;
}

// True where the kernel is right or cannot run here.
bool passes(const mb::kernel& what, const std::vector<int>& cpus) {
  const char* name = what.facts.name.c_str();
  const auto reason = mb::unavailable(what);
  if (!reason.empty()) {
    std::printf("%-28s unavailable: %s\n", name, reason.c_str());
    return true;
  }
  try {
    auto wrong = first_wrong(what, {cpus.front()});
    if (wrong == 0 && cpus.size() > 1) wrong = first_wrong(what, cpus);
    if (wrong != 0)
      std::printf("%-28s WRONG after %llu iterations\n", name, static_cast<unsigned long long>(wrong));
    else
      std::printf("%-28s %s\n", name, what.check == nullptr ? "ran (leaves no result)" : "right");
    return wrong == 0;
  } catch (const mb::cannot_run& refusal) {
    std::printf("%-28s cannot run here: %s\n", name, refusal.what());
    return true;
  } catch (const std::exception& error) {
    std::printf("%-28s FAILED: %s\n", name, error.what());
    return false;
  }
}

}  // namespace

int main(int count, char** words) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  try {
    mb::cpu_features();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
  if (count >= 3 && std::strcmp(words[1], "--jobs") == 0) {
    const auto seed = count > 3 ? std::strtoull(words[3], nullptr, 10) : 0;
    return mb::random_jobs(static_cast<unsigned>(std::strtoul(words[2], nullptr, 10)), seed) == 0 ? 0 : 1;
  }
  const auto cpus = mb::allowed_cpus();
  int ran = 0, bad = 0;
  for (const auto& each : mb::kernels()) {
    if (!selected(each.facts.name, count - 1, words + 1)) continue;
    ++ran;
    bad += passes(each, cpus) ? 0 : 1;
  }
  std::printf("%d kernels, %d wrong\n", ran, bad);
  return ran == 0 || bad != 0 ? 1 : 0;
}
