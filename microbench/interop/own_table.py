"""The project's own small table of declared numbers (TOML), for figures that stand in no tool's format.

Every number carries its unit, so that nothing has to be guessed::

    [[device]]
    name = "NVIDIA L4"
    bandwidth = "300 GB/s"
    memory = "24 GB"
    [device.compute]
    bf16 = "121 TFLOP/s"
"""

from __future__ import annotations

import re
from typing import Any

from microbench.errors import UsageError
from microbench.interop import reads
from microbench.interop.declared import Declared, Quantity, number, table, text
from microbench.records.dtypes import dtype

_QUANTITY = re.compile(r"\s*([0-9][0-9_.]*(?:[eE][+-]?[0-9]+)?)\s*([kKMGTPE]i?)?\s*([A-Za-z]+(?:/s)?)\s*")
_PREFIXES = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_RATES = {"FLOP/s": 1, "FLOPS": 1, "FLOPs": 1, "FLOP": 0, "OP/s": 1, "OPS": 1, "TOPS": 0, "MAC/s": 2}
_BANDWIDTHS = {"B/s": 1.0, "byte/s": 1.0, "Byte/s": 1.0, "b/s": 0.125, "bit/s": 0.125}
_SIZES = {"B": 1, "byte": 1, "bytes": 1}
_UNITS: dict[Quantity, dict[str, Any]] = {"compute": _RATES, "bandwidth": _BANDWIDTHS, "capacity": _SIZES}
_EXAMPLES = {"compute": "121 TFLOP/s", "bandwidth": "300 GB/s", "capacity": "24 GB"}
# Those after the first line say more of a device that is to be predicted (docs/predicting.md); an audit has no use for
# them.
KEYS = {"name", "bandwidth", "memory", "compute"}
BEYOND = {"sustained", "units", "l2", "l2_bandwidth", "launch", "measured"}


def quantity(stated: object, kind: Quantity, where: str) -> float:
    """Read a number with its unit into FLOP/s, byte/s or bytes.

    Raises
    ------
    UsageError
        If the unit is missing, unknown, or of another kind.

    Examples
    --------
    >>> quantity("300 GB/s", "bandwidth", "x"), quantity("2400 Gbit/s", "bandwidth", "x")
    (300000000000.0, 300000000000.0)
    >>> quantity("1 TMAC/s", "compute", "x")
    2000000000000.0
    """
    match = _QUANTITY.fullmatch(stated) if isinstance(stated, str) else None
    factor = _UNITS[kind].get(match[3]) if match else None
    if match is None or not factor:
        raise UsageError(
            f"{where} is {str(stated)[:60]!r}; write a number with its unit as text, for example {_EXAMPLES[kind]!r}"
        )
    prefix = match[2] or ""
    base = 1024 if prefix.endswith("i") else 1000
    try:
        plain = float(match[1])
    except ValueError:
        raise UsageError(f"{where} is {str(stated)[:60]!r}; {match[1][:40]!r} is no number") from None
    return number(plain * base ** _PREFIXES[prefix.removesuffix("i")] * factor, where)


@reads("toml")
def read(document: Any) -> list[Declared] | None:
    """Read ``[[device]]`` tables."""
    if not (isinstance(document, dict) and isinstance(document.get("device"), list)):
        return None
    found: list[Declared] = []
    for index, entry in enumerate(document["device"]):
        row = table(entry, f"device {index + 1}")
        name = text(row.get("name"), f"name of device {index + 1}")
        unknown = sorted(str(key) for key in row.keys() - KEYS - BEYOND)
        if unknown:
            known_keys = ", ".join(sorted(KEYS | BEYOND))
            raise UsageError(f"{name} has unknown keys {', '.join(unknown)[:100]}; known: {known_keys}")
        kinds: tuple[tuple[str, Quantity], ...] = (("bandwidth", "bandwidth"), ("memory", "capacity"))
        for key, kind in kinds:
            if key in row:
                value = quantity(row[key], kind, f"{name}.{key}")
                keys = ("device", str(index), key)
                found.append(
                    Declared(
                        device=name, quantity=kind, value=value, where=f"{name}.{key}", stated=str(row[key]), keys=keys
                    )
                )
        for key, stated in table(row.get("compute", {}), f"{name}.compute").items():
            where = f"{name}.compute.{key}"
            try:
                known = dtype(str(key)).name
            except ValueError as error:
                raise UsageError(f"{where}: {error}") from None
            value = quantity(stated, "compute", where)
            found.append(
                Declared(
                    device=name,
                    quantity="compute",
                    value=value,
                    where=where,
                    stated=str(stated),
                    dtype=known,
                    keys=("device", str(index), "compute", str(key)),
                )
            )
    return found
