"""Whether a card is slow: judged by what others measured on such cards, else by its data sheet; told with reasons."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from typing import Any

import pytest

from microbench.analysis import verdicts
from microbench.analysis.verdicts import Expected, expected, known_figures, reasons, slow_findings
from microbench.hardware import cuda, nvml
from microbench.hardware.tables.gpus import GPUS, Gpu, find
from microbench.hardware.tables.published import PUBLISHED, Published
from microbench.records import Ceiling, Device, Estimate


def card(name: str, **changes: Any) -> tuple[Gpu, Device]:
    gpu = find(name)
    assert gpu is not None
    device = Device(
        id="1",
        kind="cuda",
        name=f"NVIDIA {gpu.aliases[0] if gpu.aliases else gpu.name}",
        arch=gpu.chip.target,
        units_by_kind={"sm": gpu.sms},
        power_limit_w=gpu.power_limit_w,
    )
    return gpu, replace(device, **changes)


def ceiling(value: float, **changes: Any) -> Ceiling:
    told = {"measures": "compute", "backend": "cuda", "unit": "matrix", "dtype": "bf16", "accumulator": "f32"}
    told |= {"case": "a", "scope": "device", "name": "wgmma.bf16.f32"}
    return Ceiling(rate=Estimate(value=value, low=value, high=value), **(told | changes))  # type: ignore[arg-type]


def read(value: float, **changes: Any) -> Ceiling:
    memory = {"measures": "memory", "unit": None, "dtype": None, "accumulator": None, "level": "DRAM", "access": "read"}
    return ceiling(value, **(memory | {"name": "read.i32.u4"} | changes))


def alike(name: str, mode: str) -> list[Published]:
    return [each for each in PUBLISHED if each.gpu == name and each.dtype == "bf16" and each.mode == mode]


def test_what_others_measured_gives_the_range_and_the_word() -> None:
    gpu, device = card("H100 SXM5 80GB")
    library = ceiling(8e14, mode="library", backend="torch", unit=None)
    normal = expected(library, alike(gpu.name, "library"), device)
    assert normal is not None
    assert normal.figures == 4
    assert normal.low < 794.5e12
    assert normal.high > 821e12
    assert [normal.word(value) for value in (500e12, 800e12, 989e12)] == ["slow", "normal", "fast"]


def test_every_published_figure_is_normal_for_its_card() -> None:
    for figure in PUBLISHED:
        if figure.measures == "memory" and figure.level == "DRAM":
            row = read(figure.value, access=figure.access)
        elif figure.measures == "compute":
            row = ceiling(
                figure.value,
                unit=figure.unit,
                dtype=figure.dtype,
                accumulator=figure.accumulator,
                mode=figure.mode,
                backend="cuda",
            )
        else:
            continue
        normal = expected(row, [figure], card(figure.gpu)[1])
        assert normal is not None
        assert normal.word(figure.value) == "normal"


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_on_any_card_97_percent_of_the_data_sheet_is_not_slow_and_60_percent_is(gpu: Gpu) -> None:
    device = card(gpu.name)[1]
    rates = {"f32": ("vector", None), "f16": ("matrix", "f32")}
    for share, slow in ((0.97, False), (0.6, True)):
        held = [read(share * gpu.memory_bandwidth)]
        for dtype, (unit, accumulator) in rates.items():
            flop = gpu.chip.flop_per_clock(unit, dtype, accumulator)
            if not flop:
                continue  # no such unit
            peak = gpu.sms * flop * gpu.clock_hz(unit, dtype)
            held.append(ceiling(share * peak, unit=unit, dtype=dtype, accumulator=accumulator))
        found = list(slow_findings(held, device))
        assert [finding.code for finding in found] == (["slow-for-this-card"] * 2 if slow else []), (share, found)


def test_a_legacy_path_beside_the_fast_one_is_no_slow_card() -> None:
    _, device = card("H100 SXM5 80GB")
    held = [ceiling(960e12), ceiling(600e12, name="mma.bf16.f32", variant="m16n8k16.legacy")]
    assert list(slow_findings(held, device)) == []
    assert [finding.code for finding in slow_findings(held[1:], device)] == ["slow-for-this-card"]


def test_slices_unknown_cards_and_sustained_rates_are_not_judged() -> None:
    gpu, device = card("H100 SXM5 80GB")
    slow = read(0.1 * gpu.memory_bandwidth)
    part = replace(device, name="NVIDIA H100 80GB HBM3 MIG 1g.10gb", units_by_kind={"sm": 16})
    for other in (part, replace(device, name="NVIDIA Next"), replace(device, kind="cpu")):
        assert list(slow_findings([slow], other)) == []
        assert known_figures(other) == ()
        assert expected(slow, [], other) is None
        assert reasons([slow], other, {}) == []
    assert expected(ceiling(1e12, mode="sustained"), [], device) is None
    assert expected(read(1e12, level="L2"), [], device) is None
    assert list(slow_findings([replace(slow, scope="core")], device)) == []


def why(name: str, *held: Ceiling, facts: dict[str, Any] | None = None, **changes: Any) -> str:
    return "; ".join(reasons(held, card(name, **changes)[1], facts or {}))


def test_what_would_explain_a_slow_card_is_told() -> None:
    fast = ceiling(9e14, clock_hz=1.83e9)
    assert why("H100", fast) == ""
    assert why("H100", fast, power_limit_w=350.0) == "its power limit is 350 W of 700 W"
    assert why("H100", replace(fast, clock_hz=1.2e9)) == (
        "it ran at 1.200 GHz where the data sheet counts with 1.830 GHz"
    )
    assert why("H100", replace(fast, throttled_share=0.4)) == "power or heat held its clock down in 40 % of the samples"
    assert why("H100", fast, facts={"gpu_mig_mode": True}).startswith("MIG mode is on")
    slow = read(1e12)
    facts = {"gpu_memory_bus_bits": 5120, "gpu_memory_clock_hz": 1.6e9, "gpu_ecc": True}
    assert why("H100", slow, facts=facts) == "its memory clock gives 2.048 TB/s of 3.350 TB/s"
    assert why("RTX A6000", slow, facts={"gpu_ecc": True}).startswith("ECC is on")
    assert why("RTX A6000", fast, facts={"gpu_ecc": True}) == ""
    assert why("RTX A6000", slow, facts={"gpu_ecc": False}) == ""


def test_the_facts_that_are_asked_for_are_those_that_a_run_keeps() -> None:
    text = inspect.getsource(verdicts)
    asked = set(re.findall(r'facts\.get\("gpu_(\w+)"\)', text))
    told = inspect.getsource(cuda.facts) + inspect.getsource(nvml.facts)
    assert asked == {"mig_mode", "memory_bus_bits", "memory_clock_hz", "ecc"}
    assert all(f'"{name}":' in told for name in asked)


def test_the_finding_names_rates_ranges_and_reasons() -> None:
    gpu, device = card("H100 SXM5 80GB", power_limit_w=350.0)
    (memory, compute) = slow_findings([ceiling(400e12, clock_hz=0.9e9), read(1.5e12)], device)
    assert memory.says.startswith(
        "slow for a H100 SXM5 80GB, memory: read.i32.u4 DRAM reaches 1.50 TB/s where others saw 2.98 TB/s and more"
    )
    assert "arithmetic: wgmma.bf16.f32 reaches 400 TFLOP/s where its data sheet implies" in compute.says
    assert compute.says.endswith(
        "its power limit is 350 W of 700 W; it ran at 900.0 MHz where the data sheet counts with 1.830 GHz"
    )
    assert "nvidia-smi" in compute.remedy
    (unexplained,) = slow_findings([read(1.5e12)], card(gpu.name)[1])
    assert "no power limit, clock, ECC, MIG mode or throttling that was seen explains it" in unexplained.says


def test_a_range_has_two_ends() -> None:
    assert [Expected(low=1, high=2, figures=1).word(value) for value in (0.9, 1, 2, 2.1)] == [
        "slow",
        "normal",
        "normal",
        "fast",
    ]
