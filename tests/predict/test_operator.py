from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from microbench.cli.predict import nominal_from
from microbench.errors import UsageError
from microbench.operators import op
from microbench.operators.features import describe
from microbench.predict import predict
from microbench.predict.figures import DeviceFigures
from microbench.predict.fit import fit
from microbench.predict.operator import roofs
from microbench.records import Ceiling, Characterisation, Cost, Device, Estimate, MemoryLevel
from microbench.storage.store import dumps


def _exactly(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def small_machine() -> Characterisation:
    """1 TFLOP/s of f32, 1 MB of L2 at 1 TB/s, DRAM at 100 GB/s, 1 us to launch."""
    device = Device(
        id="0", kind="cpu", name="small", arch="none", levels=(MemoryLevel(name="L2", capacity_bytes=10**6),)
    )
    ceilings = (
        Ceiling(name="fma.f32", measures="compute", backend="native", rate=_exactly(1e12), case="a", dtype="f32"),
        Ceiling(name="read.l2", measures="memory", backend="native", rate=_exactly(1e12), case="b", level="L2"),
        Ceiling(name="read.dram", measures="memory", backend="native", rate=_exactly(1e11), case="c", level="DRAM"),
    )
    return Characterisation(
        schema="1.0",
        device=device,
        environment=None,
        plan=None,
        ceilings=ceilings,
        costs=(Cost(name="launch.eager", seconds=_exactly(1e-6)),),
    )


def test_without_a_fit_the_roofline_and_the_cost_add_up() -> None:
    (square,) = predict("matmul:m=1000,n=1000,k=1000", small_machine())
    assert square.limiter == "compute"
    assert square.seconds.value == pytest.approx(1e-6 + 2e9 / 1e12)
    assert square.seconds.low < square.seconds.value < square.seconds.high


def test_a_working_set_that_fits_is_served_by_the_cache_unless_it_is_cold() -> None:
    hot, cold = predict([op("copy", size=10**5), op("copy", size=10**5, cache="cold")], small_machine())
    assert (hot.level, cold.level) == ("L2", "DRAM")
    assert cold.terms["memory"] == pytest.approx(10 * hot.terms["memory"])


def test_a_tiny_operator_is_bound_by_its_cost() -> None:
    (tiny,) = predict([op("add", size=4)], small_machine())
    assert (tiny.bound, tiny.limiter) == ("cost", "cost")


def test_a_dtype_without_a_ceiling_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="it has f32"):
        roofs(small_machine(), "bf16")


def test_the_package_offers_the_function_although_a_folder_of_that_name_is_imported() -> None:
    import microbench
    from microbench.predict import operator

    assert operator.roofs is roofs
    assert microbench.predict is predict
    assert microbench.op("add", size=1) == op("add", size=1)


def _command(*arguments: str) -> tuple[int, str, str]:
    from click.testing import CliRunner

    from microbench.cli.main import cli
    from microbench.errors import MicrobenchError

    result = CliRunner().invoke(cli, arguments)
    if isinstance(result.exception, MicrobenchError):
        return result.exception.exit_code, "", str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_rows_come_back_in_their_order_with_four_columns_more(tmp_path: Path) -> None:
    calibration, rows = tmp_path / "c.json", tmp_path / "rows.csv"
    calibration.write_bytes(dumps(small_machine()))
    rows.write_text(
        "op,dtype,params,note\nrelu,f32,size=8,first\nnope,f32,m=1,second\nmatmul,f32,m=8;n=8;k=8,third\n",
        encoding="utf-8",
    )
    code, out, err = _command("predict", "--ops", str(rows), "--calibration", str(calibration))
    lines = out.splitlines()
    assert code == 1  # a row could not be read
    assert lines[0] == "op,dtype,params,note,predicted,low,high,limiter"
    assert [line.split(",")[3] for line in lines[1:]] == ["first", "second", "third"]
    assert lines[2].endswith(",,,,")
    assert "row 2: unknown operator" in err


def test_one_operator_is_predicted_as_json(tmp_path: Path) -> None:
    calibration = tmp_path / "c.json"
    calibration.write_bytes(dumps(small_machine()))
    code, out, _ = _command(
        "predict", "--op", "matmul:m=1000,n=1000,k=1000", "--calibration", str(calibration), "--json", "-"
    )
    (row,) = json.loads(out)
    assert code == 0
    assert row["limiter"] == "compute"
    assert row["macs"] == 10**9
    assert row["low"] < row["seconds"] < row["high"]


def test_a_fit_is_written_once_and_never_over_another_file(tmp_path: Path) -> None:
    rows, output = tmp_path / "rows.csv", tmp_path / "fit.json"
    text = "".join(f"relu,f32,size={2**place},{2e-6 + 2**place * 8 / 1e11}\n" for place in range(8, 24))
    rows.write_text("op,dtype,params,seconds\n" + text, encoding="utf-8")
    assert _command("fit", str(rows), "--ceiling", "f32=10", "--bandwidth", "100", "-o", str(output))[0] == 0
    code, out, _ = _command("predict", "--op", "relu:size=1000000", "--calibration", str(output), "--json", "-")
    assert code == 0
    assert json.loads(out)[0]["seconds"] == pytest.approx(2e-6 + 8e6 / 1e11, rel=0.1)
    assert _command("fit", str(rows), "-o", str(output))[0] == 2


@pytest.mark.parametrize(
    "arguments", [(), ("--op", "relu:size=1", "--ops", "x.csv"), ("--ops", "missing.csv"), ("--op", "relu")]
)
def test_what_cannot_be_predicted_exits_with_two(arguments: tuple[str, ...]) -> None:
    assert _command("predict", *arguments)[0] == 2


@pytest.mark.parametrize("ceiling", ["bf16", "bf16=", "f33=3", "bf16=-1", "bf16=nan", "bf16=1e30"])
def test_a_ceiling_without_a_plausible_unit_is_refused(ceiling: str) -> None:
    with pytest.raises(UsageError):
        nominal_from(None, [ceiling], None)


def test_weights_of_a_large_model_come_from_beyond_the_cache() -> None:
    from microbench.operators import table_of
    from microbench.predict.analytic import memory_seconds

    theta = {"bandwidth": 25.0, "capacity.0": 14.0, "ratio.0": 1.0}
    batch = table_of([op("linear", m=1, n=64, k=64), op("relu", size=4096)]).batches
    alone = [float(memory_seconds(theta, describe(each))[0]) for each in batch]
    inside = [float(memory_seconds(theta, describe(each, footprint=1e9))[0]) for each in batch]
    assert inside[0] > 2 * alone[0]
    assert inside[1] == pytest.approx(alone[1])


def test_rows_predicted_in_pieces_are_those_predicted_alone() -> None:
    import numpy as np

    from microbench.operators import table_of
    from microbench.predict.figures import DeviceFigures
    from microbench.predict.fit import fit
    from microbench.predict.operator import PIECE, predict_table

    rng = np.random.default_rng(1)
    sizes = np.exp(rng.uniform(3, 7, (PIECE + 300, 3))).astype(int).tolist()
    made = [op("matmul", m=m, n=n, k=k) for m, n, k in sizes]
    seconds = [5e-6 + 2 * m * n * k / 1e13 * (1 + 0.2 * np.sin(m)) for m, n, k in sizes[:30]]
    held = fit(table_of(made[:30], seconds), DeviceFigures(peak={"f32": 1e13}, bandwidth=1e12, units=108, kind="cuda"))
    together, few = predict_table(table_of(made), held), predict_table(table_of(made[-40:]), held)
    for name in ("predicted", "low", "high", "compute_s", "flop"):
        assert np.allclose(getattr(together, name)[-40:], getattr(few, name), rtol=1e-5), name
    assert together.limiter[-40:].tolist() == few.limiter.tolist()


def test_a_sibling_that_was_not_measured_has_the_wider_interval() -> None:
    import numpy as np

    from microbench.operators import table_of
    from microbench.predict.fit import fit

    measured = [op(name, size=2**place) for place in range(8, 24) for name in ("relu", "add")]
    held = fit(table_of(measured, [2e-6 + each.work.bytes / 1e11 for each in measured]))
    relu, tanh = predict([op("relu", size=10**6), op("tanh", size=10**6)], held)
    assert np.log(tanh.seconds.high / tanh.seconds.low) > np.log(relu.seconds.high / relu.seconds.low)
    assert "other elementwise" in str(tanh.seconds.basis)


def test_a_calibrated_operator_is_limited_by_the_level_that_holds_its_bytes() -> None:
    rows = "\n".join(f"add,f32,size={2**place},{1e-7 + 12 * 2.0**place / 1e10}" for place in range(8, 26))
    known = DeviceFigures(peak={"f32": 1e13}, bandwidth=1e10)
    held = replace(small_machine(), fits=fit(io.StringIO("op,dtype,params,seconds\n" + rows), known).fits)
    within, beyond, cold = predict(["add:size=65536", "add:size=16777216", "add:size=65536,cache=cold"], held)
    assert (within.limiter, beyond.limiter, cold.limiter) == ("memory:L2", "memory:DRAM", "memory:DRAM")
    assert within.seconds.basis is not None
    assert within.seconds.basis.startswith("conformal")


def test_as_many_predictions_come_back_as_operators_were_asked_for() -> None:
    asked = [op("copy", size=8), op("matmul", m=8, n=8, k=8), op("matmul", m=8, n=8, k=8, dtype="f64")]
    assert len(predict(asked[:2], small_machine())) == 2
    with pytest.raises(UsageError, match=r"matmul.m=8;n=8;k=8..f64 cannot be predicted: .*no f64 compute ceiling"):
        predict(asked, small_machine())
