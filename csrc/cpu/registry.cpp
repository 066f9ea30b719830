// The registry behind kernel.hpp: what is registered, what may run here, and how parameters are read.
#include <algorithm>
#include <string_view>

#include "../kernel.hpp"
#include "features.hpp"

namespace mb {
namespace {

std::vector<kernel>& all() {
  static std::vector<kernel>
      kernels;  // a function's static: registrations run before any other file's globals are safe to use
  return kernels;
}

std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string relative(std::string_view file) {
  const auto at = file.rfind("csrc/");
  return std::string(at == std::string_view::npos ? file : file.substr(at));
}

}  // namespace

registration::registration(kernel what, const char* file) {
  what.facts.source = relative(file);
  all().push_back(std::move(what));
}

registration::registration(std::vector<kernel> several, const char* file) {
  for (auto& each : several) registration(std::move(each), file);
}

const std::vector<kernel>& kernels() { return all(); }

const kernel* find(const std::string& name) {
  const auto found =
      std::find_if(all().begin(), all().end(), [&](const kernel& each) { return each.facts.name == name; });
  return found == all().end() ? nullptr : &*found;
}

std::string unavailable(const kernel& what) {
  const auto& here = cpu_features();
  std::vector<std::string> missing;
  std::vector<std::string> capped;
  for (const auto& need : what.facts.needs) {
    if (here.flags.contains(need)) continue;
    (here.hidden.contains(need) ? capped : missing).push_back(need);
  }
  if (!missing.empty()) return "needs " + listed(missing) + ", which this CPU or its kernel does not offer";
  if (!capped.empty()) return "needs " + listed(capped) + ", hidden by MICROBENCH_ISA=" + here.cap;
  return {};
}

std::int64_t integer(const parameters& given, const std::string& name, std::int64_t otherwise, std::int64_t low,
                     std::int64_t high) {
  const auto found = given.find(name);
  if (found == given.end()) return otherwise;
  const auto* number = std::get_if<std::int64_t>(&found->second);
  if (number == nullptr || *number < low || *number > high)
    throw bad_parameter("parameter " + name + " must be an integer from " + std::to_string(low) + " to " +
                        std::to_string(high));
  return *number;
}

std::string word(const parameters& given, const std::string& name, const std::string& otherwise,
                 const std::vector<std::string>& allowed) {
  const auto found = given.find(name);
  if (found == given.end()) return otherwise;
  const auto* text = std::get_if<std::string>(&found->second);
  if (text == nullptr || std::find(allowed.begin(), allowed.end(), *text) == allowed.end())
    throw bad_parameter("parameter " + name + " must be one of: " + listed(allowed));
  return *text;
}

}  // namespace mb
