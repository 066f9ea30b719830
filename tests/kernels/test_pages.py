from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest

from microbench.errors import CannotRun, UsageError
from microbench.hardware import extensions
from microbench.kernels import cpu, pages
from microbench.records import Device

CPU = Device(id="0", kind="cpu", name="this one", arch="generic")
ALL = {kernel.sheet.name: kernel for kernel in cpu.kernels(CPU)}
# What loads main memory beside a chase has tests of its own.
KERNELS = {
    name: kernel
    for name, kernel in ALL.items()
    if kernel.sheet.measures == "memory" and not kernel.sheet.takes("loaded")
}
# String instructions have no loads and stores to count, and no streams.
LOOPS = [name for name in KERNELS if not name.endswith(".rep")]
MIXED = [
    name for name, kernel in ALL.items() if kernel.sheet.measures == "intensity" and kernel.sheet.unavailable is None
]
HERE = [name for name, kernel in KERNELS.items() if kernel.sheet.unavailable is None]
ARRAYS = {"read": 1, "write": 1, "copy": 2, "triad": 3}


@pytest.mark.parametrize("name", LOOPS)
def test_bytes_are_those_that_the_loads_and_stores_ask_for(name: str) -> None:
    sheet = KERNELS[name].sheet
    assert sheet.work.bytes_read == sheet.loads * sheet.access_bytes
    assert sheet.work.bytes_written == sheet.stores * sheet.access_bytes
    assert sheet.loads >= 16 or sheet.access == "write"
    assert sheet.access is not None
    assert sheet.work.bytes % ARRAYS[sheet.access] == 0
    multiplied = sheet.math + sheet.beside.get("mul", 0)
    assert sheet.work.flop == (2 * sheet.lanes * multiplied if sheet.access == "triad" else 0)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize(
    "params", [{}, {"streams": 2}, {"streams": 4}, {"streams": 8}, {"streams": 16}, {"prefetch": 1024}, {"cold": 1}]
)
def test_partial_passes_and_wraps_are_exact(name: str, params: dict[str, int]) -> None:
    if params and (name not in LOOPS or ("scalar" in name and params.get("streams", 1) > 2)):
        pytest.skip("scalar kernels know one stream and two halves, string instructions one stream")
    job = KERNELS[name].prepare(CPU, {"working_set": 3 * 192 * 1024, "pages": "4k", **params}, 1)
    for iterations in (1, 2, 3, 47, 48, 49, 191, 192, 193, 1000):
        assert job.run(iterations).checked is True, iterations
    job.close()


@pytest.mark.parametrize("name", [name for name in HERE if "group" in KERNELS[name].sheet.params])
@pytest.mark.parametrize("working_set", [24 * 1024, 3 * 192 * 1024])
def test_registers_that_are_stored_one_by_one_are_exact(name: str, working_set: int) -> None:
    job = KERNELS[name].prepare(CPU, {"working_set": working_set, "group": 1}, 1)
    for iterations in (1, 2, 3, 47, 1000):
        assert job.run(iterations).checked is True, iterations
    job.close()


def test_stores_past_the_caches_know_no_groups_and_groups_no_streams() -> None:
    assert {name.split(".")[0] for name in KERNELS if "group" in KERNELS[name].sheet.params} == {"triad"}
    assert not any(name.endswith("_nt") for name in KERNELS if "group" in KERNELS[name].sheet.params)
    kernel = KERNELS["triad.f64.scalar"]
    with pytest.raises(UsageError, match="group must be 1 or 4"):
        kernel.prepare(CPU, {"group": 2}, 1)
    with pytest.raises(UsageError, match="group goes with one stream and without prefetch"):
        kernel.prepare(CPU, {"group": 1, "prefetch": 512}, 1)


@pytest.mark.parametrize("name", HERE)
def test_the_smallest_set_and_odd_sizes_are_exact(name: str) -> None:
    sheet = KERNELS[name].sheet
    for working_set in (4096 * ARRAYS[str(sheet.access)], 24 * 1024, 5 * 4096 * 3, 100_000):
        job = KERNELS[name].prepare(CPU, {"working_set": working_set, "pages": "huge"}, 1)
        for iterations in (1, 5, 7, 100):
            assert job.run(iterations).checked is True
        job.close()


@pytest.mark.parametrize("name", HERE)
def test_kernels_on_one_array_leave_it_to_each_other_as_they_found_it(name: str) -> None:
    small = KERNELS[name].prepare(CPU, {"working_set": 48 * 1024}, 1)
    others = [KERNELS[other].prepare(CPU, {"working_set": 96 * 1024}, 1) for other in HERE]
    for other in others:
        assert other.run(10).checked is True
        assert small.run(3).checked is True
    for job in (small, *others):
        job.close()


def test_every_thread_of_a_team_checks_its_own_set() -> None:
    threads = len(extensions.cpu().topology()["cpus"])
    for name in HERE:
        job = KERNELS[name].prepare(CPU, {"working_set": 256 * 1024}, threads)
        assert job.run(500).checked is True
        job.close()


def test_requests_that_make_no_sense_are_refused_in_a_sentence() -> None:
    kernel = KERNELS["triad.f64.scalar"]
    with pytest.raises(UsageError, match="working_set must be at least 3072 bytes for triad"):
        kernel.prepare(CPU, {"working_set": 2048}, 1)
    with pytest.raises(UsageError, match="working_set must be an integer"):
        kernel.prepare(CPU, {"working_set": -1}, 1)
    with pytest.raises(UsageError, match="pages must be one of: 4k, huge"):
        kernel.prepare(CPU, {"pages": "1g"}, 1)
    with pytest.raises(UsageError, match="streams must be 1, 2, 4, 8 or 16"):
        kernel.prepare(CPU, {"streams": 3}, 1)


def test_a_set_that_does_not_fit_into_memory_is_refused_in_a_sentence() -> None:
    for working_set in (1 << 40, 1 << 46):
        with pytest.raises(CannotRun, match=r"working set of \d+ MiB.*ask for a smaller"):
            KERNELS["read.f64.scalar"].prepare(CPU, {"working_set": working_set}, 1)
    job = KERNELS["read.f64.scalar"].prepare(CPU, {"working_set": 1 << 20}, 1)
    assert job.run(10).checked is True
    job.close()


@pytest.mark.parametrize("pages", ["4k", "huge"])
@pytest.mark.parametrize("params", [{}, {"window": 4096}, {"window": 10_000}, {"window": 1 << 40}])
@pytest.mark.parametrize("working_set", [1024, 24 * 1024, 1_000_000])
def test_a_chase_ends_where_its_loads_must_lead(pages: str, params: dict[str, int], working_set: int) -> None:
    job = ALL["chase"].prepare(CPU, {"working_set": working_set, "pages": pages, **params}, 1)
    for iterations in (1, 2, working_set // 64 // 32, 1000, 12345):
        assert job.run(max(1, iterations)).checked is True
    job.close()


def test_two_chases_of_different_length_do_not_disturb_each_other() -> None:
    jobs = [ALL["chase"].prepare(CPU, {"working_set": size}, 1) for size in (8192, 16384, 16384)]
    for _ in range(3):
        for job in jobs:
            assert job.run(100).checked is True
    for job in jobs:
        job.close()


@pytest.mark.timed
def test_a_pause_lies_outside_the_time() -> None:
    job = ALL["chase"].prepare(CPU, {"working_set": 8192, "pause_us": 50_000}, 1)
    # The quickest of many: other work may keep this thread from running for as long as a pause.
    assert min(job.run(1).ns for _ in range(20)) < 25_000_000
    job.close()


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("working_set", [8192, 40 * 1024, 1 << 20])
def test_mixed_kernels_are_exact_for_any_part_of_a_pass(name: str, working_set: int) -> None:
    sheet = ALL[name].sheet
    assert sheet.work.flop == 2 * (sheet.math + sheet.beside.get("mul", 0)) * sheet.lanes
    assert sheet.work.bytes_read == sheet.loads * sheet.access_bytes
    assert sheet.math + sheet.beside.get("mul", 0) == sheet.loads * int(name.rsplit(".x", 1)[1])
    job = ALL[name].prepare(CPU, {"working_set": working_set}, 1)
    bodies = working_set // sheet.work.bytes_read
    for iterations in (1, 2, 3, bodies - 1, bodies, bodies + 1, 2 * bodies + 5, 997):
        assert job.run(max(1, iterations)).checked is True, iterations
    job.close()


@pytest.mark.parametrize("pages", ["4k", "huge"])
def test_first_touch_leaves_its_mark_on_fresh_pages(pages: str) -> None:
    try:
        job = ALL["first_touch"].prepare(CPU, {"working_set": 8 << 20, "pages": pages}, 1)
    except CannotRun as error:
        if pages == "4k" or "2 MiB pages" not in str(error):
            raise
        pytest.skip("this system gives no huge pages")
    for iterations in (1, 3, 4, 5, 100, 5000):
        assert job.run(iterations).checked is True
    job.close()


def test_memory_that_was_asked_for_is_accounted_for_while_jobs_are_open() -> None:
    job = KERNELS["read.f64.scalar"].prepare(CPU, {"working_set": 6 << 20, "pages": "4k"}, 1)
    held = [row for row in extensions.cpu().memory() if row["pages"] == "4k"]
    assert [(row["bytes"], row["huge_bytes"]) for row in held] == [(6 << 20, 0)]
    job.close()
    assert extensions.cpu().memory() == []


def test_huge_pages_that_were_refused_become_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused:
        @staticmethod
        def memory() -> list[dict[str, object]]:
            return [{"role": "numbers", "cpu": 0, "pages": "huge", "bytes": 8 << 20, "huge_bytes": 2 << 20}]

    monkeypatch.setattr(extensions, "cpu", lambda: Refused)
    (finding,) = pages.findings()
    assert finding.code == "no-huge-pages"
    assert "of 8 MiB" in finding.says
    assert "2 MiB have them" in finding.says


def _spoil(size: int) -> int:
    """Overwrite every writable anonymous mapping of exactly so many bytes; how many there were."""
    poisoned = 0
    for text in Path("/proc/self/maps").read_text().splitlines():
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw-p 00000000 00:00 0\s*$", text)
        if found is not None and int(found[2], 16) - int(found[1], 16) == size:
            ctypes.memset(int(found[1], 16), 1, size)
            poisoned += 1
    return poisoned


@pytest.mark.parametrize("name", [name for name in HERE if "write" not in name] + MIXED[:2])
def test_a_source_that_does_not_hold_what_it_should_is_caught(name: str) -> None:
    arrays = ARRAYS.get(name.split(".", maxsplit=1)[0], 1)
    size = 7 * 192 * 1024
    job = ALL[name].prepare(CPU, {"working_set": size * arrays, "pages": "4k"}, 1)
    assert job.run(100).checked is True
    assert _spoil(size) == arrays
    assert job.run(100).checked is False
    job.close()


@pytest.mark.hardware
def test_a_cold_launch_is_slower_than_a_warm_one_on_a_set_that_a_cache_holds() -> None:
    kernel = KERNELS[max(name for name in HERE if name.startswith("read.f32."))]
    iterations = (1 << 20) // kernel.sheet.work.bytes
    best = {}
    for cold in (0, 1):
        job = kernel.prepare(CPU, {"working_set": 1 << 20, "cold": cold}, 1)
        timings = [job.run(iterations) for _ in range(30)]
        assert all(timing.checked for timing in timings)
        best[cold] = min(timing.ns / timing.iterations for timing in timings)
        job.close()
    assert best[1] > 1.5 * best[0]
