# Written for these tests, with figures that onnx-tool 1.0.1 and its repository declare.
Devices = {
    "A100-40GB-PCIe": {"FP32": 19500, "FP16": 312000, "INT8": 624000, "Bandwidth": 1935},
    "H100-PCIe": {"FP32": 48000, "FP16": 1600000, "INT8": 3200000, "Bandwidth": 2000},
    "RTX-5090": {"FP32": 104800, "FP16": 209500, "INT8": 1676000, "Bandwidth": 1792},
}
