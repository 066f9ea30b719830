// A FAKE of NVRTC for tests, of the version that MB_FAKE_NVRTC names ("12.9"): it compiles nothing, but hands back
// machine code that nvcc made of the same source for the same target (from the folder MB_FAKE_CUBINS), in the format of
// its own version. For a virtual target it writes PTX that declares the same kernels and does nothing; only the fake
// driver takes that.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

namespace {

struct Program {
  std::string name, code, log;
};

int version(int part) {
  int numbers[2] = {13, 0};
  if (const char* text = std::getenv("MB_FAKE_NVRTC")) std::sscanf(text, "%d.%d", &numbers[0], &numbers[1]);
  return numbers[part];
}

// What a chip runs: its own code, its family's, or that of the highest lower minor.
std::string shipped(const std::string& name, const std::string& arch) {
  const char* folder = std::getenv("MB_FAKE_CUBINS");
  const std::string stem = name.substr(0, name.rfind('.')), number = arch.substr(arch.find('_') + 1);
  for (const std::string& target : {number, number + "a", std::string(number == "121a" ? "120f" : number)}) {
    std::ifstream in(std::string(folder) + "/" + stem + ".sm_" + target + ".cubin", std::ios::binary);
    if (in) return {std::istreambuf_iterator<char>(in), {}};
  }
  return "";
}

// Toolkit 12 wrote the older format for chips before Blackwell.
void to_older_format(std::string& code) {
  const auto arch = static_cast<unsigned char>(code[0x31]);
  if (version(0) >= 13 || arch >= 100) return;
  code[7] = 51;
  code[8] = 7;
  code[0x30] = static_cast<char>(arch);
}

std::string declared(const std::string& code, const std::string& target) {
  const int isa = version(0) >= 13 ? 90 + version(1) : 80 + version(1) - (version(1) > 5 ? 1 : 0);
  std::string ptx = ".version " + std::to_string(isa / 10) + "." + std::to_string(isa % 10) + "\n.target sm_" +
                    target.substr(8) + "\n";
  const std::string mark = std::string(1, '\0') + ".text.";
  for (auto at = code.find(mark); at != std::string::npos; at = code.find(mark, at + 1))
    ptx += ".visible .entry " + std::string(code.c_str() + at + mark.size()) + "(\n)\n{\nret;\n}\n";
  return ptx + '\0';
}

}  // namespace

#define FAKE extern "C" __attribute__((visibility("default"))) int

FAKE nvrtcVersion(int* major, int* minor) {
  *major = version(0);
  *minor = version(1);
  return 0;
}
extern "C" __attribute__((visibility("default"))) const char* nvrtcGetErrorString(int) { return "fake error"; }
constexpr int known[] = {75, 80, 86, 87, 89, 90, 100, 103, 120, 121};
FAKE nvrtcGetNumSupportedArchs(int* count) {
  *count = static_cast<int>(std::size(known));
  return 0;
}
FAKE nvrtcGetSupportedArchs(int* archs) {
  std::memcpy(archs, known, sizeof known);
  return 0;
}
FAKE nvrtcCreateProgram(void** program, const char* source, const char* name, int, const char**, const char**) {
  if (std::strstr(source, "__global__") == nullptr) return 1;
  *program = new Program{name, "", ""};
  return 0;
}
FAKE nvrtcCompileProgram(void* program, int count, const char** options) {
  auto* one = static_cast<Program*>(program);
  const std::string key = "--gpu-architecture=";
  std::string target;
  for (int i = 0; i < count; ++i)
    if (std::strncmp(options[i], key.c_str(), key.size()) == 0) target = options[i] + key.size();
  one->code = shipped(one->name, target);
  if (one->code.empty()) {
    one->log = "fake nvrtc: error: invalid value for --gpu-architecture (-arch)\n";
    return 5;
  }
  if (target.rfind("compute_", 0) == 0)
    one->code = declared(one->code, target);
  else
    to_older_format(one->code);
  return 0;
}
FAKE nvrtcGetCUBINSize(void* program, std::size_t* size) {
  *size = static_cast<Program*>(program)->code.size();
  return 0;
}
FAKE nvrtcGetCUBIN(void* program, char* out) {
  const std::string& code = static_cast<Program*>(program)->code;
  std::memcpy(out, code.data(), code.size());
  return 0;
}
FAKE nvrtcGetPTXSize(void* program, std::size_t* size) { return nvrtcGetCUBINSize(program, size); }
FAKE nvrtcGetPTX(void* program, char* out) { return nvrtcGetCUBIN(program, out); }
FAKE nvrtcGetProgramLogSize(void* program, std::size_t* size) {
  *size = static_cast<Program*>(program)->log.size() + 1;
  return 0;
}
FAKE nvrtcGetProgramLog(void* program, char* out) {
  std::strcpy(out, static_cast<Program*>(program)->log.c_str());
  return 0;
}
FAKE nvrtcDestroyProgram(void** program) {
  delete static_cast<Program*>(*program);
  *program = nullptr;
  return 0;
}
