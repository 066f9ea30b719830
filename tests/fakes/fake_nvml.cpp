// A FAKE of NVML for tests: one answer per question, of the GPU that MB_FAKE_GPU invents. MB_FAKE_NVML scripts it:
// "watts=350 reasons=0 temperature=55"; "absent" makes initialisation fail, "blind" every sensor.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

constexpr int not_supported = 3, not_found = 6, driver_not_loaded = 9;

std::string script() {
  const char* text = std::getenv("MB_FAKE_NVML");
  return text != nullptr ? text : "";
}
double setting(const char* key, double otherwise) {
  const std::string text = script();
  const auto at = text.find(std::string(key) + "=");
  return at == std::string::npos ? otherwise : std::atof(text.c_str() + at + std::strlen(key) + 1);
}
int answer(unsigned* out, double value) {
  if (script().find("blind") != std::string::npos) return not_supported;
  *out = static_cast<unsigned>(value);
  return 0;
}

}  // namespace

#define FAKE extern "C" __attribute__((visibility("default"))) int

FAKE nvmlInitWithFlags(unsigned) { return script() == "absent" ? driver_not_loaded : 0; }
FAKE nvmlInit_v2() { return nvmlInitWithFlags(0); }
FAKE nvmlShutdown() { return 0; }
extern "C" __attribute__((visibility("default"))) const char* nvmlErrorString(int) { return "fake error"; }
FAKE nvmlDeviceGetHandleByUUID(const char* uuid, void** device) {
  static int one;
  *device = &one;
  // The fake driver's first UUID starts so; NVML wants it spelt with the kind in front.
  return std::strncmp(uuid, "GPU-a0a1a2a3", 12) == 0 || std::strncmp(uuid, "GPU-b0b1b2b3", 12) == 0 ? 0 : not_found;
}
FAKE nvmlDeviceGetMaxClockInfo(void*, int kind, unsigned* mhz) { return answer(mhz, kind == 1 ? 1980 : 2619); }
FAKE nvmlDeviceGetClockInfo(void*, int, unsigned* mhz) { return answer(mhz, setting("mhz", 1500)); }
FAKE nvmlDeviceGetEnforcedPowerLimit(void*, unsigned* mw) { return answer(mw, 700e3); }
FAKE nvmlDeviceGetPowerUsage(void*, unsigned* mw) { return answer(mw, setting("watts", 350) * 1e3); }
FAKE nvmlDeviceGetTemperature(void*, int, unsigned* c) { return answer(c, setting("temperature", 55)); }
FAKE nvmlDeviceGetCurrPcieLinkGeneration(void*, unsigned* g) { return answer(g, 5); }
FAKE nvmlDeviceGetCurrPcieLinkWidth(void*, unsigned* w) { return answer(w, 16); }
FAKE nvmlDeviceGetPersistenceMode(void*, unsigned* on) { return answer(on, 1); }
FAKE nvmlDeviceIsMigDeviceHandle(void*, unsigned* is) { return answer(is, setting("mig", 0)); }
FAKE nvmlDeviceGetMigMode(void*, unsigned* now, unsigned* later) {
  *later = 0;
  return answer(now, setting("mig", 0));
}
FAKE nvmlDeviceGetCurrentClocksEventReasons(void*, unsigned long long* reasons) {
  unsigned low = 0;
  const int code = answer(&low, setting("reasons", 0));
  *reasons = low;
  return code;
}
FAKE nvmlDeviceGetTotalEnergyConsumption(void*, unsigned long long* mj) {
  if (script().find("blind") != std::string::npos) return not_supported;
  const double s = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  *mj = static_cast<unsigned long long>(s * setting("watts", 350) * 1e3);
  return 0;
}
