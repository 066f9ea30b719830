from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_backend import fake_device

from microbench.analysis.ceilings import analyse
from microbench.analysis.roofline import Roofline, fit_rooflines
from microbench.kernels import cpu, library
from microbench.kernels.cuda import registry as cuda
from microbench.kernels.cuda import rows
from microbench.kernels.triton import registry as triton
from microbench.records import Sheet, measured
from microbench.records.roles import ROLES, Role, misfit
from microbench.storage import store

STORED = sorted(Path(__file__).parents[2].glob("results/*/*.json"))
FACTS = {"name": "a.f32", "backend": "native", "device_kind": "cpu", "says": ""}


def sheet(measures: str, **facts: object) -> Sheet:
    return Sheet(**{**FACTS, "measures": measures, **facts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("measures", "access", "roles"),
    [
        ("compute", None, ("ceiling", "roof")),
        ("memory", "write", ("ceiling", "roof")),
        ("memory", "read", ("ceiling", "roof", "sweep")),
        ("link", "copy", ("ceiling",)),
        ("latency", "read", ("latency", "sweep")),
        ("intensity", "read", ("intensity",)),
        ("cost", None, ("cost",)),
        ("clock", None, ("clock",)),
    ],
)
def test_a_sheet_from_before_roles_takes_those_that_its_kind_had(
    measures: str, access: str | None, roles: tuple[str, ...]
) -> None:
    assert sheet(measures, access=access).roles == roles


def test_what_a_kernel_declares_is_all_that_it_takes() -> None:
    declared = sheet("memory", access="read", roles=("ceiling",))
    assert declared.takes("ceiling", "roof")
    assert not declared.takes("roof", "sweep")


@pytest.mark.parametrize(
    ("measures", "roles", "says"),
    [
        ("compute", ("peak",), "role 'peak' is unknown; known: ceiling, dram_ceiling"),
        ("compute", ("sweep",), "role 'sweep' is for kernels of memory or latency, not of compute"),
        ("memory", ("roof",), "role 'roof' needs one of ceiling, dram_ceiling beside it"),
    ],
)
def test_a_role_that_a_kernel_cannot_take_is_refused_by_name(measures: str, roles: tuple[str, ...], says: str) -> None:
    with pytest.raises(ValueError, match=f"kernel a.f32: {says}"):
        sheet(measures, roles=roles)


def test_every_role_fits_some_kernel() -> None:
    kinds = ("compute", "memory", "link", "latency", "intensity", "cost", "clock", "operator")
    for role in ROLES:
        beside: tuple[Role, ...] = (role, "ceiling") if role == "roof" else (role,)
        assert any(misfit(beside, kind) is None for kind in kinds), role  # type: ignore[arg-type]


def test_every_kernel_of_the_product_declares_its_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(measures: str, access: str | None) -> tuple[str, ...]:
        raise AssertionError(f"a kernel of {measures} {access} declares no roles")

    monkeypatch.setattr(measured, "undeclared", refused)
    gpu = fake_device(kind="cuda", arch="sm_90a")
    made = [*cpu.sheets(), *(kernel.sheet for device in (fake_device(), gpu) for kernel in library.kernels(device))]
    made += [kernel.sheet for kernel in triton.kernels(gpu)]
    made += [each for target in rows.TARGETS for each in cuda.sheets_for(target)]
    assert len(made) > 400
    assert all(each.roles for each in made)


def test_a_native_kernel_without_roles_is_refused_with_its_file() -> None:
    row = {"name": "ddot.f64.v256", "source": "csrc/cpu/kernels/ddot.cpp", "roles": (), "work": {}}
    with pytest.raises(ValueError, match=r"ddot\.f64\.v256 \(csrc/cpu/kernels/ddot\.cpp\) declares no roles"):
        cpu.sheet_of(row)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.parent.name)
def test_a_file_from_before_roles_gives_the_levels_ceilings_and_rooflines_that_it_holds(path: Path) -> None:
    raw = json.loads(path.read_bytes())
    if any("roles" in row for row in raw["sheets"]):
        pytest.skip("its kernels declare their roles")
    file = store.load(path)
    assert file.plan is not None
    sheets, cases = {each.name: each for each in file.sheets}, {case.key: case for case in file.plan.cases}
    made = analyse(file.samples, file.plan, sheets, file.device)
    assert [(each.seen_by, each.name) for each in made.levels] == [
        (each.seen_by, each.name) for each in file.fits.levels
    ]
    assert {each.case: each.rate for each in made.ceilings} == {each.case: each.rate for each in file.ceilings}
    fits = fit_rooflines(file.samples, cases, sheets, made.levels, file.device)
    assert [(fit.dtype, fit.threads, fit.variant) for fit in fits] == [
        (fit.dtype, fit.threads, fit.variant) for fit in file.fits.rooflines
    ]
    assert [fit.peak for fit in fits] == pytest.approx([fit.peak for fit in file.fits.rooflines], rel=1e-5)
    roofs = Roofline.of(file)
    for (level, access), roof in roofs.bandwidths.items():
        alike = [
            each.rate.value
            for each in file.ceilings
            if (each.level, each.access, each.threads, each.mode) == (level, access, roof.threads, "peak")
        ]
        assert roof.rate.value == max(alike)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.parent.name)
def test_roles_survive_storage(path: Path) -> None:
    file = store.load(path)
    again = store.loads(store.dumps(file))
    assert [(each.name, each.roles, each.family) for each in again.sheets] == [
        (each.name, each.roles, each.family) for each in file.sheets
    ]
