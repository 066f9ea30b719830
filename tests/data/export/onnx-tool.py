"""Fake X100 SXM 80GB, measured by microbench: GFLOP/s and GB/s. Pass Devices[NAME] to profile(Device=...)."""

NAME = 'Fake X100 SXM 80GB'
Devices = {
    'Fake X100 SXM 80GB': {
        "FP32": 54000,
        "FP16": 750000,
        "INT8": 1400000,
        "Bandwidth": 2100,
    },
}
