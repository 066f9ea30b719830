"""Every command has a function of its name, and every result fits a line, a frame and a notebook."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pytest
from places import DATA

import microbench as mb
from microbench.errors import UsageError

GOOD = DATA / "fake-cpu.json"
LINE = 400


def shown(result: object, rows: int) -> None:
    assert len(repr(result)) < LINE
    assert len(result.to_frame()) >= rows  # type: ignore[attr-defined]
    html = result._repr_html_()  # type: ignore[attr-defined]
    assert html.startswith("<p>")
    assert "<table" in html


def test_a_characterisation_its_roofline_and_a_comparison_are_shown_short() -> None:
    held = mb.load(GOOD)
    shown(held, len(held.ceilings))
    shown(held.roofline, len(held.roofline.peaks))
    shown(mb.compare(held, held), 1)
    assert "same" in repr(mb.compare(held, held))


def test_predictions_are_a_list_and_a_frame() -> None:
    found = mb.predict(["matmul:m=64,n=64,k=64,dtype=f32", "add:size=1000,dtype=f32"], mb.load(GOOD))
    shown(found, 2)
    assert list(found.to_frame()["seconds"]) == [each.seconds.value for each in found]
    assert found[1:] == list(found)[1:]


def test_drawing_a_roofline_returns_its_axes() -> None:
    with mpl.rc_context({"backend": "agg"}):
        from matplotlib.figure import Figure

        axes = Figure().add_subplot()
        assert mb.load(GOOD).roofline.plot(axes) is axes


def test_commands_on_files_are_functions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mb.report(GOOD) == ()
    assert "Compute" in capsys.readouterr().out
    assert mb.report(mb.load(GOOD), md=tmp_path / "x.md") == (tmp_path / "x.md",)
    with pytest.raises(UsageError, match="not pdf"):
        mb.report(GOOD, pdf=tmp_path / "x.pdf")
    assert "f32" in mb.export(GOOD, "pytorch").text
    shown(mb.audit(DATA / "audit" / "typed_in.toml"), 1)
    assert len(repr(mb.export(GOOD, "pytorch"))) < LINE
    shown(mb.nominal("A100"), 1)


def test_the_doctor_gives_findings_as_rows() -> None:
    shown(mb.doctor("cpu"), 1)


def test_a_folder_has_a_history_and_is_a_population(tmp_path: Path) -> None:
    (tmp_path / "fake.json").write_bytes(GOOD.read_bytes())
    shown(mb.history(tmp_path), 1)
    shown(mb.population(tmp_path), 1)
    with pytest.raises(UsageError, match="no folder"):
        mb.history(tmp_path / "none")
