"""The interval of a model's time: what its operators expect, times what measured models like it showed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from microbench.predict.model_interval import CONFIDENCE, Kind, interval
from microbench.records import ModelError

KIND = Kind(train=False, dtype="f32", launch_share=0.1)


def errors(off: list[float], spread: float = 0.1, **facts: object) -> list[ModelError]:
    return [
        ModelError(name=str(place), error=each, spread=spread, launch_share=0.1, **facts)  # type: ignore[arg-type]
        for place, each in enumerate(off)
    ]


def width(off: list[ModelError], spread: float = 0.1, kind: Kind = KIND) -> float:
    found = interval(1.0, spread, kind, off)
    return math.log(found.high / found.low) / 2


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_intervals_hold_as_often_as_they_say(scale: float) -> None:
    random = np.random.default_rng(7)
    held = []
    for _ in range(600):
        spreads = random.uniform(0.05, 0.3, 13)
        off = random.normal(0.0, scale * spreads)
        known = [
            ModelError(name="", error=float(each), spread=float(spread), launch_share=0.1)
            for each, spread in zip(off[:-1], spreads[:-1], strict=True)
        ]
        found = interval(1.0, float(spreads[-1]), KIND, known)
        held.append(found.low <= math.exp(off[-1]) <= found.high)
    assert 0.84 <= np.mean(held) <= (0.95 if scale >= 1 else 1.0)


def test_larger_errors_and_larger_expectations_widen_an_interval() -> None:
    small, large = errors([0.05, -0.05] * 5), errors([0.4, -0.4] * 5)
    assert width(small) < width(large)
    assert width(small, 0.3) == pytest.approx(3 * width(small))


def test_models_of_another_pass_or_format_say_less() -> None:
    alike, other = errors([0.5, -0.5] * 5), errors([0.5, -0.5] * 5, train=True)
    calm = errors([0.05, -0.05] * 5)
    assert width([*calm, *other]) < width([*calm, *alike])
    training = Kind(train=True, dtype="f32", launch_share=0.1)
    assert width([*calm, *other], kind=training) > width([*calm, *other])


def test_what_models_like_it_are_off_in_the_mean_is_made_good_in_part() -> None:
    found = interval(1.0, 0.1, KIND, errors([0.3] * 8))
    assert 1.0 < found.value < math.exp(0.3)
    assert found.confidence == CONFIDENCE
    assert "8 measured models" in found.basis
