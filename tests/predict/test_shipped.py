"""The fits that the package carries: there, small, with their sources, and enough for a device known by its name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from microbench.cli.predict import Asked
from microbench.errors import UsageError
from microbench.hardware.tables import gpus
from microbench.operators import op, table_of
from microbench.predict import predict
from microbench.predict.operator import predict_table
from microbench.predict.sources import named, shipped
from microbench.predict.transfer import families_of

FOLDER = resources.files("microbench.predict").joinpath("shipped")


def test_every_shipped_fit_says_where_it_is_from_and_what_it_stands_beside() -> None:
    said = FOLDER.joinpath("SOURCES.md").read_text(encoding="utf-8")
    assert shipped()
    for held in shipped():
        assert gpus.find(held.device.name) is not None
        (source,) = [finding.says for finding in held.findings if finding.code == "source"]
        assert any(licence in source for licence in ("MIT", "Apache-2.0"))
        assert source.removeprefix("from a public table: ").removesuffix(".") in said
        for fit in held.fits.operators:
            assert fit.figures["measured"] == 1.0
            assert {"bandwidth", "units"} <= set(fit.figures)


def test_shipped_fits_are_small() -> None:
    files = [each for each in FOLDER.iterdir() if each.name.endswith(".json.gz")]
    assert len(files) == len(shipped())
    assert sum(len(each.read_bytes()) for each in files) < 2_000_000


@pytest.mark.parametrize(
    "asked",
    [
        op("matmul", m=4096, n=4096, k=4096, dtype="bf16", launch="graph"),
        op("matmul", m=4096, n=4096, k=4096, dtype="f8e4m3", launch="graph"),
        op("attention", b=8, heads=32, kv_heads=8, q_len=1, kv_len=8192, head_dim=128, dtype="bf16", launch="graph"),
        op("softmax", rows=65536, cols=4096, dtype="f32"),
        op("layer_norm", rows=65536, cols=4096, dtype="f16"),
    ],
)
def test_an_operator_is_predicted_on_a_card_of_which_nothing_but_its_name_is_known(asked: object) -> None:
    (found,) = predict([asked], on="L40S")  # type: ignore[list-item]
    figures = gpus.find("L40S")
    assert figures is not None
    assert found.seconds.low < found.seconds.value < found.seconds.high
    # Not before the data sheet allows it, and within a few times of it.
    assert 0.8 * found.work.bytes / figures.memory_bandwidth < found.seconds.value < 1.0
    assert found.seconds.basis is not None
    assert "carried from" in found.seconds.basis


def test_a_carried_fit_of_a_shipped_device_is_near_its_own() -> None:
    asked = [op("matmul", m=m, n=4096, k=4096, dtype="bf16", launch="graph") for m in (16, 512, 8192)]
    (own,) = [held for held in named("H200") if any(fit.dtype == "bf16" for fit in held.fits.operators)]
    exact = predict_table(table_of(asked), own).predicted
    assert [each.seconds.value for each in predict(asked, on="H200")] == pytest.approx(exact.tolist(), rel=0.4)


def test_without_any_result_the_shipped_fits_are_taken_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = families_of(table_of([op("softmax", rows=8, cols=8)]))
    held = Asked(on="H100").held(wanted)
    assert held.device.name == "H100 SXM5 80GB"
    said = capsys.readouterr().err
    assert "the calibration is the shipped fits of" in said
    assert "nominal, not measured" in said


def test_a_name_that_is_neither_file_nor_shipped_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no shipped fit of that name; shipped are .*H100"):
        named("Z900")
