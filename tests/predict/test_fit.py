from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from microbench.errors import UsageError
from microbench.operators import Table, op, read_rows, table_of
from microbench.predict.analytic import Prior, parameters
from microbench.predict.figures import DeviceFigures, datasheet_figures
from microbench.predict.fit import fit
from microbench.predict.fit_family import conformal_quantile
from microbench.predict.fit_table import fit_table
from microbench.predict.operator import predict_table
from microbench.storage.store import dumps, loads

PEAK, BANDWIDTH, COST = 10e12, 500e9, 5e-6


def _made_up(count: int, seed: int, low: float = 16, high: float = 4096) -> tuple[Table, np.ndarray]:
    """Rows of a device that obeys cost + max(compute, memory), with 3 % noise: independent of the code under test."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.uniform(np.log(low), np.log(high), (count, 3))).astype(int)
    made = [op("matmul", m=int(m), n=int(n), k=int(k)) for m, n, k in sizes]
    exact = np.array(
        [COST + max(2.0 * m * n * k / PEAK, 4.0 * (m * k + k * n + m * n) / BANDWIDTH) for m, n, k in sizes]
    )
    seconds = exact * np.exp(rng.normal(0, 0.03, count))
    return table_of(made, seconds.tolist()), exact


def _error(columns_predicted: np.ndarray, exact: np.ndarray) -> float:
    return float(np.mean(np.abs(columns_predicted / exact - 1)))


def test_forty_rows_of_a_roofline_machine_predict_fresh_shapes_within_a_tenth() -> None:
    calibration = fit(_made_up(40, 1)[0])
    fresh, exact = _made_up(200, 2)
    columns = predict_table(fresh, calibration)
    assert _error(columns.predicted, exact) < 0.10
    inside = (columns.low <= exact) & (exact <= columns.high)
    assert inside.mean() > 0.75


def test_a_table_of_pandas_is_read_like_the_file_it_would_be() -> None:
    text = "op,dtype,params,seconds\n" + "\n".join(
        f"relu,f32,size={2**place},{1e-6 + 2.0**place * 1e-10!r}" for place in range(8, 24)
    )
    frame = pd.read_csv(io.StringIO(text))
    assert fit(frame).fits.operators == fit(io.StringIO(text)).fits.operators


def test_three_bad_rows_in_forty_do_not_spoil_the_fit_and_are_named() -> None:
    table, _ = _made_up(40, 3)
    seconds = table.batches[0].seconds
    assert seconds is not None
    seconds[[5, 17, 30]] *= 8
    calibration = fit(table)
    fresh, exact = _made_up(200, 4)
    assert _error(predict_table(fresh, calibration).predicted, exact) < 0.15
    named = set(calibration.fits.operators[0].distrusted)
    assert len(named & {5, 17, 30}) >= 2


def test_the_interval_grows_with_the_distance_from_the_data() -> None:
    calibration = fit(_made_up(40, 5, high=512)[0], nominal=DeviceFigures(peak={"f32": 10e12}, bandwidth=500e9))
    near, far = op("matmul", m=200, n=200, k=200), op("matmul", m=40000, n=40000, k=40000)
    columns = predict_table(table_of([near, far]), calibration)
    width = np.log(columns.high / columns.low)
    assert width[1] > width[0]


def test_with_few_rows_nominal_figures_carry_the_extrapolation() -> None:
    known = DeviceFigures(peak={"f32": PEAK}, bandwidth=BANDWIDTH)
    calibration = fit(_made_up(20, 6, high=300)[0], nominal=known)
    fresh, exact = _made_up(100, 7, low=1024, high=8192)
    datasheet = np.array([_error(np.maximum(batch.counts()["flop"] / PEAK, 0), exact) for batch in fresh.batches])
    assert _error(predict_table(fresh, calibration).predicted, exact) < datasheet[0] + 0.15


def test_below_nine_rows_there_is_no_interval_and_a_finding_says_so() -> None:
    calibration = fit(_made_up(7, 8)[0])
    assert calibration.fits.operators[0].quantile is None
    assert any(finding.code == "no-interval" for finding in calibration.findings)


def test_too_few_rows_are_refused_with_the_number_needed() -> None:
    with pytest.raises(UsageError, match="has 3 different rows; a fit needs 5, an interval 9"):
        fit(_made_up(3, 9)[0])


def test_contradictory_rows_are_named() -> None:
    rows = "\n".join(f"relu,f32,size={2**place},{1e-6 * 2 ** (place / 4)}" for place in range(8, 24))
    table = read_rows(io.StringIO(f"op,dtype,params,seconds\n{rows}\nrelu,f32,size=256,1\n"), need_seconds=True)
    _, findings = fit_table(table)
    assert [finding.code for finding in findings if finding.code == "contradictory-rows"]


def test_a_quantile_needs_enough_scores() -> None:
    assert conformal_quantile(np.arange(8.0), 0.9) is None
    assert conformal_quantile(np.arange(9.0), 0.9) == 8.0
    assert conformal_quantile(np.arange(99.0), 0.9) == 89.0


def test_a_fitted_file_survives_the_store_and_predicts_the_same() -> None:
    calibration = fit(_made_up(30, 10)[0])
    fresh, _ = _made_up(20, 11)
    again = loads(dumps(calibration))
    assert np.allclose(predict_table(fresh, again).predicted, predict_table(fresh, calibration).predicted)


def test_nominal_figures_come_by_name_and_an_unknown_one_is_refused() -> None:
    known = datasheet_figures("A100")
    assert known.peak["bf16"] == pytest.approx(312e12, rel=0.01)
    with pytest.raises(UsageError):
        datasheet_figures("no such card")


def test_every_form_has_a_parameter_for_peak_and_bandwidth() -> None:
    prior = Prior(peak=1e12, bandwidth=1e11, cost={"eager": 1e-6})
    for form in ("tiled", "smooth", "stream"):
        names, mean, spread = parameters(form, "matmul", prior, (("eager",), ("matmul",)))
        assert {"peak", "bandwidth", "cost.eager", "sharpness"} <= set(names)
        assert len(mean) == len(spread) == len(names)
        assert (spread > 0).all()


def test_a_processor_whose_caches_are_unknown_can_be_fitted() -> None:
    calibration = fit(
        _made_up(30, 12)[0], nominal=DeviceFigures(peak={"f32": PEAK}, bandwidth=BANDWIDTH, units=2, kind="cpu")
    )
    fresh, exact = _made_up(100, 13)
    assert _error(predict_table(fresh, calibration).predicted, exact) < 0.15


def test_the_same_row_again_and_again_is_one_row() -> None:
    rows = "matmul,f32,m=8;n=8;k=8,1e-5\n" * 30
    with pytest.raises(UsageError, match="has 1 different rows; a fit needs 5"):
        fit(read_rows(io.StringIO(f"op,dtype,params,seconds\n{rows}"), need_seconds=True))


def test_of_two_rows_that_contradict_each_other_the_slower_does_not_spoil_the_fit() -> None:
    table, _ = _made_up(40, 14, low=200)
    batch = table.batches[0]
    assert batch.seconds is not None
    twice = batch.take(np.concatenate([np.arange(40), np.arange(10)]))
    assert twice.seconds is not None
    twice.seconds[40:] *= 1000
    twice.index[:] = np.arange(50)
    calibration = fit(Table(size=50, batches=(twice,)))
    fresh, exact = _made_up(100, 15, low=200)
    assert _error(predict_table(fresh, calibration).predicted, exact) < 0.10
    assert sum(finding.code == "contradictory-rows" for finding in calibration.findings) == 10


@pytest.mark.parametrize(("factor", "doubted"), [(1, False), (1000, True)])
def test_seconds_that_were_milliseconds_are_doubted_where_figures_are_known(factor: float, doubted: bool) -> None:
    table, _ = _made_up(40, 16, low=500)
    assert table.batches[0].seconds is not None
    table.batches[0].seconds[:] *= factor
    found = fit(table, nominal=DeviceFigures(peak={"f32": PEAK}, bandwidth=BANDWIDTH)).findings
    assert any(finding.code == "unit-doubtful" for finding in found) == doubted


def test_extra_columns_and_another_order_of_them_change_nothing() -> None:
    rng = np.random.default_rng(3)
    sizes = np.exp(rng.uniform(3, 8, (30, 3))).astype(int).tolist()
    seconds = [COST + 2.0 * m * n * k / PEAK for m, n, k in sizes]
    plain = "".join(f"matmul,f32,m={m};n={n};k={k},{s}\n" for (m, n, k), s in zip(sizes, seconds, strict=True))
    other = "".join(
        f"{s},some card,k={k};m={m};n={n},note,matmul,f32\n" for (m, n, k), s in zip(sizes, seconds, strict=True)
    )
    first = fit(read_rows(io.StringIO(f"op,dtype,params,seconds\n{plain}"), need_seconds=True))
    second = fit(read_rows(io.StringIO(f"seconds,device,params,remark,op,dtype\n{other}"), need_seconds=True))
    assert first.fits.operators[0].terms == pytest.approx(second.fits.operators[0].terms)
