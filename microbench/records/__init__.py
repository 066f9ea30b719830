"""Every record of the project: plain, frozen values that refuse what cannot be.

Stored in SI: seconds, bytes, FLOP, hertz, watts. ``None`` means unknown. Only `microbench.storage` turns them into
JSON. The measuring half makes what is in `measured`, the analysing half what is in `analysed` and `fitted`; a
characterisation holds both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from microbench.records.analysed import MODULE_COST, Ceiling, Cost, LevelSeen, Proof
from microbench.records.fitted import Fits, ModelError, OperatorFit, OperatorTiming, Prediction, RooflineFit, RoofPoint
from microbench.records.framed import Framed
from microbench.records.measured import Budget, Case, Device, Plan, Samples, Sheet, Timing
from microbench.records.multicore import (
    CoreToCore,
    CpuPair,
    LoadedPoint,
    Multicore,
    NodePair,
    ScalingCurve,
    ScalingPoint,
    TeamClock,
)
from microbench.records.topology import Core, CoreKind, Cpu, MemoryLevel, MemoryNode, Part, Placement, Topology
from microbench.records.values import (
    BACKENDS,
    LEVELS,
    MEASURES,
    NAME,
    Access,
    Backend,
    Estimate,
    Measures,
    Mode,
    Operands,
    ProofStatus,
    Row,
    Scope,
    Severity,
    Unit,
    Value,
    Work,
    all_within,
    one_of,
    refuse,
    within,
)
from microbench.text import visible

__all__ = [
    "BACKENDS",
    "LEVELS",
    "MEASURES",
    "MODULE_COST",
    "Access",
    "Backend",
    "Budget",
    "Case",
    "Ceiling",
    "Characterisation",
    "Core",
    "CoreKind",
    "CoreToCore",
    "Cost",
    "Cpu",
    "CpuPair",
    "Device",
    "Environment",
    "Estimate",
    "Finding",
    "Fits",
    "LevelSeen",
    "LoadedPoint",
    "Measures",
    "MemoryLevel",
    "MemoryNode",
    "Mode",
    "ModelError",
    "Multicore",
    "NodePair",
    "Operands",
    "OperatorFit",
    "OperatorTiming",
    "Part",
    "Placement",
    "Plan",
    "Prediction",
    "Proof",
    "ProofStatus",
    "RoofPoint",
    "RooflineFit",
    "Row",
    "Samples",
    "ScalingCurve",
    "ScalingPoint",
    "Scope",
    "Session",
    "Severity",
    "Sheet",
    "TeamClock",
    "Timing",
    "Topology",
    "Unit",
    "Value",
    "Work",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was noticed while measuring, analysing or examining a machine, and what the user can do about it.

    ``code`` names the kind of finding, ``says`` is the sentence, ``remedy`` what to do. No setting of the machine is
    changed.
    """

    code: str
    severity: Severity
    says: str
    remedy: str = ""
    case: str | None = None

    def __post_init__(self) -> None:
        one_of(self, "severity", ("info", "warning", "error"))
        refuse(
            not NAME.fullmatch(self.code.replace("-", "_")),
            f"finding code {self.code!r} is not lower-case words joined by '-'",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One process of a run that was interrupted and resumed: when, how long, and under which conditions.

    Its samples are those whose ``started_s`` is at least ``from_s``, up to the next session's. ``seconds`` of a session
    that was killed end with its last sample.
    """

    started: str
    seconds: float
    microbench: str
    from_s: float = 0.0
    samples: int = 0
    facts: dict[str, Value | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        within(self, "seconds", "seconds", "from_s", zero=True)
        within(self, "units", "samples", zero=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The conditions of a run: when, how long, which version, and one fact an entry (``kernel``, ``compiler`` ...).

    ``times`` are the seconds of its parts, where they were told apart: ``checked``, ``prepared``, ``measured``.
    ``label`` is the user's own word for the run, ``repeat`` what runs of one ``run --repeat`` have in common. Of a run
    that was resumed these are the conditions of the last process; ``sessions`` has all of them, in their order, and is
    empty otherwise, and in files older than schema 1.3.
    """

    started: str
    seconds: float
    microbench: str
    facts: dict[str, Value | None] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    label: str = ""
    repeat: str = ""
    sessions: tuple[Session, ...] = ()

    def __post_init__(self) -> None:
        within(self, "seconds", "seconds", zero=True)
        all_within(self, "seconds", "times", zero=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Characterisation(Framed):
    """All that is known of one device: the file that reports, comparisons, predictions and exports read.

    A file that `microbench fit` wrote has no environment, plan, samples or measured facts of the device.
    """

    schema: str
    device: Device
    environment: Environment | None
    plan: Plan | None
    sheets: tuple[Sheet, ...] = ()
    samples: tuple[Samples, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()
    costs: tuple[Cost, ...] = ()
    fits: Fits = field(default_factory=Fits)
    multicore: Multicore | None = None
    findings: tuple[Finding, ...] = ()

    def __repr__(self) -> str:
        """The device, when, and how much of what: the whole of it would be a million characters."""
        when = f", {self.environment.started}" if self.environment is not None else ", fitted"
        counts = (("ceilings", self.ceilings), ("costs", self.costs), ("samples", self.samples))
        held = ", ".join(f"{len(found)} {name}" for name, found in counts if found)
        return visible(f"<Characterisation of {self.device.name}{when}: {held or 'nothing'}>")

    if TYPE_CHECKING:  # bound where the package is assembled: records know nothing of analysis

        @property
        def roofline(self) -> Any:
            """The empirical `microbench.analysis.roofline.Roofline` of all threads."""

        def ceilings_frame(self) -> Any:
            """The ceilings as a pandas DataFrame in long form, SI units in the column names."""

        def draw_roofline(self, ax: Any) -> Any:
            """Draw the roofline on matplotlib axes and return them."""
