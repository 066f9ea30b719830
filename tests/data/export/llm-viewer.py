"""Fake X100 SXM 80GB, measured by microbench: byte/s, OP/s (dense bf16), bytes. For hardwares/hardware_params.py."""

hardware_params = {
    "fake_x100_sxm_80gb": {
        "bandwidth": 2400000000000,
        "FP16": 750000000000000,
        "INT8": 1400000000000000,
        "onchip_buffer": 52428800,
    },
}
