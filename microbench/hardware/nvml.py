"""What NVML says about a GPU: power, temperature, clocks, throttling.

Absent sensors are ``None``, an absent NVML is no error.
"""

from __future__ import annotations

import contextlib
import time
import uuid as uuids
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from microbench.records import Value

# Reasons that lower the clock below what was asked for (NVML's clocks event reasons); idle (1), application clocks (2)
# and sync boost (16) are settings, not throttling.
THROTTLE = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
}
ENERGY_WINDOW_S = 1.0  # the energy counter moves in steps of tens of milliseconds


def _handle(uuid: bytes) -> tuple[Any, Any] | None:
    """Return the bindings and the handle of the device or MIG instance with this UUID, ``None`` without NVML."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    for kind in ("GPU", "MIG"):
        with contextlib.suppress(pynvml.NVMLError):
            return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"{kind}-{uuids.UUID(bytes=uuid)}".encode())
    return None


def facts(uuid: bytes) -> dict[str, Value | None]:
    """Return the settings and limits of a device; every key is there, ``None`` where NVML or the sensor is not."""
    found = _handle(uuid)

    def ask(name: str, *args: Any, scale: float | None = None) -> Any:
        if found is None:
            return None
        bindings, handle = found
        try:
            value = getattr(bindings, name)(handle, *args)
        except bindings.NVMLError:
            return None
        return value if scale is None else value * scale

    mig = ask("nvmlDeviceGetMigMode")
    instance = ask("nvmlDeviceIsMigDeviceHandle")
    return {
        "nvml": found is not None,
        "max_clock_hz": ask("nvmlDeviceGetMaxClockInfo", 1, scale=1e6),
        "max_memory_clock_hz": ask("nvmlDeviceGetMaxClockInfo", 2, scale=1e6),
        "power_limit_w": ask("nvmlDeviceGetEnforcedPowerLimit", scale=1e-3),
        "pcie_generation": ask("nvmlDeviceGetCurrPcieLinkGeneration"),
        "pcie_width": ask("nvmlDeviceGetCurrPcieLinkWidth"),
        "mig_mode": None if mig is None else bool(mig[0]),
        "mig_instance": None if instance is None else bool(instance),
        "persistence_mode": None if (mode := ask("nvmlDeviceGetPersistenceMode")) is None else bool(mode),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at the sensors: watts, degrees Celsius, hertz, and why the clock is held down (empty where it is not).

    ``power_w`` is averaged over a window that `Sensors.restart` begins: what most cards call their power is the average
    of the last second, whatever ran in it.
    """

    power_w: float | None = None
    temperature_c: float | None = None
    clock_hz: float | None = None
    energy_j: float | None = None
    throttled: tuple[str, ...] = ()


class Sensors:
    """The sensors of one device, read between launches.

    ``power_w`` averages the energy counter over windows of at least a second; where there is no counter it is the
    card's own average of about as long.
    """

    def __init__(self, uuid: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        self._found = _handle(uuid)
        self._clock = clock
        self._window: tuple[float, float] | None = None
        self._power: float | None = None

    @property
    def present(self) -> bool:
        """Whether NVML knows this device."""
        return self._found is not None

    def _ask(self, name: str, *args: Any) -> Any:
        if self._found is None:
            return None
        bindings, handle = self._found
        try:
            return getattr(bindings, name)(handle, *args)
        except (bindings.NVMLError, AttributeError):
            return None

    def restart(self) -> None:
        """Begin a new window: the energy until now went into other kernels."""
        self._window = self._power = None
        self.read()

    def read(self) -> Reading:
        """Read every sensor once (well under a millisecond)."""
        power = self._ask("nvmlDeviceGetPowerUsage")
        energy = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        clock = self._ask("nvmlDeviceGetClockInfo", 1)
        return Reading(
            power_w=self._averaged(energy, None if power is None else power * 1e-3),
            temperature_c=self._ask("nvmlDeviceGetTemperature", 0),
            clock_hz=clock * 1e6 if clock else None,
            energy_j=None if energy is None else energy * 1e-3,
            throttled=self.reasons(),
        )

    def reasons(self) -> tuple[str, ...]:
        """Why the clock is held down at this moment; empty where it is not, or nobody says."""
        reasons = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:
            reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return tuple(word for bit, word in THROTTLE.items() if reasons and reasons & bit)

    def _averaged(self, energy_mj: int | None, usage: float | None) -> float | None:
        if energy_mj is None:
            return usage or None
        now, joules = self._clock(), energy_mj * 1e-3
        if self._window is None:
            self._window = (now, joules)
        elif now - self._window[0] >= ENERGY_WINDOW_S:
            self._power = (joules - self._window[1]) / (now - self._window[0])
            self._window = (now, joules)
        return self._power or usage or None
