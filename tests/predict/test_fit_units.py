"""Seconds that are none: rows beside the roofline of what is known of their device."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microbench.errors import UsageError
from microbench.operators import read_rows
from microbench.predict.figures import DeviceFigures
from microbench.predict.fit import datasheet_figures, fit
from microbench.predict.fit_units import plausible

A100 = datasheet_figures("A100")
SIZES = [2048 + 128 * number for number in range(30)]


def gemm(factor: float = 1.0, dtype: str = "bf16", reached: float = 0.7, rows: list[int] = SIZES) -> str:
    """Square products on a device that reaches a share of an A100's figures; seconds in another unit."""
    peak = A100.peak[dtype]
    lines = (f"matmul,{dtype},m={n};n={n};k={n},{factor * (5e-6 + 2 * n**3 / (reached * peak))!r}\n" for n in rows)
    return "op,dtype,params,seconds\n" + "".join(lines)


def codes(text: str, nominal: Any = A100) -> dict[str, str]:
    _, found = plausible(read_rows(io.StringIO(text), need_seconds=True), nominal)
    return {each.code: f"{each.says} {each.remedy}" for each in found}


def test_thirty_products_in_seconds_are_fitted_without_a_word() -> None:
    assert not {"unit-doubtful", "above-roofline", "unit-unchecked"} & set(codes(gemm()))


@pytest.mark.parametrize(("unit", "factor"), [("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
def test_a_unit_that_would_fit_is_named(unit: str, factor: float) -> None:
    rows = [n for n in SIZES if factor < 1e9 or n < 4000]  # no more than eleven days
    says = codes(gemm(factor, rows=rows))["unit-doubtful"]
    assert f"in {unit} they would fit" in says
    assert f"--columns seconds=COLUMN:{unit}" in says


@pytest.mark.parametrize("nominal", [A100, None, DeviceFigures(peak={"bf16": 312e12})])
def test_a_thousand_times_too_fast_is_refused(nominal: DeviceFigures | None) -> None:
    with pytest.raises(UsageError, match=r"above the roofline, .* PFLOP/s in the median.*a thousand times as long"):
        codes(gemm(1e-3), nominal)


def test_one_row_above_the_roofline_is_left_out_and_named() -> None:
    lines = gemm().splitlines()
    op, dtype, params, seconds = lines[8].split(",")
    lines[8] = f"{op},{dtype},{params},{float(seconds) / 1000!r}"
    made = fit(io.StringIO("\n".join(lines)), A100)
    found = {each.code: each for each in made.findings}["above-roofline"]
    assert "1 row" in found.says.replace("rows", "row")
    assert "row 8" in found.says
    assert made.fits.operators[0].rows == len(SIZES) - 1


def test_without_figures_it_is_told_that_nothing_is_held_against_anything() -> None:
    found = codes(gemm(), None)
    assert "--nominal" in found["unit-unchecked"]
    assert "unit-doubtful" not in found


def test_without_figures_rates_of_no_machine_are_doubted() -> None:
    assert "30 large rows take 4.6" in codes(gemm(1e6), None)["unit-doubtful"]
    assert "in ms they would fit" in codes(gemm(1e6), None)["unit-doubtful"]


def test_rows_of_several_units_in_one_table_are_told_apart() -> None:
    head, *lines = gemm().splitlines()
    factors = {"": 1.0, "ms": 1e3, "us": 1e6}
    mixed = []
    for number, line in enumerate(lines):
        start, _, seconds = line.rpartition(",")
        mixed.append(f"{start},{float(seconds) * list(factors.values())[number % 3]!r}")
    _, found = plausible(read_rows(io.StringIO("\n".join([head, *mixed])), need_seconds=True), A100)
    says = [each.says for each in found if each.code == "unit-doubtful"]
    assert [each.split(" ")[0] for each in says] == ["10", "10"]
    assert "row 2, 5, 8; in ms they would fit" in says[0]
    assert "row 3, 6, 9; in us they would fit" in says[1]


def test_tf32_products_that_are_called_f32_are_no_fault() -> None:
    seconds = gemm(dtype="tf32").replace("tf32", "f32")
    assert not {"unit-doubtful", "above-roofline"} & set(codes(seconds))


def test_caches_and_transforms_make_no_fault() -> None:
    sizes = [2**20 * number for number in range(8, 40)]
    relu = "op,dtype,params,seconds\n" + "".join(
        f"relu,f32,size={n},{8 * n / (8 * A100.bandwidth)!r}\n"  # type: ignore[operator]
        for n in sizes
    )
    assert not {"unit-doubtful", "above-roofline"} & set(codes(relu))
    shapes = [(n, 64 + 8 * n, 56) for n in range(8, 40)]
    conv = "op,dtype,params,seconds\n" + "".join(
        f"conv2d,f32,n={n};c_in={c};c_out={c};h={h};kh=3;pad=1,{2 * n * c * c * 9 * h * h / (4 * 19.5e12)!r}\n"
        for n, c, h in shapes
    )
    assert not {"above-roofline"} & set(codes(conv))


def test_moved_bytes_a_thousand_times_too_fast_are_refused() -> None:
    sizes = [2**22 * number for number in range(8, 40)]
    rows = "".join(f"relu,f32,size={n},{8e-3 * n / A100.bandwidth!r}\n" for n in sizes)  # type: ignore[operator]
    with pytest.raises(UsageError, match="above the roofline"):
        codes(f"op,dtype,params,seconds\n{rows}")


def test_the_command_reads_the_table_of_a_profiler(said: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "profile.csv"
    rows = [(n, 1e3 * (5e-6 + 2 * n**3 / (0.7 * 312e12))) for n in SIZES]
    path.write_text("sep=;\nM;N;K;time_ms\n" + "".join(f"{n};{n};{n};{ms!r}\n" for n, ms in rows))
    arguments = ("fit", path, "--nominal", "A100", "-o", "-", "--columns", "dtype=bf16,m=M,n=N,k=K")
    code, out, err = said(*arguments, "--columns", "seconds=time_ms:ms")
    assert code == 0, err
    assert "unit" not in err
    assert '"matmul"' in out
    code, _, err = said(*arguments, "--columns", "seconds=time_ms")
    assert code == 0
    assert "in ms they would fit" in err


def test_sizes_are_drawn_so_that_every_row_is_large() -> None:
    assert all(2 * n**3 / 312e12 > 2e-5 for n in SIZES)
    assert len(np.unique(SIZES)) == 30
