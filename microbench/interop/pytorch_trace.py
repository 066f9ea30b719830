"""PyTorch's profile-guided estimation: a Chrome trace of the operators that were measured.

Fields and units were checked in the released wheel torch 2.13.0, ``_inductor/fx_passes/profile_guided_estimation.py``
and ``_inductor/analysis/profile_analysis.py``: a ``cpu_op`` event names the operator with ``Input Dims``, ``Input
Strides`` and ``Input type``; the ``kernel`` events with the same ``External id`` give its duration in microseconds; the
look-up needs the exact shapes, strides and dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from microbench.errors import UsageError
from microbench.interop import Exported, Request, writes
from microbench.interop.figures import pretty
from microbench.records import Case, Characterisation, Sheet, Value

_TYPES = {"f64": "double", "f32": "float", "f16": "c10::Half", "bf16": "c10::BFloat16"}
Shape = tuple[int, ...]
Operands = list[tuple[Shape, Shape]]
Params = Mapping[str, Value]


def _dense(*shape: int) -> tuple[Shape, Shape]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return shape, tuple(reversed(strides))


def _int(params: Params, key: str) -> int:
    return int(params[key])


def _matmul(p: Params) -> Operands:
    return [_dense(_int(p, "m"), _int(p, "k")), _dense(_int(p, "k"), _int(p, "n"))]


def _linear(p: Params) -> Operands:
    # A linear layer's weight is [n, k] and reaches addmm transposed, as a view with swapped strides.
    m, n, k = _int(p, "m"), _int(p, "n"), _int(p, "k")
    return [((n,), (1,)), _dense(m, k), ((k, n), (1, k))]


def _without_bias(p: Params) -> Operands:
    return _linear(p)[1:]


def _bmm(p: Params) -> Operands:
    b, m, n, k = (_int(p, key) for key in ("b", "m", "n", "k"))
    return [_dense(b, m, k), _dense(b, k, n)]


def _pair(p: Params) -> Operands:
    return [_dense(_int(p, "size"))] * 2


def _one(p: Params) -> Operands:
    return [_dense(_int(p, "size"))]


def _rows(p: Params) -> Operands:
    return [_dense(_int(p, "rows"), _int(p, "cols"))]


_OPERATORS: dict[str, tuple[str, Callable[[Params], Operands]]] = {
    "matmul": ("aten::mm", _matmul),
    "gemm": ("aten::mm", _matmul),
    "linear": ("aten::addmm", _linear),
    "bmm": ("aten::bmm", _bmm),
    "add": ("aten::add", _pair),
    "mul": ("aten::mul", _pair),
    "div": ("aten::div", _pair),
    "relu": ("aten::relu", _one),
    "gelu": ("aten::gelu", _one),
    "silu": ("aten::silu", _one),
    "tanh": ("aten::tanh", _one),
    "exp": ("aten::exp", _one),
    "sigmoid": ("aten::sigmoid", _one),
    "softmax": ("aten::_softmax", _rows),
}


@writes(
    "pytorch-trace",
    says="PyTorch profile-guided Chrome trace of the measured shapes",
    suffix=".json",
    checked="torch 2.13.0",
)
def write(request: Request) -> Exported:
    """Write the median time of each measured operator shape.

    Raises
    ------
    UsageError
        If the characterisation holds no samples of operators.
    """
    events: list[dict[str, Any]] = []
    for number, (name, operands, dtype, seconds) in enumerate(_measured(request.characterisation), start=1):
        shapes, strides = [list(shape) for shape, _ in operands], [list(stride) for _, stride in operands]
        described = {"Input Dims": shapes, "Input Strides": strides, "Input type": [_TYPES[dtype]] * len(shapes)}
        when, duration = float(number), round(seconds * 1e6, 4)
        common = {"ph": "X", "ts": when, "dur": duration, "pid": 0}
        events.append({**common, "cat": "cpu_op", "name": name, "tid": 0, "args": {"External id": number, **described}})
        events.append({**common, "cat": "kernel", "name": f"{name} {dtype}", "tid": 1, "args": {"External id": number}})
    if not events:
        raise UsageError(
            f"{request.to} needs measured operator shapes ({', '.join(_OPERATORS)}), and this characterisation has "
            "none; run `microbench run` with the torch extra installed, or use --to pytorch, which needs ceilings only"
        )
    return Exported(text=pretty({"schemaVersion": 1, "traceEvents": events}))


def _measured(c: Characterisation) -> list[tuple[str, Operands, str, float]]:
    sheets = {sheet.name: sheet for sheet in c.sheets}
    seconds: dict[str, list[float]] = {}
    for samples in c.samples:
        seconds.setdefault(samples.case, []).append(median(samples.ns) / samples.iterations * 1e-9)
    found = []
    for case in c.plan.cases if c.plan else ():
        sheet = sheets.get(case.kernel)
        known = _operator(case, sheet)
        if known and sheet and sheet.dtype in _TYPES and case.key in seconds:
            found.append((known[0], known[1], str(sheet.dtype), median(seconds[case.key])))
    return found + _calibrated(c)


def _calibrated(c: Characterisation) -> list[tuple[str, Operands, str, float]]:
    """Rows of the operator calibration: the envelope over rounds, hot cache."""
    found = []
    for row in c.fits.timings:
        params: dict[str, Value] = {
            key: int(value) for key, _, value in (item.partition("=") for item in row.params.split(";"))
        }
        if row.op in _OPERATORS and row.dtype in _TYPES and row.cache == "hot":
            plain = row.op == "linear" and not params.get("bias", 1)
            aten, operands = ("aten::mm", _without_bias) if plain else _OPERATORS[row.op]
            found.append((aten, operands(params), row.dtype, row.seconds))
    return found


def _operator(case: Case, sheet: Sheet | None) -> tuple[str, Operands] | None:
    if sheet is None or sheet.backend != "torch":
        return None
    known = _OPERATORS.get(str(case.params.get("op", case.kernel.partition(".")[0])))
    if known is None:
        return None
    try:
        return known[0], known[1](case.params)
    except (KeyError, ValueError):  # the case is of another kind than its name says: no shape, no row
        return None
