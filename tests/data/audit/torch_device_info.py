# Written for these tests, with the figures that torch 2.13.0 declares for three GPUs.
_device_mapping = {
    "NVIDIA H100": DeviceInfo(
        tops={torch.float64: 67.0, torch.float32: 67.0, "torch.tf32": 989.0, torch.bfloat16: 1979.0, torch.float16: 1979.0, torch.int8: 3958.0},
        dram_bw_gbs=3350,
        dram_gb=80,
        tops_sparsity_factor=2,
    ),
    "NVIDIA L4": DeviceInfo(
        tops={torch.float32: 30.3, torch.bfloat16: 242.0, torch.float16: 242.0, torch.float8_e5m2: 485.0, torch.int8: 485.0},
        dram_bw_gbs=3350,
        dram_gb=24,
    ),
    "NVIDIA A100": DeviceInfo(
        tops={torch.float64: 19.5, torch.float32: 19.5, torch.bfloat16: 312.5, torch.float16: 312.5, torch.int8: 624.0, "torch.tf32": 156.0},
        dram_bw_gbs=2039.0,
        dram_gb=80.0,
    ),
}
