# Cross-building for aarch64 with the distribution's cross compiler. MICROBENCH_AARCH64_ROOT is a folder with an arm64 Python 3.11, whose
# headers are taken in place of this machine's (.ci/wheels.sh unpacks one).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(Python_INCLUDE_DIR "$ENV{MICROBENCH_AARCH64_ROOT}/usr/include/python3.11" CACHE PATH "" FORCE)
set(CMAKE_CXX_FLAGS_INIT "-isystem $ENV{MICROBENCH_AARCH64_ROOT}/usr/include")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
# What pybind11 would ask this machine's Python for.
set(PYTHON_MODULE_EXTENSION ".cpython-311-aarch64-linux-gnu.so" CACHE STRING "" FORCE)
set(PYTHON_MODULE_DEBUG_POSTFIX "" CACHE STRING "" FORCE)
