"""The roles of a kernel: what it is measured for. A kernel declares them; planning and analysis go by nothing else."""

from __future__ import annotations

from typing import Literal

from microbench.records.values import Access, Measures

Role = Literal[
    "ceiling",
    "dram_ceiling",
    "roof",
    "sweep",
    "intensity",
    "latency",
    "cost",
    "transfer",
    "loaded",
    "clock",
    "operator",
]

# What each role asks for, and which measures can take it.
ROLES: dict[Role, str] = {
    "ceiling": "its best rate is a ceiling: of a unit, of a link, or of each memory level",
    "dram_ceiling": "its best rate is a ceiling of main memory only, say because it bypasses the caches",
    "roof": "its ceilings bound the roofline",
    "sweep": "it visits every working set, and the memory levels are read off its curve",
    "intensity": "its rates are the points that the roofline is fitted to",
    "latency": "it gives the seconds per load of each level",
    "cost": "it gives seconds per iteration",
    "transfer": "it gives the seconds that a cache line takes between two CPUs and back",
    "loaded": "it gives latency or bandwidth of some threads while the others keep memory busy",
    "clock": "it tells the core clock beside other kernels",
    "operator": "it is timed as an operator",
}
RATED: tuple[Role, ...] = ("ceiling", "dram_ceiling")
_TAKEN_BY: dict[Role, tuple[Measures, ...]] = {
    "ceiling": ("compute", "memory", "link"),
    "dram_ceiling": ("memory",),
    "roof": ("compute", "memory"),
    "sweep": ("memory", "latency"),
    "intensity": ("intensity",),
    "latency": ("latency",),
    "cost": ("cost",),
    "transfer": ("cost",),
    "loaded": ("memory", "latency"),
    "clock": ("clock",),
    "operator": ("operator",),
}
_UNDECLARED: dict[Measures, tuple[Role, ...]] = {
    "compute": ("ceiling", "roof"),
    "memory": ("ceiling", "roof"),
    "link": ("ceiling",),
    "latency": ("latency", "sweep"),
    "intensity": ("intensity",),
    "cost": ("cost",),
    "clock": ("clock",),
    "operator": ("operator",),
}


def misfit(roles: tuple[Role, ...], measures: Measures) -> str | None:
    """Why a kernel that measures this cannot take these roles; ``None`` where it can."""
    for role in roles:
        if role not in ROLES:
            return f"role {role!r} is unknown; known: {', '.join(ROLES)}"
        if measures not in _TAKEN_BY[role]:
            return f"role {role!r} is for kernels of {' or '.join(_TAKEN_BY[role])}, not of {measures}"
    if "roof" in roles and not set(RATED) & set(roles):
        return f"role 'roof' needs one of {', '.join(RATED)} beside it: only a ceiling bounds the roofline"
    return None


def undeclared(measures: Measures, access: Access | None) -> tuple[Role, ...]:
    """The roles of a sheet that declares none: those that every kernel of its kind had before kernels declared them.

    Files written then are read so, and give the roofline and the levels that they gave.
    """
    if measures == "memory" and access == "read":
        return (*_UNDECLARED["memory"], "sweep")
    return _UNDECLARED[measures]
