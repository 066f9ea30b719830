from __future__ import annotations

import dataclasses

import pytest

from microbench.hardware.cuda import imagined
from microbench.kernels.cuda import code, registry
from microbench.proof import prove
from microbench.records import Sheet


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend a driver that can load the installed cubins; they are read, never loaded."""
    extension = code.extensions.cuda()
    if not list(code.installed().glob("*.sm_90a.cubin")):
        pytest.skip("no cubins are installed: built without nvcc")
    built = int(str(extension.build_info()["nvcc"]).partition(".")[0])

    class Newer:
        __file__ = extension.__file__
        build_info = extension.build_info

        @staticmethod
        def driver_version() -> int:
            return built * 1000

    monkeypatch.setattr(code.extensions, "cuda", lambda: Newer)


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(("target", "short"), [("sm_80", set()), ("sm_90a", {"fma.f64"})])
def test_cuda_sheets_are_proven_in_the_code_that_the_device_would_load(target: str, short: set[str]) -> None:
    device = imagined(target)
    sheets = [sheet for sheet, _ in registry.sheets(device) if sheet.unavailable is None]
    compute = [sheet for sheet in sheets if sheet.measures == "compute"]
    found = prove(sheets, device)
    assert compute
    unproven = {sheet.name: found[sheet.name].reason for sheet in compute if found[sheet.name].status != "proven"}
    # Counts alone prove nothing: this one's schedule leaves 92 % of its unit's rate.
    assert set(unproven) == short
    assert all("schedule" in str(reason) for reason in unproven.values())
    assert all("cubin" in (found[sheet.name].source or "") for sheet in compute)


def test_without_a_device_or_a_disassembler_for_it_nothing_is_claimed() -> None:
    sheet = Sheet(name="fma.f32", measures="compute", backend="cuda", device_kind="cuda", says="", symbol="x")
    torch = dataclasses.replace(sheet, name="gemm.f32", backend="torch")
    assert {proof.status for proof in prove([sheet, torch]).values()} == {"unproven"}
