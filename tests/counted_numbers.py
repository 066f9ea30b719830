"""Numbers that count what is done to them, and the textbook formulas of operators written in them.

A formula is one row or one window; its value is compared with torch's, so that what is counted is what is computed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

COUNT = [0]


class Number:
    """A float; every operation on it, a comparison too, adds one to COUNT."""

    def __init__(self, value: float) -> None:
        self.value = float(value)

    def _with(self, other: Any, operation: Callable[[float, float], float]) -> Number:
        COUNT[0] += 1
        return Number(operation(self.value, float(other)))

    def __float__(self) -> float:
        return self.value

    def __add__(self, other: Any) -> Number:
        return self._with(other, lambda a, b: a + b)

    def __sub__(self, other: Any) -> Number:
        return self._with(other, lambda a, b: a - b)

    def __mul__(self, other: Any) -> Number:
        return self._with(other, lambda a, b: a * b)

    def __truediv__(self, other: Any) -> Number:
        return self._with(other, lambda a, b: a / b)

    def __neg__(self) -> Number:
        return self._with(0, lambda a, _: -a)

    def __gt__(self, other: Any) -> bool:
        return bool(self._with(other, lambda a, b: a > b).value)


Row = Sequence[Number]


def applied(function: Callable[[float], float]) -> Callable[[Number], Number]:
    """A function of one number that counts as one operation."""
    return lambda x: x._with(0, lambda a, _: function(a))


ONE = Number(1)
exp, erf, tanh, sqrt = (applied(function) for function in (math.exp, math.erf, math.tanh, math.sqrt))


def total(row: Row) -> Number:
    """A sum that starts at its first element."""
    result = row[0]
    for x in row[1:]:
        result = result + x
    return result


def largest(row: Row, start: float | None = None) -> Number:
    result = row[0] if start is None else Number(start)
    for x in row if start is not None else row[1:]:
        result = max(result, x)
    return result


def sigmoid(x: Number) -> Number:
    return ONE / (ONE + exp(-x))


def sigmoid_gradient(g: Number, y: Number) -> Number:
    return g * (ONE - y) * y


def tanh_gradient(g: Number, y: Number) -> Number:
    return g * (ONE - y * y)


def gelu(x: Number) -> Number:
    return x / 2 * (ONE + erf(x / math.sqrt(2)))


def gelu_gradient(g: Number, x: Number) -> Number:
    below = (ONE + erf(x / math.sqrt(2))) / 2
    density = exp(-(x * x) / 2) * (1 / math.sqrt(2 * math.pi))
    return g * (below + x * density)


def silu_gradient(g: Number, x: Number) -> Number:
    s = sigmoid(x)
    return g * s * (ONE + x * (ONE - s))


def div_gradient(g: Number, a: Number, b: Number) -> list[Number]:
    first = g / b
    return [first, -(first * (a / b))]


def softmax(row: Row) -> list[Number]:
    top = largest(row)
    raised = [exp(x - top) for x in row]
    whole = total(raised)
    return [x / whole for x in raised]


def softmax_gradient(g: Row, row: Row) -> list[Number]:
    """Of a row that softmax has given."""
    dot = total([a * y for a, y in zip(g, row, strict=True)])
    return [(a - dot) * y for a, y in zip(g, row, strict=True)]


def moments(row: Row) -> tuple[list[Number], Number]:
    """The row about its mean, and the reciprocal of its standard deviation."""
    mean = total(row) / len(row)
    centred = [x - mean for x in row]
    return centred, ONE / sqrt(total([x * x for x in centred]) / len(row) + 1e-5)


def layer_norm(row: Row, weight: Row, bias: Row) -> list[Number]:
    centred, rstd = moments(row)
    return [x * rstd * w + b for x, w, b in zip(centred, weight, bias, strict=True)]


def rms_norm(row: Row, weight: Row) -> list[Number]:
    rstd = ONE / sqrt(total([x * x for x in row]) / len(row) + sys.float_info.epsilon)
    return [x * rstd * w for x, w in zip(row, weight, strict=True)]


def stored_norm(row: Row, weight: Row, bias: Row, mean: Number, rstd: Number) -> list[Number]:
    return [(x - mean) * rstd * w + b for x, w, b in zip(row, weight, bias, strict=True)]


Gradients = tuple[list[Number], list[Number], list[Number]]


def layer_norm_gradient(g: Row, row: Row, weight: Row, mean: Number, rstd: Number) -> Gradients:
    """Gradients of a row, and of weight and bias, which gather those of all rows."""
    n, zero = len(row), Number(0)
    normed = [(x - mean) * rstd for x in row]
    of_weight = [zero + a * x for a, x in zip(g, normed, strict=True)]
    of_bias = [zero + a for a in g]
    scaled = [a * w for a, w in zip(g, weight, strict=True)]
    first, second = total(scaled), total([a * x for a, x in zip(scaled, normed, strict=True)])
    share = rstd / n
    return [(a * n - first - x * second) * share for a, x in zip(scaled, normed, strict=True)], of_weight, of_bias


def rms_norm_gradient(g: Row, row: Row, weight: Row, rstd: Number) -> tuple[list[Number], list[Number]]:
    n, zero = len(row), Number(0)
    normed = [x * rstd for x in row]
    of_weight = [zero + a * x for a, x in zip(g, normed, strict=True)]
    scaled = [a * w for a, w in zip(g, weight, strict=True)]
    second, share = total([a * x for a, x in zip(scaled, normed, strict=True)]), rstd / n
    return [(a * n - x * second) * share for a, x in zip(scaled, normed, strict=True)], of_weight


def stored_norm_gradient(g: Row, row: Row, weight: Row, mean: Number, rstd: Number) -> Gradients:
    """Where mean and deviation do not depend on the row."""
    zero, scale = Number(0), weight[0] * rstd
    normed = [(x - mean) * rstd for x in row]
    return (
        [a * scale for a in g],
        [zero + a * x for a, x in zip(g, normed, strict=True)],
        [zero + a for a in g],
    )


def lstm_unit(gates: Row, biases: Row, c: Number) -> tuple[Number, Number]:
    """One unit of a cell from its four sums, which started at one of the two biases."""
    i, f, g, o = (gate + bias for gate, bias in zip(gates, biases, strict=True))
    i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
    after = f * c + i * g
    return o * tanh(after), after


def lstm_unit_gradient(g_h: Number, g_c: Number, kept: Row, c: Number) -> list[Number]:
    """Gradients of the four sums and of the cell state before; both biases gather those of the sums."""
    i, f, g, o, squashed = kept
    through = tanh_gradient(g_h * o, squashed) + g_c
    sums = [
        sigmoid_gradient(through * g, i),
        sigmoid_gradient(through * c, f),
        tanh_gradient(through * i, g),
        sigmoid_gradient(g_h * squashed, o),
    ]
    for _ in range(2):
        sums = [each + 0 for each in sums]
    return [*sums, through * f]
