"""Numbers with units and prefixes, written for people and read from the command line.

Everything else in the project is plain SI.
"""

from __future__ import annotations

import math
import re

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_BINARY = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"), (1e-12, "ps"))
_DURATION = re.compile(r"(?P<value>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>ms|s|min|m|h)?")
LONGEST_S = 1e8  # three years
_DURATION_SECONDS = {"ms": 1e-3, "s": 1.0, None: 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


def digits(value: float, significant: int = 4) -> str:
    """Format a number to so many significant digits, without an exponent.

    Examples
    --------
    >>> digits(153.0321), digits(0.0123456), digits(1219), digits(9.996, 3)
    ('153.0', '0.01235', '1219', '10.0')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, significant - 1 - math.floor(math.log10(abs(_rounded(value, significant)))))
    return f"{value:.{decimals}f}"


def _rounded(value: float, significant: int) -> float:
    """What is left of a number in so many significant digits: 9.996 has three as 10.0, and not as 10.00."""
    return float(f"{value:.{significant - 1}e}")


def prefixed(value: float, unit: str, significant: int = 4) -> str:
    """Format an SI quantity with a decimal prefix.

    Examples
    --------
    >>> prefixed(153.03e9, "FLOP/s"), prefixed(2.7e9, "Hz", 3), prefixed(999.99e9, "B/s")
    ('153.0 GFLOP/s', '2.70 GHz', '1.000 TB/s')
    """
    for scale, prefix in _PREFIXES:
        if abs(_rounded(value, significant)) >= scale:
            return f"{digits(value / scale, significant)} {prefix}{unit}"
    return f"{digits(value, significant)} {unit}"


def rate(value: float, unit: str, significant: int = 4) -> str:
    """Format FLOP/s, OP/s or byte/s; bytes per second are printed as B/s."""
    return prefixed(value, "B/s" if unit == "byte/s" else unit, significant)


def size(value_bytes: float, significant: int = 4) -> str:
    """Format a capacity with binary prefixes (1 KiB = 1024 B), without zeros at the end.

    Examples
    --------
    >>> size(32768), size(37486592), size(96), size(84_557_168, 3)
    ('32 KiB', '35.75 MiB', '96 B', '80.6 MiB')
    """
    scale, unit = next(((scale, unit) for scale, unit in _BINARY if value_bytes >= scale), (1, "B"))
    text = digits(value_bytes / scale, significant)
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {unit}"


def seconds(value: float, significant: int = 3) -> str:
    """Format a duration.

    Examples
    --------
    >>> seconds(1.05e-7), seconds(2.5)
    ('105 ns', '2.50 s')
    """
    for scale, unit in _TIMES:
        if abs(_rounded(value, significant)) >= scale:
            return f"{digits(value / scale, significant)} {unit}"
    return f"{digits(value / 1e-12, significant)} ps" if value else "0 s"


def parse_seconds(text: str) -> float:
    """Read a duration such as ``90s``, ``1.5min`` or ``500ms``; a bare number is seconds.

    Raises
    ------
    ValueError
        If the text is no positive duration of at most three years.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    value = float(match["value"]) * _DURATION_SECONDS[match["unit"]] if match else 0.0
    if not (0 < value <= LONGEST_S):
        raise ValueError(f"{text[:40]!r} is not a positive duration; write for example 90s, 2min or 500ms")
    return value


def like(value: float, reference: float, significant: int = 4) -> str:
    """Format a number scaled by the prefix that ``reference`` would get, without writing prefix and unit.

    The ends of an interval are printed this way beside the value that carries the unit.

    Examples
    --------
    >>> like(998e9, 1.02e12), like(152.6e9, 153.0e9)
    ('0.9980', '152.6')
    """
    scale = next((scale for scale, _ in _PREFIXES if abs(_rounded(reference, significant)) >= scale), 1.0)
    return digits(value / scale, significant)


def like_seconds(value: float, reference: float, significant: int = 3) -> str:
    """Format a duration in the unit that ``reference`` would get, without writing the unit.

    Examples
    --------
    >>> like_seconds(1.39e-9, 1.35e-9), like_seconds(8.79e-7, 1.03e-6)
    ('1.39', '0.879')
    """
    scale = next((scale for scale, _ in _TIMES if abs(_rounded(reference, significant)) >= scale), _TIMES[-1][0])
    return digits(value / scale, significant)
