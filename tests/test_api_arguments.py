"""Wrong arguments of the Python functions: the sentence that the command line would print, never an error from inside.

What Python itself refuses, an argument that a function does not have or misses, is a TypeError as ever.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import one_sentence
from fake_characterisation import characterisation
from places import DATA

import microbench as mb
from microbench.analysis.roofline import Roofline
from microbench.errors import CannotRun, MicrobenchError, UsageError
from microbench.operators import parse, read_rows

Call = Callable[[], object]
C = characterisation()
ROWS = "op,dtype,params,seconds\n" + "".join(f"matmul,f32,m={m};n=8;k=8,1e-5\n" for m in range(8, 20))
MATMUL = "matmul:m=8,n=8,k=8"


def rows() -> io.StringIO:
    return io.StringIO(ROWS)


WRONG: dict[str, Call] = {
    # load
    "load nothing": lambda: mb.load(None),
    "load a number": lambda: mb.load(5),
    "load bytes": lambda: mb.load(b"x.json"),
    "load a list": lambda: mb.load(["x.json"]),
    "load a name with a zero": lambda: mb.load("x\0.json"),
    "load an empty name": lambda: mb.load(""),
    "load what is not there": lambda: mb.load("/nowhere/x.json"),
    "load a folder": lambda: mb.load("/"),
    "load a surrogate": lambda: mb.load("\udc80.json"),
    # run
    "run on no device": lambda: mb.run("tpu"),
    "run on a number": lambda: mb.run(3),
    "run on None": lambda: mb.run(None),
    "run on a list": lambda: mb.run(["cpu"]),
    "run only a number": lambda: mb.run("cpu", only=5),
    "run only numbers": lambda: mb.run("cpu", only=[5]),
    "run only what is not there": lambda: mb.run("cpu", only="zzz*"),
    "run dtype None": lambda: mb.run("cpu", dtype=None),
    "run dtype a number": lambda: mb.run("cpu", dtype=32),
    "run an unknown dtype": lambda: mb.run("cpu", dtype="f7"),
    "run level a set of numbers": lambda: mb.run("cpu", level={1}),
    "run an unknown level": lambda: mb.run("cpu", level="L9"),
    "run both budgets": lambda: mb.run("cpu", quick=True, thorough=True),
    "run quick by a word": lambda: mb.run("cpu", quick="no"),
    "run for nothing": lambda: mb.run("cpu", time_limit=0),
    "run for text": lambda: mb.run("cpu", time_limit="5s"),
    "run for a list": lambda: mb.run("cpu", time_limit=[5]),
    "run for a truth": lambda: mb.run("cpu", time_limit=True),
    "run for not a number": lambda: mb.run("cpu", time_limit=float("nan")),
    "run with a seed of text": lambda: mb.run("cpu", seed="x"),
    "run with half a seed": lambda: mb.run("cpu", seed=0.5),
    "run with a seed below zero": lambda: mb.run("cpu", seed=-1),
    "run to a number": lambda: mb.run("cpu", out=5),
    # op
    "op of a number": lambda: mb.op(5),
    "op of None": lambda: mb.op(None),
    "op of a list": lambda: mb.op(["matmul"]),
    "op of nothing": lambda: mb.op(""),
    "op unknown": lambda: mb.op("matmull", m=8, n=8, k=8),
    "op without a key": lambda: mb.op("matmul", m=8, n=8),
    "op with a key too many": lambda: mb.op("matmul", m=8, n=8, k=8, z=8),
    "op with text": lambda: mb.op("matmul", m="8", n=8, k=8),
    "op with None": lambda: mb.op("matmul", m=None, n=8, k=8),
    "op with not a number": lambda: mb.op("matmul", m=float("nan"), n=8, k=8),
    "op with infinity": lambda: mb.op("matmul", m=float("inf"), n=8, k=8),
    "op with an array": lambda: mb.op("matmul", m=np.array([8, 9]), n=8, k=8),
    "op with a complex": lambda: mb.op("matmul", m=8j, n=8, k=8),
    "op with zero": lambda: mb.op("matmul", m=0, n=8, k=8),
    "op too large": lambda: mb.op("matmul", m=2**70, n=8, k=8),
    "op dtype a number": lambda: mb.op("matmul", dtype=32, m=8, n=8, k=8),
    "op dtype None": lambda: mb.op("matmul", dtype=None, m=8, n=8, k=8),
    "op launched by a number": lambda: mb.op("matmul", m=8, n=8, k=8, launch=5),
    "op launched by a list": lambda: mb.op("matmul", m=8, n=8, k=8, launch=["eager"]),
    "op of an unknown cache": lambda: mb.op("matmul", m=8, n=8, k=8, cache="warm"),
    "op of an unknown pass": lambda: mb.op("matmul", m=8, n=8, k=8, direction="sideways"),
    "parse a number": lambda: parse(5),
    "parse no value": lambda: parse("matmul:m"),
    # fit
    "fit None": lambda: mb.fit(None),
    "fit a number": lambda: mb.fit(5),
    "fit a list": lambda: mb.fit([1, 2]),
    "fit what is not there": lambda: mb.fit("/nowhere/rows.csv"),
    "fit an empty frame": lambda: mb.fit(pd.DataFrame()),
    "fit a frame without seconds": lambda: mb.fit(
        pd.DataFrame({"op": ["relu"], "dtype": ["f32"], "params": ["size=8"]})
    ),
    "fit by a number": lambda: mb.fit(rows(), nominal=5),
    "fit by a list": lambda: mb.fit(rows(), nominal=["A100"]),
    "fit by an unknown card": lambda: mb.fit(rows(), nominal="no such card"),
    "fit named by a number": lambda: mb.fit(rows(), name=5),
    "fit columns of a number": lambda: mb.fit(rows(), columns=5),
    "fit columns of numbers": lambda: mb.fit(rows(), columns=[5]),
    "fit columns without a value": lambda: mb.fit(rows(), columns="m"),
    "fit columns of another unit": lambda: mb.fit(rows(), columns={"seconds": "t:weeks"}),
    "read a number": lambda: read_rows(5),
    # predict
    "predict None": lambda: mb.predict(None, C),
    "predict a number": lambda: mb.predict(5, C),
    "predict numbers": lambda: mb.predict([5, 6], C),
    "predict a dictionary": lambda: mb.predict({"matmul": 8}, C),
    "predict by a path": lambda: mb.predict(MATMUL, "x.json"),
    "predict by None": lambda: mb.predict(MATMUL, None),
    "predict by a number": lambda: mb.predict(MATMUL, 5),
    "predict launched by a number": lambda: mb.predict(MATMUL, C, launch=5),
    "predict launched otherwise": lambda: mb.predict(MATMUL, C, launch="lazily"),
    "predict nonsense": lambda: mb.predict("matmul:m=8", C),
    "predict a dtype without ceiling": lambda: mb.predict("matmul:m=8,n=8,k=8,dtype=f4e2m1", C),
    # compare
    "compare paths": lambda: mb.compare("a.json", "b.json"),
    "compare with None": lambda: mb.compare(C, None),
    "compare numbers": lambda: mb.compare(1, 2),
    # capture
    "capture a number": lambda: mb.capture(5, "8x8:f32"),
    "capture None": lambda: mb.capture(None, "8x8:f32"),
    "capture in a dtype of a number": lambda: mb.capture(lambda x: x + 1, "8x8:f32", dtype=5),
    "capture of an unknown dtype": lambda: mb.capture(lambda x: x + 1, "8x8:f32", dtype="f7"),
    "capture of a number": lambda: mb.capture(lambda x: x + 1, 5),
    "capture of nonsense": lambda: mb.capture(lambda x: x + 1, "8 by 8"),
    "capture of an object": lambda: mb.capture(lambda x: x + 1, object()),
    # the commands as functions
    "validate on a number": lambda: mb.validate(5),
    "validate by a path that is not there": lambda: mb.validate("cpu", "/nowhere/x.json"),
    "validate with a seed of text": lambda: mb.validate("cpu", seed="x"),
    "validate for text": lambda: mb.validate("cpu", time_limit="5s"),
    "validate for less than nothing": lambda: mb.validate("cpu", time_limit=-1),
    "export nothing": lambda: mb.export(None, "pytorch"),
    "export to a number": lambda: mb.export(C, 5),
    "export to an unknown format": lambda: mb.export(C, "nope"),
    "audit a number": lambda: mb.audit(5),
    "audit None": lambda: mb.audit(None),
    "audit what is not there": lambda: mb.audit("/nowhere"),
    "audit against a number": lambda: mb.audit(DATA / "audit" / "correct.toml", 5),
    "report nothing": lambda: mb.report(None),
    "report to a number": lambda: mb.report(C, html=5),
    "report to an unknown form": lambda: mb.report(C, pdf="x.pdf"),
    "nominal of a number": lambda: mb.nominal(5),
    "nominal of a list": lambda: mb.nominal(["A100"]),
    "nominal of an unknown card": lambda: mb.nominal("no such card"),
    "doctor of a number": lambda: mb.doctor(5),
    "doctor of an unknown device": lambda: mb.doctor("tpu"),
    "history of a number": lambda: mb.history(5),
    "history of a list": lambda: mb.history([]),
    "history of nowhere": lambda: mb.history("/nowhere"),
    "population of None": lambda: mb.population(None),
    "population of nowhere": lambda: mb.population("/nowhere"),
    "run labelled by a number": lambda: mb.run("cpu", label=5),
    "compare with numbers": lambda: mb.compare(C, [5]),
    "compare with none at all": lambda: mb.compare(C, []),
    # the roofline
    "attainable at text": lambda: C.roofline.attainable("x", "f32"),
    "attainable at None": lambda: C.roofline.attainable(None, "f32"),
    "attainable below zero": lambda: C.roofline.attainable(-1, "f32"),
    "attainable in a dtype of a number": lambda: C.roofline.attainable(1.0, 32),
    "attainable in an unknown dtype": lambda: C.roofline.attainable(1.0, "f7"),
    "attainable at an unknown level": lambda: C.roofline.attainable(1.0, "f32", "L9"),
    "attainable at a list": lambda: C.roofline.attainable(1.0, "f32", ["DRAM"]),
    "attainable by an unknown access": lambda: C.roofline.attainable(1.0, "f32", "DRAM", "peek"),
    "ridge point of None": lambda: C.roofline.ridge_point(None),
    "ridge point at None": lambda: C.roofline.ridge_point("f32", None),
    "roofline of a number": lambda: Roofline.of(5),
    "roofline of another mode": lambda: Roofline.of(C, mode="best"),
    "roofline of half a thread": lambda: Roofline.of(C, threads=0.5),
    "roofline of threads in words": lambda: Roofline.of(C, threads="two"),
    "draw on nothing": lambda: C.draw_roofline(None),
    "draw on a word": lambda: C.roofline.plot("ax"),
}


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_a_usage_error_of_one_sentence(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        WRONG[name]()
    says = str(refused.value)
    assert says.strip()
    assert "\n" not in says
    assert len(says) <= 400
    assert "object has no attribute" not in says
    assert "unsupported operand" not in says


SAME: dict[str, tuple[Call, tuple[str, ...]]] = {
    "device": (lambda: mb.run("tpu"), ("run", "--device", "tpu", "--dry-run")),
    "dtype": (lambda: mb.run("cpu", dtype="f7"), ("run", "--device", "cpu", "--dtype", "f7", "--dry-run")),
    "only": (lambda: mb.run("cpu", only="zzz*"), ("run", "--device", "cpu", "--only", "zzz*", "--dry-run")),
    "file": (lambda: mb.load("/nowhere/x.json"), ("report", "/nowhere/x.json")),
    "operator": (
        lambda: mb.predict("matmull:m=8", mb.load(DATA / "fake-cpu.json")),
        ("predict", "--op", "matmull:m=8", "--calibration", str(DATA / "fake-cpu.json")),
    ),
    "rows": (lambda: mb.fit("/nowhere/rows.csv"), ("fit", "/nowhere/rows.csv", "-o", "-")),
    "card": (lambda: mb.fit("rows.csv", nominal="nope"), ("fit", "rows.csv", "--nominal", "nope", "-o", "-")),
}


@pytest.mark.parametrize("name", SAME)
def test_a_function_says_what_the_command_says(name: str, said: Callable[..., Any]) -> None:
    call, arguments = SAME[name]
    with pytest.raises(MicrobenchError) as refused:
        call()
    code, _, err = said(*arguments)
    one_sentence(err)
    assert code == refused.value.exit_code
    assert err.strip().removeprefix("microbench: ") == str(refused.value)


def test_what_cannot_be_done_here_is_no_usage_error() -> None:
    with pytest.raises(CannotRun):
        mb.run("cpu", out="/proc/nowhere")
    with pytest.raises(CannotRun):
        mb.run("cpu", out="a\0b")
