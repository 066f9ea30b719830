"""Whole jobs, the only place where stages meet: measuring a device, calibrating operators, validating, examining the machine."""
