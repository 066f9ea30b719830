"""Fake X100 SXM 80GB, measured by microbench.

Flops in TFLOP/s of dense bf16; Memory_BW and ICN in GiB/s and Memory_size in GiB, which is how GenZ reads its GB.
Use get_inference_system(system_name=system_configs[NAME], ceff=COMPUTE_EFFICIENCY, meff=MEMORY_EFFICIENCY)."""

NAME = 'Fake X100 SXM 80GB'
COMPUTE_EFFICIENCY = 0.75  # matmul.bf16
MEMORY_EFFICIENCY = 0.8  # read.f32
system_configs = {
    'Fake X100 SXM 80GB': {
        "Flops": 1000,
        "Memory_size": 80,
        "Memory_BW": 2793.97,
        "ICN": 1,
        "real_values": True,
    },
}
