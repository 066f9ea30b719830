"""Every format: equal to a golden file whose units were checked against the consumer; read back as the same figures."""

from __future__ import annotations

import itertools
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from places import DATA

from microbench import interop
from microbench.errors import UsageError
from microbench.interop import formats, readers, render
from microbench.interop.documents import parse
from microbench.records import Fits, OperatorTiming

if TYPE_CHECKING:
    from pytest_regressions.file_regression import FileRegressionFixture

    from microbench.records import Characterisation

GOLDEN = DATA / "export"
NAMES = sorted(formats())

# What each consumer must find, in SI: peaks where it knows efficiencies, what is reached where it does not.
REACHED = {("compute", "bf16"): 750e12, ("compute", "f32"): 54e12, ("compute", "i8"): 1400e12}
CAPACITY = {("capacity", None): 80 * 2**30}
EXPECTED: dict[str, dict[tuple[str, str | None], float]] = {
    "pytorch": {**REACHED, ("bandwidth", None): 2.1e12, **CAPACITY},
    "aiconfigurator": {("compute", "bf16"): 750e12, ("compute", "i8"): 1400e12, ("bandwidth", None): 3e12, **CAPACITY},
    "calculon": {("compute", "bf16"): 1000e12, ("compute", "f32"): 60e12, ("bandwidth", None): 3e12, **CAPACITY},
    "llm-analysis": {("compute", "f16"): 1000e12, ("compute", "i8"): 2000e12, ("bandwidth", None): 3e12, **CAPACITY},
    "llm-viewer": {("compute", "f16"): 750e12, ("compute", "i8"): 1400e12, ("bandwidth", None): 2.4e12},
    "genz": {("compute", "bf16"): 1000e12, ("bandwidth", None): 3e12, **CAPACITY},
    "onnx-tool": {
        ("compute", "f16"): 750e12,
        ("compute", "f32"): 54e12,
        ("compute", "i8"): 1400e12,
        ("bandwidth", None): 2.1e12,
    },
    "servcalc": {("compute", "bf16"): 1000e12, ("bandwidth", None): 3e12, **CAPACITY},
    "astra-sim": {("compute", None): 750e12, ("bandwidth", None): 2.1e12},
}


@pytest.mark.parametrize("name", NAMES)
def test_output_equals_its_golden_file(
    name: str, fake: Characterisation, file_regression: FileRegressionFixture
) -> None:
    suffix = formats()[name].suffix
    file_regression.check(render(fake, name).text, extension=suffix, fullpath=GOLDEN / f"{name}{suffix}")


NEW_FORMAT = """
from microbench.interop import Exported, Request, writes


@writes("throw-away", says="a new format", suffix=".txt", checked="nothing")
def write(request: Request) -> Exported:
    return Exported(text=request.characterisation.device.name)
"""


def test_a_new_file_with_a_writer_is_a_format_and_one_with_an_underscore_is_not_imported(
    fake: Characterisation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "throw_away.py").write_text(NEW_FORMAT)
    (tmp_path / "_helper.py").write_text("raise AssertionError('a module with an underscore was imported')\n")
    monkeypatch.setattr(interop, "FORMATS", dict(formats()))
    monkeypatch.setattr(interop, "__path__", [*interop.__path__, str(tmp_path)])
    assert set(formats()) == {*NAMES, "throw-away"}
    assert render(fake, "throw-away").text == fake.device.name
    sys.modules.pop("microbench.interop.throw_away")


def test_every_module_that_registers_a_format_is_one_that_is_imported() -> None:
    folder = Path(interop.__file__).parent
    files = {
        path.stem for path in folder.glob("*.py") if re.search(r"^@(writes|reads)\(", path.read_text(), re.MULTILINE)
    }
    registered = {
        each.__module__.rpartition(".")[2] for each in (*readers().values(), *(row.write for row in formats().values()))
    }
    assert files == registered


def test_every_format_that_is_written_and_read_has_its_expected_figures_here() -> None:
    assert set(EXPECTED) == set(formats()) & set(readers())


def test_a_second_writer_or_reader_of_a_format_is_refused() -> None:
    formats()
    with pytest.raises(ValueError, match="two functions write the format 'genz'"):
        interop.writes("genz", says="", suffix="", checked="")(lambda _: interop.Exported(text=""))
    with pytest.raises(ValueError, match="two functions read the format 'genz'"):
        interop.reads("genz")(lambda _: None)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_file_is_taken_by_the_reader_of_its_format_alone(name: str, fake: Characterisation) -> None:
    document = parse(render(fake, name).text, formats()[name].suffix, name)
    assert [form for form, read in readers().items() if read(document) is not None] == [name]


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_figures_read_back_are_those_of_the_characterisation(name: str, fake: Characterisation) -> None:
    document = parse(render(fake, name).text, formats()[name].suffix, name)
    declared = readers()[name](document)
    assert declared is not None
    found = {(row.quantity, row.dtype): row.value for row in declared}
    wanted = EXPECTED[name]
    assert {key: value for key, value in found.items() if key in wanted} == {
        key: pytest.approx(wanted[key], rel=1e-5) for key in wanted
    }
    assert found.keys() - wanted.keys() <= {("compute", "i8"), ("compute", "f16")}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_each_document_is_taken_by_one_reader_only(name: str, fake: Characterisation) -> None:
    document = parse(render(fake, name).text, formats()[name].suffix, name)
    assert [other for other, read in readers().items() if read(document) is not None] == [name]


def test_every_format_names_the_source_that_was_checked() -> None:
    assert all(each.checked and each.says and each.suffix.startswith(".") for each in formats().values())


@pytest.mark.parametrize("name", NAMES)
def test_a_characterisation_without_ceilings_is_refused_in_a_sentence(name: str, fake: Characterisation) -> None:
    bare = replace(fake, ceilings=(), samples=(), costs=(), fits=replace(fake.fits, operators=()))
    with pytest.raises(UsageError, match=r"needs .*microbench run"):
        render(bare, name)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"pytorch-trace"}))
def test_rates_of_one_core_are_not_passed_off_as_the_device(name: str, fake: Characterisation) -> None:
    cores = tuple(replace(row, scope="core") for row in fake.ceilings)
    bare = replace(fake, ceilings=cores, fits=replace(fake.fits, operators=()))
    with pytest.raises(UsageError, match=r"over the whole device|needs a compute ceiling"):
        render(bare, name)


def test_a_missing_dram_ceiling_is_named() -> None:
    from microbench.interop.figures import need_bandwidth

    with pytest.raises(UsageError, match=r"needs a DRAM ceiling \(read\).*--level DRAM"):
        need_bandwidth(_without_memory(), "llm-viewer", "read")


def _without_memory() -> Characterisation:
    from microbench.records import Characterisation, Device

    return Characterisation(
        schema="1.0", device=Device(id="1", kind="cpu", name="Fake", arch="fake"), environment=None, plan=None
    )


def test_unknown_format_and_dtype_are_named(fake: Characterisation) -> None:
    with pytest.raises(UsageError, match=r"unknown export format 'excel'; known: aiconfigurator, "):
        render(fake, "excel")
    with pytest.raises(UsageError, match=r"unknown dtype 'f7'"):
        render(fake, "astra-sim:f7")
    with pytest.raises(UsageError, match=r"needs a compute ceiling of f64"):
        render(fake, "astra-sim:f64")


def test_astra_sim_takes_the_dtype_that_was_asked_for(fake: Characterisation) -> None:
    assert '"peak-perf": 54' in render(fake, "astra-sim:f32").text


def test_efficiency_curve_falls_with_size_and_stays_a_share() -> None:
    from microbench.interop.calculon import curve
    from microbench.interop.figures import Rate

    rows = curve(Rate(value=750e12, peak=1000e12, source="x"), 2e-6, (4096.0, 64.0, 1.0), 1e9)
    sizes, shares = [row[0] for row in rows], [float(row[1]) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 0
    assert shares == sorted(shares, reverse=True)
    assert all(0 < share <= 0.75 for share in shares)
    # 128 GFLOP at 750 T/s are 170.7 us, with 2 us on top: 74.1 % of the peak
    assert dict(rows)[64] == pytest.approx(0.75 * 170.667 / 172.667, rel=1e-3)


def test_efficiency_curve_covers_every_size_as_the_consumer_looks_it_up(fake: Characterisation) -> None:
    document = parse(render(fake, "calculon").text, ".json", "calculon")
    for engine in ("matrix", "vector"):
        for entry in document[engine].values():
            steps = entry["gflops_efficiency"]
            assert all(above[0] > below[0] for above, below in itertools.pairwise(steps))
            for flop in (1.0, 1e6, 1e9, 1e15):
                share = next(eff for gflop, eff in steps if flop >= gflop * 1e9)
                assert 0 < share <= 1


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_device_name_stays_text(name: str, fake: Characterisation) -> None:
    hostile = 'X"""\nraise SystemExit(7)\n#\\N{x}'
    rows = tuple(replace(row, name="a\nraise SystemExit(7)") for row in fake.ceilings)
    written = render(replace(fake, device=replace(fake.device, name=hostile), ceilings=rows), name).text
    if formats()[name].suffix == ".py" and name != "servcalc":  # servcalc's file imports its consumer
        exec(compile(written, name, "exec"), {"__name__": "generated"})  # noqa: S102
    assert not any(line.startswith("raise SystemExit") for line in written.splitlines())


def test_trace_has_the_calibrated_rows_that_are_hot_and_have_an_aten_name(fake: Characterisation) -> None:
    timings = (
        OperatorTiming(op="linear", dtype="f32", params="m=2;n=3;k=4;bias=0", seconds=5e-6, rounds=5),
        OperatorTiming(op="linear", dtype="f32", params="m=2;n=3;k=4;bias=1", seconds=6e-6, rounds=5),
        OperatorTiming(op="add", dtype="f32", params="size=10", seconds=1e-6, rounds=5, cache="cold"),
        OperatorTiming(op="lstm_cell", dtype="f32", params="b=1;input=2;hidden=3", seconds=1e-6, rounds=5),
    )
    bare = replace(fake, plan=None, samples=(), fits=Fits(timings=timings))
    events = json.loads(render(bare, "pytorch-trace").text)["traceEvents"]
    calls = [(event["name"], event["dur"], event["args"]["Input Dims"]) for event in events if event["cat"] == "cpu_op"]
    assert calls == [("aten::mm", 5.0, [[2, 4], [4, 3]]), ("aten::addmm", 6.0, [[3], [2, 4], [4, 3]])]
