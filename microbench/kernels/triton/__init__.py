"""The Triton kernels: what they are, and their code."""
