"""What a round says of its kernel: its rate, the clock it ran at, and its share of what the ports can do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fake_backend import KIB, fake_device

from microbench.hardware.clock import Best, Round, best, bound, converged, evaluate_round, select_rounds
from microbench.records import Case, MemoryLevel, Samples, Sheet, Work

# Two multiply-adds and two loads of 256 bits a cycle.
DEVICE = fake_device(arch="zen3")
CLOCK = Sheet(name="clock.v256", measures="clock", backend="native", device_kind="cpu", says="", cycles=3)
FMA = Sheet(
    name="fma.f32.v256",
    measures="compute",
    backend="native",
    device_kind="cpu",
    says="",
    dtype="f32",
    ports="fma.v256",
    lanes=8,
    math=20,
    work=Work(flop=320),  # ten cycles
    reference_clock=CLOCK.name,
)
READ = Sheet(
    name="read.f32.v256",
    measures="memory",
    backend="native",
    device_kind="cpu",
    says="",
    access="read",
    ports="load.v256",
    loads=20,
    work=Work(bytes_read=640),  # ten cycles
    reference_clock=CLOCK.name,
)


def burst(took: int, clock_ghz: float | None = 3.0, **facts: Any) -> Samples:
    """Two samples of 1000 iterations that agree, beside reference clocks that do."""
    reference = (round(3e4 / clock_ghz),) * 2 if clock_ghz else ()
    made: dict[str, Any] = {"ns": (took, took), "reference_ns": reference, "reference_iterations": 10_000, **facts}
    return Samples(case="a", round=0, started_s=0.0, iterations=1000, count=len(made["ns"]), **made)


def evaluated(samples: Samples, sheet: Sheet, threads: int = 1, **params: int) -> Round:
    return evaluate_round(samples, Case(kernel=sheet.name, threads=threads, params=dict(params)), DEVICE, sheet, CLOCK)[
        0
    ]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_loop_of_ten_cycles_that_takes_twelve_has_five_sixths_of_what_the_ports_can_do(threads: int) -> None:
    found = evaluated(burst(4000), FMA, threads)
    assert found.rate == pytest.approx(threads * 1000 / 4e-6)
    assert found.clock_hz == pytest.approx(3e9)
    assert found.share == pytest.approx(10 / 12)


def test_a_read_in_the_first_level_has_a_share_of_the_ports_and_one_in_the_second_a_clock_alone() -> None:
    first, second = (evaluated(burst(4000), READ, working_set=size) for size in (16 * KIB, 512 * KIB))
    assert first.share == pytest.approx(10 / 12)
    assert (second.share, second.clock_hz) == (None, pytest.approx(3e9))


def test_without_a_clock_or_a_port_table_there_is_a_rate_alone() -> None:
    assert evaluated(burst(4000, None), FMA) == Round(rate=1000 / 4e-6)
    unknown = replace(FMA, ports=None)
    assert evaluated(burst(4000), unknown) == Round(rate=1000 / 4e-6, clock_hz=pytest.approx(3e9))


def test_a_clock_that_the_device_stamps_is_that_of_the_sample_and_none_to_compare_rounds_by() -> None:
    found, fastest = evaluate_round(burst(4000, None, clock_hz=(3e9, 3e9)), Case(kernel=FMA.name), DEVICE, FMA, None)
    assert fastest == Best(ns=4000, clock_hz=3e9)
    assert found.clock_hz is None
    assert found.share == pytest.approx(10 / 12)


def test_where_fewer_clocks_than_samples_are_stamped_the_last_one_holds() -> None:
    assert best(burst(1, None, ns=(3, 2, 1), clock_hz=(1e9, 1.1e9)), None) == Best(ns=1, clock_hz=1.1e9)
    assert best(burst(1, None, ns=(3, 1, 2), clock_hz=(1e9, 1.2e9, 1.1e9)), None) == Best(ns=1, clock_hz=1.2e9)


def test_a_reference_clock_of_unknown_length_tells_no_clock() -> None:
    assert best(burst(4000), replace(CLOCK, cycles=0.0)) == Best(ns=4000, clock_hz=None)


def test_what_a_working_set_scales_with_goes_by_the_sizes_that_are_advertised() -> None:
    def told(size: int, device: Any = DEVICE, sheet: Sheet = READ) -> str | None:
        return bound(sheet, Case(kernel=sheet.name, params={"working_set": size}), device)

    assert [told(32 * KIB), told(32 * KIB + 1), told(1024 * KIB), told(1024 * KIB + 1)] == [
        "ports",
        "clock",
        "clock",
        None,
    ]
    silent = replace(DEVICE, levels=(MemoryLevel(name="L1"), MemoryLevel(name="L2", capacity_bytes=1024 * KIB)))
    assert told(16 * KIB, silent) == "clock"
    assert told(16 * KIB, replace(DEVICE, levels=())) is None
    assert told(16 * KIB, sheet=replace(READ, reference_clock=None)) is None
    assert told(16 * KIB, sheet=replace(READ, measures="latency", access=None, roles=())) is None
    assert told(512 * KIB, sheet=FMA) == "ports"


def test_a_round_whose_clock_alone_is_known_counts_before_one_of_unknown_clock() -> None:
    rounds = [Round(rate=1.0), Round(rate=1.0, clock_hz=3e9), Round(rate=1.0, share=0.9)]
    assert select_rounds(rounds, 1, timed_clock=True) == [1, 2]
    assert select_rounds(rounds, 1, timed_clock=False) == [0, 1, 2]


def test_half_of_the_rounds_suffice_to_call_the_others_implausible() -> None:
    rounds = [Round(rate=1.0, share=share) for share in (1.1, 0.99, 1.2, 0.98)]
    assert select_rounds(rounds, 1, timed_clock=True) == [1, 3]
    assert select_rounds(rounds[:3], 1, timed_clock=True) == [0, 1, 2]


def test_a_peak_has_converged_where_its_fastest_round_reaches_the_ports() -> None:
    rounds = [Round(rate=rate, share=rate) for rate in (0.981, 0.986, 0.982)]
    assert converged(rounds, FMA)
    assert not converged([replace(each, share=each.share and each.share - 0.002) for each in rounds], FMA)


def test_memory_need_not_reach_the_ports_to_have_converged() -> None:
    assert converged([Round(rate=1.0, share=0.8)] * 3, READ)
