"""Power while a loop ran, where the system tells it: counters of joules first, gauges of watts after them.

- Counters: RAPL, of Intel and of AMD (`/sys/class/powercap/intel-rapl:*`: packages and their memory, all sockets), or
  the driver amd_energy. A counter starts anew at the end of its range.
- Gauges: power sensors of the package or of the whole machine (`/sys/class/hwmon`), or a battery that is discharging.
  A gauge shows a mean over some time, so what it shows of a shorter load is not that load's.

The power is that of whole packages, idle cores and the rest of the chip included; idle power is not subtracted. What
cannot be read is unknown, never zero.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from microbench.hardware.procfs import Machine

_RAPL = "sys/class/powercap"
_HWMON = "sys/class/hwmon"
_SUPPLY = "sys/class/power_supply"
# Zones of RAPL that add up to the chip and its memory; cores and graphics are parts of the package, and `psys` is the
# whole machine, with the package in it.
_ZONES = re.compile(r"package-.*|dram")
# Sensors by driver, and what they see. Those of graphics cards, drives and network cards are not asked.
_SENSORS = {
    "fam15h_power": "the package's power sensor",
    "zenpower": "the package's power sensors",
    "power_meter": "the power meter of the whole machine",
}
# The firmware of a battery averages over some seconds.
_BATTERY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment: seconds of the clock, and what every counter said, in microjoules (``None``: it could not be read)."""

    at_s: float
    counted: tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where power is read: counters with their ranges (microjoules), or files of gauges (watts).

    ``settles_s`` is the time that a gauge averages over.
    """

    says: str
    counters: tuple[tuple[str, int | None], ...] = ()
    gauge: Callable[[Machine], float | None] | None = None
    settles_s: float = 0.0


class Meter:
    """Watts between two moments, from the best source of a machine; `why_not` says why there is none."""

    def __init__(self, machine: Machine | None = None) -> None:
        self._machine = machine or Machine()
        self.why_not, self.remedy = "", ""
        self._source = self._find()

    @property
    def says(self) -> str | None:
        """The source in words."""
        return self._source.says if self._source else None

    @property
    def settles_s(self) -> float:
        """Seconds that a load must last to be what the source shows."""
        return self._source.settles_s if self._source else 0.0

    def mark(self) -> Mark:
        """Remember this moment."""
        counters = self._source.counters if self._source else ()
        return Mark(at_s=time.monotonic(), counted=tuple(self._machine.number(path) for path, _ in counters))

    def watts(self, since: Mark) -> float | None:
        """Mean power since a moment; ``None`` where it is not known.

        A counter that stands still, or that was passed over, and a gauge that had no time to settle tell nothing.
        """
        if self._source is None:
            return None
        now = self.mark()
        took_s = now.at_s - since.at_s
        if self._source.gauge is not None:
            shown = self._source.gauge(self._machine) if took_s >= self._source.settles_s else None
            return shown if shown and shown > 0 else None
        ranges = [limit for _, limit in self._source.counters]
        steps = [_step(*each) for each in zip(since.counted, now.counted, ranges, strict=True)]
        known = [step for step in steps if step is not None]
        if len(known) < len(steps) or not sum(known) or took_s <= 0:
            return None
        return sum(known) * 1e-6 / took_s

    def _find(self) -> Source | None:
        machine = self._machine
        zones = list(_rapl(machine))
        locked = [path for path, _, _ in zones if machine.number(path) is None]
        if zones and not locked:
            names = [name.partition("-")[0] for _, name, _ in zones]
            counts = ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
            return Source(says=f"RAPL ({counts})", counters=tuple((path, limit) for path, _, limit in zones))
        found = next(filter(None, (_amd_energy(machine), _sensor(machine), _battery(machine))), None)
        if found is None and locked:
            self.why_not = f"the energy counters (RAPL) are there, but may not be read: {locked[0]}"
            self.remedy = f"sudo chmod a+r /{_RAPL}/*/energy_uj"
        elif found is None:
            self.why_not = "no energy counter, no power sensor, and no battery that is discharging"
        return found


def facts(machine: Machine | None = None) -> dict[str, str]:
    """Where power comes from, for the record of a run; empty where it is not told."""
    says = Meter(machine).says
    return {"power": says} if says else {}


def _step(before: int | None, after: int | None, limit: int | None) -> int | None:
    """Microjoules between two readings, over the end of the counter's range where it began anew."""
    if before is None or after is None:
        return None
    if after >= before:
        return after - before
    return after + limit - before if limit and before <= limit else None


def _folders(machine: Machine, folder: str) -> list[str]:
    try:
        return sorted(path.name for path in (machine.root / folder).iterdir())
    except OSError:
        return []


def _rapl(machine: Machine) -> Iterator[tuple[str, str, int | None]]:
    """Counter, name and range of each zone that counts; the same packages by another interface (mmio) are left out."""
    for folder in _folders(machine, _RAPL):
        name = machine.text(f"{_RAPL}/{folder}/name") or ""
        if folder.startswith("intel-rapl:") and _ZONES.fullmatch(name):
            limit = machine.number(f"{_RAPL}/{folder}/max_energy_range_uj")
            yield f"{_RAPL}/{folder}/energy_uj", name, limit


def _hwmon(machine: Machine) -> Iterator[tuple[str, str]]:
    """Name of the driver and folder of each set of sensors."""
    for folder in _folders(machine, _HWMON):
        yield machine.text(f"{_HWMON}/{folder}/name") or "", f"{_HWMON}/{folder}"


def _amd_energy(machine: Machine) -> Source | None:
    """The sockets' counters of the driver amd_energy; its others are the cores inside them."""
    counters = []
    for name, folder in _hwmon(machine):
        files = _folders(machine, folder) if name == "amd_energy" else []
        for file in files:
            label = machine.text(f"{folder}/{file.removesuffix('_input')}_label") or ""
            if re.fullmatch(r"energy\d+_input", file) and label.startswith("Esocket"):
                counters.append((f"{folder}/{file}", None))
    if not counters or any(machine.number(path) is None for path, _ in counters):
        return None
    return Source(says=f"amd_energy ({len(counters)} socket{'s' * (len(counters) > 1)})", counters=tuple(counters))


def _sensor(machine: Machine) -> Source | None:
    """The power sensors of the first driver that is known, averages before moments."""
    for name, folder in _hwmon(machine):
        if name not in _SENSORS:
            continue
        files = _folders(machine, folder)
        channels = sorted({match[1] for file in files if (match := re.fullmatch(r"(power\d+)_(average|input)", file))})
        shown = [f"{folder}/{each}_{'average' if f'{each}_average' in files else 'input'}" for each in channels]
        if shown and all(machine.number(path) is not None for path in shown):
            spans = [machine.number(f"{folder}/{each}_average_interval") or 0 for each in channels]
            return Source(says=_SENSORS[name], gauge=_sum_of(shown), settles_s=max(spans) * 1e-3)
    return None


def _sum_of(paths: Sequence[str]) -> Callable[[Machine], float | None]:
    """A gauge that adds up files of microwatts."""

    def gauge(machine: Machine) -> float | None:
        values = [machine.number(path) for path in paths]
        known = [value for value in values if value is not None]
        return sum(known) * 1e-6 if len(known) == len(values) else None

    return gauge


def _battery(machine: Machine) -> Source | None:
    """The batteries of the machine itself (not of a mouse), while they discharge: on mains they tell nothing."""
    folders = [
        f"{_SUPPLY}/{folder}"
        for folder in _folders(machine, _SUPPLY)
        if machine.text(f"{_SUPPLY}/{folder}/type") == "Battery"
        and machine.text(f"{_SUPPLY}/{folder}/scope") != "Device"
    ]

    def gauge(machine: Machine) -> float | None:
        drawn = [_drawn(machine, folder) for folder in folders]
        known = [watts for watts in drawn if watts is not None]
        return sum(known) if known else None

    return Source(says="the battery's gauge", gauge=gauge, settles_s=_BATTERY_S) if gauge(machine) else None


def _drawn(machine: Machine, folder: str) -> float | None:
    """Watts that leave one battery; drivers give microwatts, or microamperes and microvolts, some with a sign."""
    if machine.text(f"{folder}/status") != "Discharging":
        return None
    power = machine.number(f"{folder}/power_now")
    if power is not None:
        return abs(power) * 1e-6
    current, volts = (machine.number(f"{folder}/{name}") for name in ("current_now", "voltage_now"))
    return abs(current) * volts * 1e-12 if current is not None and volts is not None else None
