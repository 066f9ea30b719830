"""Power on recorded and invented machines: which files are believed, what they add up to, and when nothing is told."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from microbench.hardware import energy
from microbench.hardware.energy import Meter
from microbench.hardware.procfs import Machine
from microbench.runs import doctor
from microbench.runs.doctor import machine as doctor_machine

RANGE = 262_143_328_850


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def write(root: Path, **files: str) -> None:
    for path, text in files.items():
        root.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"{text}\n", encoding="ascii")


def zone(tmp_path: Path, folder: str, name: str, energy_uj: int, limit: int = RANGE) -> Path:
    root = tmp_path / "sys/class/powercap" / folder
    write(root, name=name, energy_uj=str(energy_uj), max_energy_range_uj=str(limit))
    return root / "energy_uj"


def two_sockets(tmp_path: Path) -> list[Path]:
    """Two sockets of a server: each package holds cores, memory has zones of its own; the same again through mmio."""
    for folder, name in (("intel-rapl:0:0", "core"), ("intel-rapl:1:0", "core"), ("intel-rapl:2", "psys")):
        zone(tmp_path, folder, name, 7)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 7)
    (tmp_path / "sys/class/powercap/intel-rapl").mkdir()  # the control type itself has no counter
    return [
        zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000),
        zone(tmp_path, "intel-rapl:0:1", "dram", 2_000_000, 65_712_999_613),
        zone(tmp_path, "intel-rapl:1", "package-1", RANGE - 5_000_000),
        zone(tmp_path, "intel-rapl:1:1", "dram", 3_000_000, 65_712_999_613),
    ]


def test_packages_and_their_memory_of_all_sockets_add_up_over_the_end_of_a_counter(
    tmp_path: Path, clock: Clock
) -> None:
    first, memory, second, other = two_sockets(tmp_path)
    meter = Meter(Machine(tmp_path))
    assert meter.says == "RAPL (2 package, 2 dram)"
    began = meter.mark()
    clock.now += 0.1
    first.write_text("11000000\n")  # 10 J
    memory.write_text("2500000\n")  # 0.5 J
    second.write_text("4000000\n")  # 5 J to the end of the range and 4 J beyond
    other.write_text("3500000\n")  # 0.5 J
    assert meter.watts(began) == pytest.approx(20 / 0.1)


def test_a_counter_that_is_locked_leaves_the_sum_unknown_and_the_doctor_says_how_to_read_it(
    tmp_path: Path,
) -> None:
    two_sockets(tmp_path)[2].unlink()
    (tmp_path / "sys/class/powercap/intel-rapl:1/energy_uj").mkdir()  # no user can read a folder, root neither
    meter = Meter(Machine(tmp_path))
    assert (meter.says, meter.watts(meter.mark())) == (None, None)
    (finding,) = doctor_machine.power(doctor.Context(device="cpu", machine=Machine(tmp_path)))
    assert "may not be read" in finding.says
    assert finding.remedy.startswith("sudo chmod a+r ")
    assert (tmp_path / finding.remedy.split(" /")[1].split("*")[0]).is_dir()


def test_a_counter_that_stands_still_tells_nothing(tmp_path: Path, clock: Clock) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = Meter(Machine(tmp_path))
    began = meter.mark()
    clock.now += 0.1
    assert meter.watts(began) is None


def test_a_counter_that_falls_without_a_known_range_tells_nothing(tmp_path: Path, clock: Clock) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000)
    (counter.parent / "max_energy_range_uj").unlink()
    meter = Meter(Machine(tmp_path))
    began = meter.mark()
    clock.now += 0.1
    counter.write_text("1\n")
    assert meter.watts(began) is None


def test_a_counter_that_goes_away_tells_nothing(tmp_path: Path, clock: Clock) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000)
    meter = Meter(Machine(tmp_path))
    began = meter.mark()
    clock.now += 0.1
    counter.unlink()
    assert meter.watts(began) is None


def amd(tmp_path: Path, sockets: int) -> list[Path]:
    root = tmp_path / "sys/class/hwmon/hwmon3"
    write(root, name="amd_energy")
    labels = [f"Ecore{core:03}" for core in range(4)] + [f"Esocket{socket}" for socket in range(sockets)]
    for index, label in enumerate(labels, start=1):
        write(root, **{f"energy{index}_label": label, f"energy{index}_input": "1000000"})
    return [root / f"energy{4 + socket}_input" for socket in range(1, sockets + 1)]


def test_of_amd_energy_the_sockets_count_and_not_the_cores_inside_them(tmp_path: Path, clock: Clock) -> None:
    counters = amd(tmp_path, 2)
    meter = Meter(Machine(tmp_path))
    assert meter.says == "amd_energy (2 sockets)"
    began = meter.mark()
    clock.now += 0.5
    for counter in counters:
        counter.write_text("61000000\n")
    assert meter.watts(began) == pytest.approx(240)


def test_sensors_of_graphics_cards_and_drives_are_not_the_processors(tmp_path: Path) -> None:
    for index, name in enumerate(("amdgpu", "xe", "nvme", "coretemp")):
        root = tmp_path / f"sys/class/hwmon/hwmon{index}"
        write(root, name=name, power1_input="250000000", power1_average="250000000", energy1_input="1")
    assert Meter(Machine(tmp_path)).says is None


def test_power_sensors_of_a_package_add_up_and_an_average_counts_after_its_interval(
    tmp_path: Path, clock: Clock
) -> None:
    write(tmp_path / "sys/class/hwmon/hwmon0", name="zenpower", power1_input="70000000", power2_input="12000000")
    meter = Meter(Machine(tmp_path))
    assert meter.watts(meter.mark()) == pytest.approx(82)
    root = tmp_path / "sys/class/hwmon/hwmon0"
    write(root, name="power_meter", power1_average="90000000", power1_average_interval="1000")
    write(root, power2_average="1000000")
    meter = Meter(Machine(tmp_path))
    assert "whole machine" in str(meter.says)
    began = meter.mark()
    assert meter.watts(began) is None
    clock.now += 1.0
    assert meter.watts(began) == pytest.approx(91)


BATTERY = {"type": "Battery", "status": "Discharging"}


@pytest.mark.parametrize(
    "files",
    [{"power_now": "15000000"}, {"current_now": "1250000", "voltage_now": "12000000"}, {"power_now": "-15000000"}],
)
def test_a_battery_that_discharges_tells_watts_once_its_gauge_has_settled(
    tmp_path: Path, clock: Clock, files: dict[str, str]
) -> None:
    write(tmp_path / "sys/class/power_supply/BAT0", **BATTERY, **files)
    write(tmp_path / "sys/class/power_supply/hidpp_0", **BATTERY, scope="Device", power_now="1000000")
    meter = Meter(Machine(tmp_path))
    began = meter.mark()
    clock.now += 0.1
    assert meter.watts(began) is None
    clock.now += meter.settles_s
    assert meter.watts(began) == pytest.approx(15)
    (finding,) = doctor_machine.power(doctor.Context(device="cpu", machine=Machine(tmp_path)))
    assert "--thorough" in finding.says


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown"])
def test_a_battery_on_mains_tells_nothing(tmp_path: Path, status: str) -> None:
    write(tmp_path / "sys/class/power_supply/BAT0", type="Battery", status=status, power_now="15000000")
    assert Meter(Machine(tmp_path)).says is None


def test_counters_come_before_gauges(tmp_path: Path) -> None:
    write(tmp_path / "sys/class/power_supply/BAT0", **BATTERY, power_now="15000000")
    write(tmp_path / "sys/class/hwmon/hwmon0", name="zenpower", power1_input="70000000")
    assert str(Meter(Machine(tmp_path)).says).startswith("the package's power")
    zone(tmp_path, "intel-rapl:0", "package-0", 5)
    assert str(Meter(Machine(tmp_path)).says).startswith("RAPL")


def test_a_machine_that_tells_nothing_has_no_power_and_one_line_of_the_doctor(tmp_path: Path) -> None:
    meter = Meter(Machine(tmp_path))
    assert (meter.says, meter.settles_s, meter.watts(meter.mark())) == (None, 0.0, None)
    assert energy.facts(Machine(tmp_path)) == {}
    (finding,) = doctor_machine.power(doctor.Context(device="cpu", machine=Machine(tmp_path)))
    assert (finding.severity, finding.code) == ("info", "power")
    assert "no energy counter" in finding.says


def test_the_record_of_a_run_says_where_its_power_comes_from(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 5)
    assert energy.facts(Machine(tmp_path)) == {"power": "RAPL (1 package)"}
