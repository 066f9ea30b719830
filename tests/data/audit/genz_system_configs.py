# Written for these tests, with the figures that genz-llm 0.0.16 declares for two GPUs.
system_configs = {
    "GH200_GPU": {"Flops": 1979, "Memory_size": 144, "Memory_BW": 4900, "ICN": 450, "real_values": True},
    "GB200": {"Flops": 4500, "Memory_size": 192, "Memory_BW": 8000, "ICN": 900, "ICN_LL": 0.25, "real_values": True},
}
