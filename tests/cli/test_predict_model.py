"""What predict writes of a whole model: one document with latency, work, memory, modules and every operator."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from click.testing import CliRunner

from microbench.cli.main import cli
from microbench.errors import UsageError
from microbench.records import Ceiling, Characterisation, Device, Estimate, MemoryLevel
from microbench.storage.store import dumps

LAYER = "torch.nn:TransformerEncoderLayer(16, 2, 32, batch_first=True)"


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    """1 TFLOP/s in f32 and 100 GB/s, no fits; nothing in bf16."""
    exactly = [Estimate(value=value, low=value, high=value) for value in (1e12, 1e11)]
    ceilings = (
        Ceiling(name="fma.f32", measures="compute", backend="native", rate=exactly[0], case="a", dtype="f32"),
        Ceiling(name="read.dram", measures="memory", backend="native", rate=exactly[1], case="b", level="DRAM"),
    )
    device = Device(id="0", kind="cpu", name="small", arch="none", levels=(MemoryLevel(name="DRAM"),))
    made = tmp_path / "small.json"
    made.write_bytes(
        dumps(Characterisation(schema="1.0", device=device, environment=None, plan=None, ceilings=ceilings))
    )
    return made


def predicted(calibration: Path, *more: str) -> Any:
    asked = ["predict", "--model", LAYER, "--input", "2x5x16", "--calibration", str(calibration), *more]
    return CliRunner(env={"COLUMNS": "160"}).invoke(cli, asked, catch_exceptions=False)


def test_the_document_holds_the_model_its_modules_and_every_operator(calibration: Path) -> None:
    document = json.loads(predicted(calibration, "--json", "-").stdout)
    model, modules, operators = (document[name] for name in ("model", "modules", "operators"))
    assert model["low"] <= model["seconds"] <= model["high"]
    assert model["flop"] == sum(row["flop"] for row in operators) == modules[0]["flop"]
    assert model["parameters"] == modules[0]["parameters"] == 2224
    assert model["parameter_bytes"] == 4 * 2224
    assert model["peak_bytes"] >= model["mean_bytes"] > model["parameter_bytes"]
    assert model["operators"] == len(operators) == modules[0]["operators"]
    assert {row["module"] for row in operators} >= {"self_attn", "linear1", "norm2"}
    assert model["compute_share"] > 0
    assert model["memory_share"] > 0


def test_the_table_holds_the_same_with_the_model_first(calibration: Path) -> None:
    document = json.loads(predicted(calibration, "--json", "-").stdout)
    rows = list(csv.DictReader(io.StringIO(predicted(calibration, "--csv", "-").stdout)))
    assert rows[0]["row"] == "model"
    assert float(rows[0]["seconds"]) == document["model"]["seconds"]
    assert [row["op"] for row in rows if row["row"] == "operator"] == [row["op"] for row in document["operators"]]
    assert len([row for row in rows if row["row"] == "module"]) == len(document["modules"])


def test_an_operator_that_cannot_be_predicted_is_written_without_a_time(calibration: Path, tmp_path: Path) -> None:
    """Indices are integers, of which this device has no ceiling."""
    out = tmp_path / "out.json"
    asked = ["predict", "--model", "torch.nn:Embedding(50, 16)", "--input", "3:i64", "--calibration", str(calibration)]
    CliRunner().invoke(cli, [*asked, "--json", str(out)], catch_exceptions=False)
    assert all(row["seconds"] is None or row["seconds"] > 0 for row in json.loads(out.read_text())["operators"])


def test_the_tree_is_as_deep_as_asked(calibration: Path) -> None:
    shallow, deep = (predicted(calibration, "--tree", depth).stdout for depth in ("0", "2"))
    assert "linear1" not in shallow
    assert "    out_proj" in deep


def test_a_compiled_model_has_no_tree(calibration: Path) -> None:
    asked = ["predict", "--model", LAYER, "--input", "2x5x16", "--calibration", str(calibration)]
    result = CliRunner().invoke(cli, [*asked, "--compiled", "--tree"])
    assert isinstance(result.exception, UsageError)
    assert "belong to no module" in str(result.exception)


def test_weights_of_fewer_bits_are_said_with_what_is_assumed(calibration: Path) -> None:
    result = predicted(calibration, "--weights", "i8")
    assert "parameters are stored in i8" in result.stderr
