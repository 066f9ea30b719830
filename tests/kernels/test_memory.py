from __future__ import annotations

import pytest

from microbench.errors import CannotRun, UsageError
from microbench.kernels import native
from microbench.records import Device

CPU = Device(id="0", kind="cpu", name="this one", arch="generic")
KERNELS = {kernel.sheet.name: kernel for kernel in native.kernels(CPU) if kernel.sheet.measures == "memory"}
HERE = [name for name, kernel in KERNELS.items() if kernel.sheet.unavailable is None]
ARRAYS = {"read": 1, "write": 1, "copy": 2, "triad": 3}


@pytest.mark.parametrize("name", KERNELS)
def test_bytes_are_those_that_the_loads_and_stores_ask_for(name: str) -> None:
    sheet = KERNELS[name].sheet
    assert sheet.work.bytes_read == sheet.loads * sheet.access_bytes
    assert sheet.work.bytes_written == sheet.stores * sheet.access_bytes
    assert sheet.loads >= 16 or sheet.access == "write"
    assert sheet.access is not None
    assert sheet.work.bytes % ARRAYS[sheet.access] == 0
    assert sheet.work.flop == (2 * sheet.lanes * sheet.math if sheet.access == "triad" else 0)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("params", [{}, {"streams": 2}, {"streams": 4}, {"streams": 8}, {"streams": 16}, {"prefetch": 1024}])
def test_partial_passes_and_wraps_are_exact(name: str, params: dict[str, int]) -> None:
    if "scalar" in name and params.get("streams", 1) > 2:
        pytest.skip("scalar kernels know one stream and two halves")
    job = KERNELS[name].prepare(CPU, {"working_set": 3 * 192 * 1024, "pages": "4k", **params}, 1)
    for iterations in (1, 2, 3, 47, 48, 49, 191, 192, 193, 1000):
        assert job.run(iterations).checked is True, iterations
    job.close()


@pytest.mark.parametrize("name", HERE)
def test_the_smallest_set_and_odd_sizes_are_exact(name: str) -> None:
    sheet = KERNELS[name].sheet
    for working_set in (4096 * ARRAYS[str(sheet.access)], 5 * 4096 * 3, 100_000):
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
    threads = len(native.module().topology()["cpus"])
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
