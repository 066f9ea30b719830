"""From where on a declared number is a fault, and of what kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from microbench.interop.audit import Checked, audit, check
from microbench.interop.declared import Declared
from microbench.interop.references import Known, Reference


def declared(quantity: str, value: float, dtype: str | None = None) -> Declared:
    return Declared(device="Fake", quantity=quantity, value=value, where="x", stated="x", dtype=dtype)  # type: ignore[arg-type]


FAKE = Reference(
    name="Fake",
    known={
        ("compute", "bf16"): (Known(value=100e12, source="Fake"),),
        ("compute", "f32"): (Known(value=10e12, source="Fake"),),
        ("bandwidth", None): (Known(value=1000e9, source="Fake"),),
    },
)


def held(row: Declared, measured: bool = False) -> Checked:
    given = Reference(name=FAKE.name, known=FAKE.known, measured=measured)
    return next(each for each in check([row], "toml", given, "x") if each.declared is row)


def code(row: Declared, measured: bool = False) -> str | None:
    finding = held(row, measured).finding
    return finding.code if finding else None


@pytest.mark.parametrize(("dtype", "other"), [("f16", "bf16"), ("bf16", "f16")])
def test_both_formats_of_sixteen_bits_are_held_against_either(dtype: str, other: str) -> None:
    known = {("compute", other): (Known(value=100e12, source="Fake"),)}
    row = declared("compute", 200e12, dtype)
    (found, *_) = check([row], "toml", Reference(name="Fake", known=known), "x")  # type: ignore[arg-type]
    assert found.finding is not None
    assert found.finding.code == "declared-sparse"
    (right, *_) = check([declared("compute", 100e12, dtype)], "toml", Reference(name="Fake", known=known), "x")  # type: ignore[arg-type]
    assert (right.finding, right.reference) == (None, known["compute", other][0])


def test_other_formats_are_held_against_their_own_rate_alone() -> None:
    assert held(declared("compute", 100e12, "i8")).reference is None
    assert code(declared("compute", 100e12, "f32")) is not None


def test_a_rate_without_a_dtype_may_be_that_of_any() -> None:
    assert (code(declared("compute", 100e12)), code(declared("compute", 10e12))) == (None, None)


@pytest.mark.parametrize(
    ("share", "found"),
    [
        (1.035, None),
        (0.965, None),
        (1.0487, "declared-unit"),  # MiB for MB
        (1.09, "declared-off"),
        (1.0737, "declared-unit"),  # GiB for GB
        (1.065, "declared-unit"),  # the same, rounded to two digits
        (0.94, "declared-unit"),  # GB for GiB, rounded
        (0.9, "declared-off"),
        (1.2, "declared-off"),
    ],
)
def test_binary_prefixes_are_recognised_though_the_figure_was_rounded(share: float, found: str | None) -> None:
    assert code(declared("bandwidth", share * 1000e9), measured=True) == found


@pytest.mark.parametrize(("share", "severity"), [(1.2, "warning"), (1.3, "error"), (0.8, "warning"), (0.7, "error")])
def test_beyond_a_quarter_an_unexplained_figure_is_a_fault_and_within_it_an_old_edition(
    share: float, severity: str
) -> None:
    finding = held(declared("compute", share * 10e12, "f32")).finding
    assert finding is not None
    assert (finding.code, finding.severity) == ("declared-off", severity)


def test_whatever_is_below_what_was_measured_is_a_fault() -> None:
    finding = held(declared("compute", 9e12, "f32"), measured=True).finding
    assert finding is not None
    assert finding.severity == "error"
    assert finding.says.endswith("lower than what was measured")


@pytest.mark.parametrize(
    ("factor", "found"),
    [(2.19, "declared-sparse"), (2.35, "declared-off"), (0.46, "declared-half"), (0.41, "declared-off")],
)
def test_a_factor_of_two_is_recognised_within_a_tenth_of_what_is_known(factor: float, found: str) -> None:
    assert code(declared("compute", factor * 100e12, "bf16"), measured=True) == found


@pytest.mark.parametrize(("gigabytes", "right"), [(24, True), (25.8, True), (22, True), (20, False), (28, False)])
def test_a_capacity_may_be_in_gib_and_lack_what_the_driver_keeps(tmp_path: Path, gigabytes: float, right: bool) -> None:
    path = tmp_path / "x.toml"
    path.write_text(
        f'[[device]]\nname = "x"\nbandwidth = "300 GB/s"\nmemory = "{gigabytes} GB"\n'
        'compute = { bf16 = "121 TFLOP/s" }\n'
    )
    found = {each.declared.where: each.finding for each in audit(path, "NVIDIA L4")}
    assert (found["x.memory"] is None) is right
