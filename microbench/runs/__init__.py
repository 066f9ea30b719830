"""Whole jobs, the only place where stages meet: measure a device, calibrate operators, validate, examine a machine."""
