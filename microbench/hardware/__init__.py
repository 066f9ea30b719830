"""Finding devices and what they say about themselves: one module per kind."""

from __future__ import annotations

import re

from microbench.errors import CannotRun, UsageError, expect
from microbench.records import Device

_CUDA = re.compile(r"cuda(?::(?P<index>\d{1,3}))?")


def probe(spec: str = "auto") -> Device:
    """Describe the device that ``auto``, ``cpu`` or ``cuda:N`` names.

    Raises
    ------
    UsageError
        If the spelling is none of the three.
    CannotRun
        If there is no such device here; the sentence says how to get there.
    """
    expect("the device", spec, str, "auto, cpu or cuda:N")
    if spec == "cpu":
        from microbench.hardware import cpu

        return cpu.probe()
    if spec == "auto":
        try:
            return probe("cuda:0")
        except CannotRun:
            return probe("cpu")
    match = _CUDA.fullmatch(spec)
    if match is None:
        raise UsageError(f"unknown device {spec!r}; write auto, cpu or cuda:N, and see 'microbench list devices'")
    from microbench.hardware import cuda

    return cuda.probe(int(match["index"] or 0))
