"""Fits carried to devices without operator times: invented devices that obey one law of shares of their ceilings."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from microbench.cli.predict import Asked
from microbench.errors import CannotRun, UsageError
from microbench.operators import Table, op, table_of
from microbench.predict import predict
from microbench.predict.figures import DeviceFigures, datasheet_figures, figures_of
from microbench.predict.fit import fit
from microbench.predict.operator import predict_table
from microbench.predict.transfer import carry, device_of, families_of
from microbench.records import Characterisation
from microbench.storage.store import dumps, loads

TOML = """
[[device]]
name = "a card of somebody's"
bandwidth = "2 TB/s"
units = 50
l2 = "20 MB"
measured = true
[device.compute]
bf16 = "300 TFLOP/s"
[device.launch]
graph = "3 us"
"""


def _device(peak: float, bandwidth: float, units: int, launch: float) -> DeviceFigures:
    return DeviceFigures(
        peak={"bf16": peak},
        bandwidth=bandwidth,
        units=units,
        caches=((2e7, None),),
        kind="cuda",
        measured=True,
        cost={"graph": launch},
        name=f"invented {peak:.3g}",
        arch="sm_90a",
    )


FIRST, SECOND = _device(3e14, 2e12, 100, 4e-6), _device(6e14, 3e12, 130, 3e-6)
OTHER = _device(1.2e14, 1e12, 60, 6e-6)


def _law(figures: DeviceFigures, table: Table) -> np.ndarray:
    """A launch, and about the larger of 0.8 of the peak, less for sums that are short, and 0.9 of the bandwidth."""
    seconds = np.empty(table.size)
    for batch in table.batches:
        m, n, k = (batch.shape[key].astype(float) for key in "mnk")
        compute = 2 * m * n * (k + 50) / (0.8 * figures.peak["bf16"])
        memory = 2 * (m * k + k * n + m * n) / (0.9 * (figures.bandwidth or 1.0))
        seconds[batch.index] = 1.1 * figures.cost["graph"] + (compute**4 + memory**4) ** 0.25
    return seconds


def _shapes(count: int, seed: int, least: int = 64) -> Table:
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.uniform(np.log(least), np.log(8192), (count, 3))).astype(int)
    return table_of([op("matmul", m=int(m), n=int(n), k=int(k), dtype="bf16", launch="graph") for m, n, k in sizes])


def _timed(figures: DeviceFigures, count: int, seed: int) -> Table:
    table = _shapes(count, seed)
    noise = np.exp(np.random.default_rng(seed).normal(0, 0.02, count))
    (batch,) = table.batches
    return replace(table, batches=(replace(batch, seconds=(_law(figures, table) * noise)[batch.index]),))


@cache
def _fitted(figures_of_seed: int) -> Characterisation:
    figures = (FIRST, SECOND)[figures_of_seed]
    return fit(_timed(figures, 120, figures_of_seed), on=figures)


def _error(table: Table, predicted: np.ndarray, figures: DeviceFigures) -> float:
    return float(np.mean(np.abs(predicted / _law(figures, table) - 1)))


def test_a_fit_is_carried_to_a_device_without_a_row_of_its_own() -> None:
    fresh = _shapes(200, 7)
    held = carry([_fitted(0)], OTHER, families_of(fresh))
    columns = predict_table(fresh, held)
    assert _error(fresh, columns.predicted, OTHER) < 0.15
    exact = _law(OTHER, fresh)
    assert ((columns.low <= exact) & (exact <= columns.high)).mean() > 0.8
    assert held.fits.operators[0].sources == (_fitted(0).device.name,)


def test_several_devices_are_pooled() -> None:
    fresh = _shapes(200, 8)
    held = carry([_fitted(0), _fitted(1)], OTHER, families_of(fresh))
    assert _error(fresh, predict_table(fresh, held).predicted, OTHER) < 0.15
    assert len(held.fits.operators[0].sources) == 2


def test_ceilings_ten_times_as_high_make_large_operators_ten_times_as_quick() -> None:
    large = [op("matmul", m=8192, n=8192, k=8192, dtype="bf16", launch="graph")]
    tenfold = replace(OTHER, peak={"bf16": 10 * OTHER.peak["bf16"]}, bandwidth=10 * (OTHER.bandwidth or 1.0))
    (before,) = predict(large, _fitted(0), on=OTHER)
    (after,) = predict(large, _fitted(0), on=tenfold)
    assert after.seconds.value < before.seconds.value / 5


def test_few_rows_of_a_device_beside_the_fit_of_another_do_better_than_alone() -> None:
    fresh, few = _shapes(200, 9), _timed(OTHER, 12, 10)
    alone, beside = fit(few, on=OTHER), fit(few, like=_fitted(0), on=OTHER)
    errors = [_error(fresh, predict_table(fresh, held).predicted, OTHER) for held in (alone, beside)]
    assert errors[1] < max(errors[0], 0.05)
    assert errors[1] < 0.1


@pytest.mark.parametrize("measured", [(False,), (True,), (False, True)])
@pytest.mark.parametrize("own", [False, True])
def test_few_rows_stand_beside_fits_whose_figures_were_printed_or_measured(
    measured: tuple[bool, ...], own: bool
) -> None:
    """Fits beside printed figures have no coordinates of the regime."""
    like = [
        fit(_timed(device, 120, seed), on=replace(device, measured=each))
        for seed, (device, each) in enumerate(zip((FIRST, SECOND), measured, strict=False))
    ]
    fresh = _shapes(200, 9)
    made = fit(_timed(OTHER, 12, 10), like=like, on=replace(OTHER, measured=own))
    assert _error(fresh, predict_table(fresh, made).predicted, OTHER) < 0.15


def test_a_carried_fit_survives_the_store_and_predicts_the_same() -> None:
    fresh = _shapes(20, 11)
    held = carry([_fitted(0)], OTHER, families_of(fresh))
    again = loads(dumps(held))
    assert np.allclose(predict_table(fresh, again).predicted, predict_table(fresh, held).predicted)


def test_figures_are_read_from_a_file_of_declared_ones(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_text(TOML)
    figures, base, finding = device_of(str(path))
    assert (figures.peak, figures.bandwidth, figures.units) == ({"bf16": 3e14}, 2e12, 50)
    assert figures.cost == {"graph": 3e-6}
    assert figures.caches == ((2e7, None),)
    assert figures.measured
    assert finding.severity == "info"
    assert figures_of(base).peak == figures.peak


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (TOML.replace('"3 us"', '"3"'), "write a time with its unit"),
        (TOML.replace("graph", "graphs"), "a launch is eager, graph, kernel"),
        (TOML.replace("units = 50", "units = -1"), "positive"),
        (TOML.replace("units", "cores"), "unknown keys cores"),
        (TOML.replace("true", '"yes"'), "write true or false"),
        (TOML + TOML, "the figures of one device are needed"),
        ("", "cannot be read"),
    ],
)
def test_a_wrong_file_of_figures_is_refused_with_one_sentence(wrong: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_text(wrong)
    with pytest.raises(UsageError, match=says):
        device_of(str(path))


def test_an_existing_file_wins_over_the_name_of_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert device_of("H100")[0].peak["bf16"] == datasheet_figures("H100").peak["bf16"]
    Path("H100").write_text(TOML)
    assert device_of("H100")[0].peak["bf16"] == 3e14


def test_a_name_is_marked_as_nominal_and_what_is_neither_file_nor_name_is_refused() -> None:
    figures, _, finding = device_of("H100")
    assert not figures.measured
    assert finding.severity == "warning"
    assert "nominal" in finding.says
    with pytest.raises(UsageError, match="no file"):
        device_of("results/none.json")
    with pytest.raises(UsageError, match="no GPU named"):
        device_of("Z900")


def test_a_device_that_lacks_a_ceiling_or_is_of_another_kind_is_refused() -> None:
    wanted = families_of(_shapes(3, 1))
    with pytest.raises(UsageError, match="has no bf16 compute ceiling"):
        carry([_fitted(0)], replace(OTHER, peak={"f32": 1e13}), wanted)
    with pytest.raises(UsageError, match="no memory bandwidth"):
        carry([_fitted(0)], replace(OTHER, bandwidth=None), wanted)
    with pytest.raises(UsageError, match="between devices of one kind"):
        carry([_fitted(0)], replace(OTHER, kind="cpu"), wanted)


def test_a_ceiling_changed_in_a_file_moves_what_its_fits_predict_and_is_told() -> None:
    held, large = _fitted(0), [op("matmul", m=8192, n=8192, k=8192, dtype="bf16", launch="graph")]
    assert not predict_table(table_of(large), held).findings

    def faster(times: float) -> Characterisation:
        rows = tuple(
            replace(row, rate=replace(row.rate, value=times * row.rate.value, high=times * row.rate.high))
            if row.measures == "compute"
            else row
            for row in held.ceilings
        )
        return replace(held, ceilings=rows)

    before, after = (predict_table(table_of(large), each) for each in (held, faster(2)))
    assert after.predicted[0] < 0.7 * before.predicted[0]
    assert [finding.code for finding in after.findings] == ["ceiling-changed"]


def test_fits_that_do_not_say_what_they_stand_beside_say_so() -> None:
    held = _fitted(0)
    old = tuple(replace(each, figures={}) for each in held.fits.operators)
    held = replace(held, fits=replace(held.fits, operators=old))
    columns = predict_table(_shapes(3, 1), held)
    assert [finding.code for finding in columns.findings] == ["older-fits"]


def test_without_a_calibration_it_is_said_what_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = families_of(_shapes(3, 1))
    with pytest.raises(CannotRun, match="there is no characterisation"):
        Asked().held(wanted)
    folder = tmp_path / "results" / "invented"
    folder.mkdir(parents=True)
    (folder / "20260101T000000Z-1.json").write_bytes(dumps(_fitted(0)))
    assert Asked().held(wanted).device == _fitted(0).device
    assert "the newest under results/" in capsys.readouterr().err
    assert Asked(on="H100").held(wanted).device.name == "H100 SXM5 80GB"
    assert "nominal figures of H100 SXM5 80GB" in capsys.readouterr().err
