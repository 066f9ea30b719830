"""Levels of a series, files to keep, and where one device lies among many."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from microbench.analysis.history import Rule, history, level_steps, superfluous
from microbench.analysis.population import population
from microbench.records import Ceiling, Characterisation, Device, Environment, Estimate

DEVICE = Device(id="aaaaaaaaaa", kind="cpu", name="Fake CPU", arch="fake", sku="model")


def run(rate: float, day: int = 1, **facts: str) -> Characterisation:
    made = Environment(started=f"2026-11-{day:02d}T10:00:00+00:00", seconds=1.0, microbench="0.1")
    row = Ceiling(
        name="fma",
        measures="compute",
        backend="native",
        case="fma",
        dtype="f32",
        converged=True,
        rate=Estimate(value=rate, low=0.99 * rate, high=rate),
    )
    return Characterisation(schema="1.0", device=replace(DEVICE, **facts), environment=made, plan=None, ceilings=(row,))


def test_a_level_that_fell_is_marked_where_it_fell_and_by_how_much() -> None:
    rates = [1.0, 1.001, 0.999, 1.0, 0.9, 0.901, 0.899]
    (series,) = history((f"{day}.json", run(rate * 1e9, day)) for day, rate in enumerate(rates, start=1))
    assert [(point.name, round(point.step, 2)) for point in series.changes] == [("5.json", 0.9)]
    assert series.headline


@pytest.mark.parametrize("seed", range(5))
def test_noise_alone_is_no_change(seed: int) -> None:
    generator = np.random.default_rng(seed)
    assert level_steps(list(generator.normal(0, 0.02, size=40)), "memory") == {}


def test_one_bad_run_is_no_change_of_level() -> None:
    assert level_steps([0.0, 0.001, 0.0, math.log(0.5), 0.0, 0.001, 0.0, 0.001], "compute") == {}


def test_runs_are_in_the_order_of_time_and_of_each_device_apart() -> None:
    found = history([("late", run(1e9, 9)), ("other", run(3e9, 2, id="bbbb")), ("early", run(2e9, 1))])
    assert [[point.name for point in series.points] for series in found] == [["early", "late"], ["other"]]


def test_a_rule_keeps_the_last_the_first_and_those_at_which_a_level_changed() -> None:
    rates = [1.0, 1.0, 1.0, 0.8, 0.8, 0.8, 0.8, 0.8]
    runs = [(f"{day}", run(rate * 1e9, day)) for day, rate in enumerate(rates, start=1)]
    now = datetime(2026, 11, 9, tzinfo=UTC)
    series = history(runs)
    assert superfluous(runs, series, Rule(last=2), now) == ("2", "3", "5", "6")
    assert superfluous(runs, series, Rule(days=2.6), now) == ("2", "3", "5")
    assert superfluous(runs, series, Rule(), now) == ("2", "3", "5", "6", "7", "8")


def test_an_outlier_is_named_and_does_not_hide_the_next() -> None:
    rates = {f"n{i}": 1e9 * (1 + 0.002 * math.sin(i)) for i in range(12)} | {"bad": 0.6e9, "worse": 0.5e9}
    (standing,) = population((name, run(rate, id=name)) for name, rate in rates.items())
    assert [(member.name, member.word) for member in standing.outliers] == [("worse", "slow"), ("bad", "slow")]
    assert standing.low < standing.middle < standing.high
    assert {member.name: member.place for member in standing.members}["worse"] == 0.0


def test_a_device_counts_once_however_often_it_was_measured() -> None:
    runs = [("a", run(1e9, day, id="a")) for day in range(1, 9)] + [(name, run(2e9, id=name)) for name in "bcd"]
    (standing,) = population(runs)
    assert (len(standing.members), standing.middle) == (4, pytest.approx(2e9))


def test_of_three_devices_nothing_is_usual() -> None:
    (standing,) = population((name, run(rate, id=name)) for name, rate in (("a", 1e9), ("b", 1e9), ("c", 0.1e9)))
    assert standing.outliers == ()


def test_models_are_populations_of_their_own() -> None:
    found = population([("a", run(1e9, id="a")), ("b", run(9e9, id="b", sku="other"))])
    assert [len(standing.members) for standing in found] == [1, 1]
