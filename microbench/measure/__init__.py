"""From a device and its kernels to samples: which cases, over which working sets, in which order and for how long."""
