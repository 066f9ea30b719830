"""What is known of a device, to hold declared numbers against: the nominal table by name, or a characterisation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from microbench.analysis.roofs import roofs
from microbench.hardware.tables import gpus
from microbench.interop.declared import Declared, Quantity
from microbench.interop.figures import bandwidth, compute
from microbench.records import Characterisation

# Data sheets round, and two editions of one sheet differ by as much (2039 and 2048 GB/s): this is not called a fault.
_ROUNDING = 0.04
# A library reaches at least this share of the true peak, an instruction loop and a stream this: less means the declared
# peak is too high.
_LIBRARY_SHARE, _PEAK_SHARE, _STREAM_SHARE = 0.45, 0.7, 0.65
_CAPACITY = 0.12  # GB or GiB, and what the driver keeps
# A link may be declared as it is printed, or as what programs get of it.
_LINK_LOW, _LINK_HIGH = 0.75, 1.06
# GB/s of one lane in one direction by generation of PCIe, as data sheets round them.
_LANE = {3: 1.0, 4: 2.0, 5: 4.0, 6: 8.0}

# A quantity, and what tells its rows apart: the dtype of a rate (``vector f16`` of the vector unit), or the link.
Key = tuple[Quantity, str | None]
_BY_NAME = {gpu.name: gpu for gpu in gpus.GPUS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A value to compare a declared number with; it fits if declared / value lies between ``low`` and ``high``."""

    value: float
    source: str
    low: float = 1 - _ROUNDING
    high: float = 1 + _ROUNDING

    def fits(self, declared: float, slack: float = 0.0) -> bool:
        """Whether a declared value can be this one."""
        return self.low * (1 - slack) <= declared / self.value <= self.high * (1 + slack)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What is known of one device: several values of a quantity where several products share its name."""

    name: str
    known: Mapping[Key, tuple[Known, ...]]
    measured: bool = False


def nominal_reference(gpu: gpus.Gpu) -> Mapping[Key, tuple[Known, ...]]:
    """Dense peaks by dtype, bandwidth, capacity and links of a GPU in the table."""
    return _reference(gpu.name)


@lru_cache(maxsize=1024)
def _reference(name: str) -> Mapping[Key, tuple[Known, ...]]:
    gpu = _BY_NAME[name]
    found: dict[Key, list[Known]] = {
        ("bandwidth", None): [Known(value=gpu.memory_bandwidth, source=gpu.name)],
        ("capacity", None): [Known(value=gpu.memory_gb * 1e9, source=gpu.name, low=1 - _CAPACITY, high=1 + _CAPACITY)],
    }
    for rate in gpu.chip.rates:
        value = gpu.sms * rate.flop * gpu.clock_hz(rate.unit, rate.dtype)
        known = Known(value=value, source=f"{gpu.name} {rate.unit} {rate.dtype}")
        found.setdefault(("compute", rate.dtype), []).append(known)
        if rate.unit == "vector":
            found[("compute", f"vector {rate.dtype}")] = [known]
    # A vector rate below the matrix rate of one dtype is never the one that a table of peaks means, but in f64 both are
    # printed.
    for key, rows in found.items():
        if key[0] == "compute" and key[1] not in ("f64", "f32") and any(" matrix " in row.source for row in rows):
            found[key] = [row for row in rows if " matrix " in row.source]
    for dtype, value in gpu.also_printed.items():
        found.setdefault(("compute", dtype), []).append(Known(value=value, source=f"another sheet of {gpu.name}"))
    return {key: tuple(rows) for key, rows in {**found, **_links(gpu)}.items()}


def _links(gpu: gpus.Gpu) -> dict[Key, list[Known]]:
    """What the links of a card move in one direction: PCIe, and between cards NVLink or, without that, PCIe."""

    def link(value: float, source: str) -> Known:
        return Known(value=value, source=f"{gpu.name} {source}, one direction", low=_LINK_LOW, high=_LINK_HIGH)

    pcie = [link(_LANE[generation] * lanes * 1e9, f"PCIe {generation} x{lanes}") for generation, lanes in gpu.pcie]
    nvlink = [link(gpu.nvlink / 2, "NVLink")] if gpu.nvlink else []
    rows: dict[Key, list[Known]] = {("link", "pcie"): pcie, ("link", "between"): [*nvlink, *pcie]}
    # Where nobody wrote down whether there is NVLink, PCIe alone refutes nothing.
    return {key: found for key, found in rows.items() if found and (key[1] == "pcie" or gpu.nvlink is not None)}


def measured_reference(c: Characterisation) -> Reference:
    """What a measured device says of declared figures: a ceiling bounds the true peak from below."""
    found: dict[Key, list[Known]] = {}
    for dtype, rate in compute(c).items():
        rows = [row for row in roofs(c.ceilings, c.sheets) if row.measures == "compute" and row.dtype == dtype]
        share = _PEAK_SHARE if any(row.mode == "peak" for row in rows) else _LIBRARY_SHARE
        best = max([rate.value, *(row.rate.value for row in rows if row.scope == "device")])
        # What is reached may be declared, or what it is a share of, or anything between.
        found[("compute", dtype)] = [
            Known(value=best, source=f"measured {rate.source}", low=0.98 * rate.value / best, high=1 / share)
        ]
    streams = [stream for access in ("read", "copy", "triad", "write") if (stream := bandwidth(c, access)) is not None]
    if streams:
        fast, slow = max(streams, key=lambda each: each.value), min(each.value for each in streams)
        low = 0.98 * slow / fast.value
        found[("bandwidth", None)] = [
            Known(value=fast.value, source=f"measured {fast.source}", low=low, high=1 / _STREAM_SHARE)
        ]
    if c.device.memory_bytes:
        found[("capacity", None)] = [
            Known(value=c.device.memory_bytes, source="the device", low=1 - _CAPACITY, high=1 + _CAPACITY)
        ]
    return Reference(name=c.device.name, known={key: tuple(rows) for key, rows in found.items()}, measured=True)


def words(name: str) -> frozenset[str]:
    """Split a name into the words that distinguish cards, in one spelling.

    ``A100_80G`` and ``A100-SXM4-80GB`` share ``a100`` and ``80gb``.

    Examples
    --------
    >>> sorted(words("NVIDIA A100-SXM4-80GB")), sorted(words("nvidia_A100_80G"))
    (['80gb', 'a100', 'sxm'], ['80gb', 'a100'])
    """
    found = re.findall(r"[a-z0-9]+", name.lower())
    alike = {word: re.sub(r"^(\d+)g(?:ib)?$", r"\1gb", re.sub(r"^sxm\d*$", "sxm", word)) for word in found}
    return frozenset(alike[word] for word in found if word not in ("nvidia", "tesla", "geforce", "rtx", "gpu"))


# Words of a name that tell versions of one product apart: size, socket, memory, cards that NVLink joins.
_SHAPE = re.compile(r"\d+gb|sxm|pcie|hbm\d*e?|nvl\d*")
_SOCKETS = ("sxm", "pcie", "nvl")


def models(name: str) -> frozenset[str]:
    """The words of a name that tell products apart, without those of size and socket: its family.

    Examples
    --------
    >>> sorted(models("A100-SXM4-80GB")), sorted(models("RTX 4090 Laptop"))
    (['a100'], ['4090', 'laptop'])
    """
    return frozenset(word for word in words(name) if not _SHAPE.fullmatch(word))


def _sockets(name: str) -> frozenset[str]:
    return frozenset(word for word in words(name) if word in _SOCKETS)


@lru_cache(maxsize=1)
def _families() -> Mapping[frozenset[str], tuple[gpus.Gpu, ...]]:
    """The GPUs of the table by the words of their family, in the order of the table."""
    found: dict[frozenset[str], dict[str, gpus.Gpu]] = {}
    for gpu in gpus.GPUS:
        for spelling in (gpu.name, *gpu.aliases):
            found.setdefault(models(spelling), {})[gpu.name] = gpu
    found.pop(frozenset(), None)
    return {family: tuple(members.values()) for family, members in found.items()}


def candidates(name: str, capacity: float | None) -> list[gpus.Gpu]:
    """GPUs that a declared name can mean, none where it names something else.

    A family's name means all its members. A socket or a size in the name, or a declared capacity, chooses among them.
    """
    declared = words(name)
    sizes = [int(word[:-2]) * 1e9 for word in declared if re.fullmatch(r"\d{1,4}gb", word)]
    exact = gpus.find(name)
    if exact is not None and any(word.startswith("hbm") for word in declared):
        return [exact]  # the driver's own name, which tells the kind of memory
    sockets = _sockets(name)
    found = [
        gpu
        for gpu in _families().get(models(name), ())
        if not sockets or not (own := _own_sockets(gpu.name)) or sockets & own
    ]

    def holding(size: float) -> list[gpus.Gpu]:
        return [gpu for gpu in found if abs(size / (gpu.memory_gb * 1e9) - 1) <= _CAPACITY]

    for size in (*sizes, *([capacity] if capacity else [])):
        if holding(size):
            return holding(size)
    return [exact] if exact is not None and (sizes or capacity) else found


@lru_cache(maxsize=1024)
def _own_sockets(name: str) -> frozenset[str]:
    """The socket of a GPU by its name, else by its aliases; empty where nobody wrote it down."""
    return _sockets(name) or frozenset[str]().union(*(_sockets(alias) for alias in _BY_NAME[name].aliases))


def nominal(name: str, capacity: float | None) -> Reference | None:
    """What the table knows of a device by its name; ``None`` where it knows nothing."""
    known: dict[Key, list[Known]] = {}
    found = candidates(name, capacity)
    for gpu in found:
        for key, rows in nominal_reference(gpu).items():
            known.setdefault(key, []).extend(rows)
    title = found[0].name if found else ""
    return Reference(name=title, known={key: tuple(rows) for key, rows in known.items()}) if found else None


def other_product(row: Declared, beside: Sequence[Declared], stated: Mapping[Figure, Sequence[str]]) -> str | None:
    """The card whose figure a declared number is; some card has nearly any rate, so it must be a likely one.

    It has a related name, or a second figure of the device is its own too, or the file declares that figure of it.

    Parameters
    ----------
    row, beside
        The number, and all numbers of its device.
    stated
        The devices of the file by the figures that it declares of them.
    """
    found: list[tuple[int, int, str]] = []
    for value, name in _figures((row.quantity, row.dtype)):
        apart = abs(row.value / value - 1)
        if apart >= 0.01:
            continue
        related = bool(_numbered(name) & _numbered(row.device))
        if not related and apart >= _PRINTED.get(row.quantity, 0.005):
            continue
        second = any(other is not row and _is_figure(other, _reference(name)) for other in beside)
        copied = any(device != row.device and name in _meant(device) for device in stated.get(figure(row), ()))
        if related or second or copied:
            found.append((2 * related + copied, len(words(name) & words(row.device)), name))
    # Of several cards with that figure, the one of the most similar name was probably copied from.
    return max(found, key=lambda each: each[:2])[2] if found else None


@lru_cache(maxsize=4096)
def _meant(device: str) -> frozenset[str]:
    """The names in the table of the cards that a declared name can mean."""
    return frozenset(gpu.name for gpu in candidates(device, None))


Figure = tuple[Quantity, str | None, float]


def figure(row: Declared) -> Figure:
    """What two declared numbers have in common that say the same of two devices."""
    return (row.quantity, row.dtype, row.value)


@lru_cache(maxsize=256)
def _figures(key: Key) -> tuple[tuple[float, str], ...]:
    """All values of a quantity in the table, with the card's name."""
    return tuple((known.value, gpu.name) for gpu in gpus.GPUS for known in _reference(gpu.name).get(key, ()))


_PRINTED = {"bandwidth": 1e-3}  # what the table has as it is printed; computed rates differ in their third digit


def _is_figure(row: Declared, known: Mapping[Key, tuple[Known, ...]]) -> bool:
    return any(abs(row.value / each.value - 1) < 0.01 for each in known.get((row.quantity, row.dtype), ()))


def _numbered(name: str) -> set[str]:
    """Words of a name that tell models apart: with a digit, and none of a size or socket."""
    return {word for word in models(name) if re.search(r"\d", word)}
