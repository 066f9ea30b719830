"""The CUDA C++ kernels: rows, machine code, the device they run on, and what carries each kind out."""
