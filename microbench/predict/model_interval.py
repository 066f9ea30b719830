"""How far a model's time may be off: what its operators' intervals expect, times what measured models like it showed.

The expected spread adds up operators: those of one kind err together in part, kinds independently. Models that were
measured beside the operators tell by how much such a sum is off, in expected spreads; models of the same pass and
number format count fully, all others in part.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

from microbench.records import Estimate, ModelError

if TYPE_CHECKING:
    from microbench.operators.graph import Step
    from microbench.predict.operator import Columns

CONFIDENCE = 0.9
# Standard deviations between the middle of a normal distribution and the end of its 90 % interval.
_NORMAL = 1.645
# Share of an operator's error that all operators of its kind have, and what no sum knows (ln): one operator's caches
# and team of threads are the next one's.
_COMMON, LEAST_SPREAD = 0.5, 0.05
# What models of another pass or format count for, and as how many models the expectation counts: that errors are as
# large as expected, and zero in the mean.
_UNLIKE, _EXPECTED, _CENTRED = 0.35, 1.0, 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What makes models alike: the pass, the number format that does most of the work, the share that is cost."""

    train: bool
    dtype: str
    launch_share: float

    def likeness(self, other: ModelError) -> float:
        """What another model's error says about this one's: 1 is all."""
        found = 1.0 if self.train == other.train else _UNLIKE
        found *= 1.0 if self.dtype == other.dtype else _UNLIKE
        return found * math.exp(-abs(self.launch_share - other.launch_share))


PLAIN = Kind(train=False, dtype="f32", launch_share=0.0)


def expected_spread(columns: Columns, steps: Sequence[Step]) -> float:
    """Standard deviation (ln) of a sum of operators, from their intervals."""
    known = np.isfinite(columns.predicted)
    width = np.log(np.maximum(columns.high, 1e-12) / np.maximum(columns.low, 1e-12)) / 2
    each = np.where(known, columns.predicted * width / _NORMAL, 0.0)
    kinds: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for step, spread in zip(steps, each.tolist(), strict=True):
        kinds[step.op.name, step.op.direction, step.op.dtype].append(spread)
    variance = sum(
        (_COMMON * sum(one)) ** 2 + (1 - _COMMON**2) * sum(spread**2 for spread in one) for one in kinds.values()
    )
    total = float(columns.predicted[known].sum())
    return math.hypot(math.sqrt(variance) / total if total > 0 else 0.0, LEAST_SPREAD)


def interval(total: float, spread: float, kind: Kind, errors: Sequence[ModelError]) -> Estimate:
    """Seconds with an interval, from the errors of measured models.

    Parameters
    ----------
    total, spread
        Predicted seconds, and their expected spread (ln).
    kind
        What sort of model it is.
    errors
        Of measured models.
    """
    weights = np.array([kind.likeness(each) for each in errors])
    off = np.array([each.error for each in errors])
    count = float(weights.sum())
    shift = float((weights * off).sum()) / (count + _CENTRED)
    scores = (off - shift) / np.array([each.spread for each in errors])
    scale = math.sqrt((_EXPECTED + float((weights * scores**2).sum())) / (_EXPECTED + count))
    width = float(stdtrit(_EXPECTED + count - 1, (1 + CONFIDENCE) / 2)) * scale * spread
    width *= math.sqrt(1 + 1 / (count + _CENTRED))
    value = total * math.exp(shift)
    return Estimate(
        value=value,
        low=value * math.exp(-width),
        high=value * math.exp(width),
        basis=f"errors of {len(errors)} measured models, {count:.1f} of them like this one",
        confidence=CONFIDENCE,
    )
