from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from microbench.errors import CannotRun
from microbench.hardware import cpu
from microbench.hardware.procfs import Machine

SYS = "sys/devices/system/cpu"

FEATURES: dict[str, Any] = {
    "vendor": "GenuineIntel",
    "brand": "Some Xeon",
    "family": 6,
    "model": 85,
    "stepping": 7,
    "flags": ["avx2", "avx512f"],
}


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The part of /sys of a two-thread virtual machine whose last level is shared."""
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _pid: {0, 1})
    for index, (level, kind, size, shared) in enumerate(
        [
            ("1", "Data", "32K", "0"),
            ("1", "Instruction", "32K", "0"),
            ("2", "Unified", "1024K", "0"),
            ("3", "Unified", "36608K", "0-1"),
        ]
    ):
        folder = tmp_path / SYS / "cpu0" / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        facts = {
            "level": level,
            "type": kind,
            "size": size,
            "shared_cpu_list": shared,
            "coherency_line_size": "64",
            "ways_of_associativity": "8",
        }
        for name, text in facts.items():
            (folder / name).write_text(text + "\n", encoding="ascii")
    return tmp_path


def test_levels_come_from_the_system_where_cpuid_is_silent(recorded: Path) -> None:
    device = cpu.describe(FEATURES, {}, Machine(recorded))
    assert [(level.name, level.capacity_bytes) for level in device.levels[:3]] == [
        ("L1", 32768),
        ("L2", 2**20),
        ("L3", 36608 * 1024),
    ]
    assert [level.shared_by for level in device.levels[:3]] == [1, 1, 2]
    assert device.levels[-1].name == "DRAM"


def test_without_sys_the_device_is_still_described(tmp_path: Path) -> None:
    device = cpu.describe(FEATURES, {}, Machine(tmp_path / "nothing"))
    assert [level.name for level in device.levels] == ["DRAM"]
    assert device.base_clock_hz is None
    assert device.units_by_kind["core"] >= 1


def test_nonsense_in_sys_is_unknown_and_no_failure(recorded: Path) -> None:
    (recorded / SYS / "cpu0" / "cache" / "index0" / "size").write_text("banana", encoding="ascii")
    (recorded / SYS / "cpu0" / "cache" / "index2" / "level").write_text("", encoding="ascii")
    device = cpu.describe(FEATURES, {}, Machine(recorded))
    assert [(level.name, level.capacity_bytes) for level in device.levels[:2]] == [("L1", None), ("L3", 36608 * 1024)]


def test_siblings_count_as_one_core(recorded: Path) -> None:
    for number in (0, 1):
        folder = recorded / SYS / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text("0-1\n", encoding="ascii")
    assert cpu.describe(FEATURES, {}, Machine(recorded)).units_by_kind == {"core": 1, "thread": 2}


def test_the_same_processor_has_the_same_id_and_another_one_another(recorded: Path) -> None:
    same = cpu.describe(FEATURES, {}, Machine(recorded)).id
    assert same == cpu.describe(dict(FEATURES), {}, Machine(recorded)).id
    assert same != cpu.describe({**FEATURES, "stepping": 8}, {}, Machine(recorded)).id


def test_this_machine_is_described() -> None:
    device = cpu.probe()
    assert device.kind == "cpu"
    assert device.memory_bytes


def test_another_system_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.platform, "system", lambda: "Darwin")
    with pytest.raises(CannotRun, match="Linux on x86-64 or aarch64, and this is Darwin"):
        cpu.probe()
