"""The full report of a whole run on an invented H100: every section parsed, and the invention named.

Triton measures nothing without a real driver, so one ceiling of its is written in beside the CUDA one, as a run would
have stored it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from fake_gpu import FakeGpu, FakeMachine, why_not
from gpu_runs import ceilings, chosen, microbench

from microbench.analysis import plausibility_cuda
from microbench.records import Characterisation, Finding
from microbench.report import html
from microbench.storage import store

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

ONLY = ("fma.f32", "wgmma.bf16.*", "read.*", "chase.*", "launch.*", "copy.h2d.pinned", "mix.bf16.f32.*")
MOST_IN_FLIGHT = 8 * 8 * 16 * 256  # eight blocks of 256 threads with eight accesses of 16 bytes each
PEAKS = {"fma_f32": 67e9, "wgmma_bf16_m64n256k16_ss": 980e9, "wgmma_bf16_m64n256k16_rs": 975e9}
PEAKS |= {f"mix_mma_bf16_{1 << power}": 620e9 for power in range(9)}
H100 = FakeGpu(
    name="FAKE H100",
    clock_hz=1.7e9,
    memory=2 << 30,
    l2_bytes=2 << 20,
    dram=3.3e9,
    l2=7e9,
    shared=33e9,
    latency=(1 << 17, 30, 148, 500),
    latency_far=253,
    hungry=2 * MOST_IN_FLIGHT,
    peaks=PEAKS,
)


class Page(HTMLParser):
    """Text of a page by section, with cells of a row joined by a bar."""

    def __init__(self) -> None:
        super().__init__()
        self.title = self._inside = self._tag = ""
        self.sections: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self._inside = dict(attrs).get("id") or ""
            self.sections[self._inside] = ""
        elif tag in ("tr", "li", "dt") and self._inside:
            self.sections[self._inside] += "\n"
        self._tag = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self._inside = ""
        elif tag in ("td", "th") and self._inside:
            self.sections[self._inside] += " | "

    def handle_data(self, data: str) -> None:
        if self._tag == "title":
            self.title += data
        elif self._inside and data.strip():
            self.sections[self._inside] += data


def with_triton(held: Characterisation) -> Characterisation:
    """What was measured and a Triton stream a fifth slower, with what the gate says of the two."""
    read = max(
        (c for c in held.ceilings if c.level == "DRAM" and c.access == "read"), key=lambda ceiling: ceiling.rate.value
    )
    rate = replace(read.rate, value=0.8 * read.rate.value, low=0.8 * read.rate.low, high=0.8 * read.rate.value)
    twin = replace(
        read, name="read.f32.triton.DRAM", backend="triton", variant="triton", dtype="f32", rate=rate, typical=None
    )
    every = (*held.ceilings, twin)
    differ = [
        Finding(code=code, severity="warning", says=says, remedy=remedy)
        for code, says, remedy, _ in plausibility_cuda.backends_differ(every)
    ]
    return replace(held, ceilings=every, findings=(*held.findings, *differ))


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Characterisation:
    folder = tmp_path_factory.mktemp("h100")
    machine = FakeMachine(folder=folder, gpus=(H100,))
    command = microbench("run", "--device", "cuda:0", "--time-limit", "90s", "--out", str(folder / "out"))
    done = machine.run(*command, *chosen(ONLY), "--only", "gemm.*", MB_FAKE_NVML="watts=400")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((folder / "out").glob("*/*.html"))) == 1
    return store.load(next((folder / "out").glob("*/*.json")))


@pytest.fixture(scope="module")
def page(held: Characterisation) -> Page:
    page = Page()
    page.feed(html.render(with_triton(held)))
    return page


def test_every_section_is_there_and_the_device_is_called_a_fake(page: Page) -> None:
    wanted = ("summary", "findings", "roofline", "side", "memory", "latency", "ceilings", "environment", "method")
    assert [name for name in page.sections if name in wanted] == list(wanted)
    assert all(page.sections[name].strip() for name in wanted)
    assert page.title.startswith("FAKE H100")
    assert "FAKE H100 (sm_90a)" in page.sections["summary"]


def test_levels_are_found_and_l2_has_a_near_and_a_far_part(page: Page, held: Characterisation) -> None:
    for level in ("L1", "shared", "L2", "DRAM"):
        assert f"\n{level} | " in page.sections["memory"]
    costs = {cost.name: cost.seconds.value for cost in held.costs}
    assert costs["load_to_use.L2.near"] == pytest.approx(148e-9, rel=0.01)
    assert costs["load_to_use.L2.far"] == pytest.approx(253e-9, rel=0.01)
    for title in (
        "L1 load to use",
        "L2 load to use near",
        "L2 load to use far",
        "DRAM load to use",
        "launch graph",
        "launch round trip",
    ):
        assert f"\n{title} | " in page.sections["latency"]


def test_burst_sustained_and_power_stand_side_by_side_and_the_library_is_absent_with_a_reason(
    page: Page, held: Characterisation
) -> None:
    found = ceilings(held)
    burst, sustained = found["wgmma.bf16.f32.m64n256k16.ss"], found["wgmma.bf16.f32.m64n256k16.rs.random"]
    assert (burst.mode, burst.rate.value) == ("peak", pytest.approx(980e9, rel=0.01))
    assert (sustained.mode, sustained.power_w) == ("sustained", pytest.approx(400, rel=0.05))
    (row,) = [line for line in page.sections["side"].splitlines() if line.startswith("bf16 tensor (f32)")]
    assert re.match(r"bf16 tensor \(f32\) \| 9[78]\d(\.\d)? GFLOP/s \| 9[78]\d(\.\d)? \| 400 W, 410 pJ/FLOP \| ", row)
    assert "library" not in {ceiling.mode for ceiling in held.ceilings}
    (left,) = [finding.says for finding in held.findings if finding.code == "left-out"]
    assert "gemm." in left
    assert left in page.sections["findings"]


def test_the_roofline_of_the_tensor_cores_is_labelled_as_the_legacy_path(page: Page) -> None:
    assert "\nbf16 tensor mma_sync, the legacy path, whole device | DRAM | " in page.sections["roofline"]
    assert "by mma_sync (legacy)" in page.sections["roofline"]
    assert "the legacy path of this chip: it ends at 6" in page.sections["findings"]


def test_what_the_run_doubts_is_said_with_a_remedy(page: Page, held: Characterisation) -> None:
    codes = {finding.code for finding in held.findings}
    assert codes >= {"sweep-edge", "legacy-roofline", "left-out", "unverified"}
    assert codes & {"wrong-result", "proof-failed", "not-measured", "not-checked"} == set()
    for words in ("with 8 a thread", "by two compilers differs by 20%", "never verified on hardware before this run"):
        assert words in page.sections["findings"]
    assert "→" in page.sections["findings"]


def test_every_ceiling_of_ours_is_proven_against_the_shipped_machine_code(page: Page, held: Characterisation) -> None:
    assert [c.name for c in held.ceilings if c.measures != "link" and c.proof.status != "proven"] == []
    assert "cubin wgmma.sm_90a.cubin" in page.sections["method"]
