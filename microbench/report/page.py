"""What the page and the Markdown say beyond the tables of ceilings: method and environment."""

from __future__ import annotations

from dataclasses import dataclass

from microbench.hardware.environment import FACTS
from microbench.records import Ceiling, Characterisation, Proof, Session, units
from microbench.report import summary, view
from microbench.report.sweeps import plural

METHOD = (
    "Value is the best round, low the third best, high the smaller of nominal at the clock seen and the value plus "
    "one step of the timer, "
    "unless the row says otherwise. Noise on a computer only slows, and comes in episodes of seconds: "
    "so the best of rounds spread over the whole run is what the hardware can do.\n"
    "Typical is the median over rounds, with an order-statistic interval: what one gets at a moment taken at random.\n"
    "Nominal is units x width x FLOP per cycle x the clock seen, and the clock comes from a reference clock loop whose "
    "critical path is a chain "
    "of known length. An FMA counts as 2 FLOP. Bytes are those the kernel asks for; write-allocate traffic is not "
    "counted.\n"
    "Converged means that the three best rounds agree and that the rate per clock is what the units can issue. "
    "Proven means that the loop that ran was disassembled and its instructions per iteration equal the data sheet's."
).splitlines()


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodRow:
    """How one ceiling's value, interval, nominal and proof came about, as text."""

    title: str
    says: str
    value: str
    nominal: str
    proof: str
    case: str


def method_rows(characterisation: Characterisation, group: view.Group) -> tuple[MethodRow, ...]:
    """The method of each ceiling of a group."""
    return tuple(_method(characterisation, row) for row in group.rows)


def _method(characterisation: Characterisation, row: view.Row) -> MethodRow:
    ceiling = row.ceiling
    sheet = view.sheet_of(characterisation, ceiling)
    quiet = f", {100 * ceiling.quiet_share:.0f} % of rounds quiet" if ceiling.quiet_share is not None else ""
    typical = f"; typical {view.interval_text(ceiling.typical)}" if ceiling.typical else ""
    return MethodRow(
        title=row.title,
        says=sheet.says if sheet else "",
        value=f"{plural(ceiling.rounds, 'round')}{quiet}; {view.interval_text(ceiling.rate)}{_basis(ceiling)}{typical}",
        nominal=_nominal(ceiling),
        proof=_proof(ceiling.proof),
        case=ceiling.case,
    )


def _basis(ceiling: Ceiling) -> str:
    if ceiling.rate.confidence is not None:
        return f" ({100 * ceiling.rate.confidence:g} % interval)"
    return f" ({ceiling.rate.basis})" if ceiling.rate.basis else ""


def _nominal(ceiling: Ceiling) -> str:
    if ceiling.nominal is None:
        seen = view.per_cycle_text(ceiling)
        return f"no nominal rate is known{f'; {seen} and core seen' if seen else ''}"
    clock = f" at {view.clock_text(ceiling.clock_hz)}" if ceiling.clock_hz else ""
    each = "SM" if ceiling.backend in ("cuda", "triton") else "core"
    per_clock = f"; {view.per_cycle_text(ceiling)} and {each} seen" if ceiling.per_clock else ""
    return f"{view.rate_text(ceiling, ceiling.nominal)}{clock}{per_clock}"


def _proof(proof: Proof) -> str:
    if proof.status == "unproven":
        return f"unproven{': ' + proof.reason if proof.reason else ''}"
    counts = ", ".join(f"{name} {proof.found.get(name, 0)} of {wanted}" for name, wanted in proof.expected.items())
    details = [detail for detail in (counts, proof.schedule, proof.tool, proof.source, proof.reason) if detail]
    return f"{proof.status}{': ' + '; '.join(details) if details else ''}"


def device_facts(characterisation: Characterisation) -> tuple[tuple[str, str], ...]:
    """The facts of the device, one a row: name, units, clocks, memory, power limit."""
    device = characterisation.device
    facts = [
        ("device", f"{device.name}, {device.kind}, {device.arch}"),
        *((name.replace("_", " ") + "s", str(count)) for name, count in device.units_by_kind.items()),
    ]
    clocks = (("base clock", device.base_clock_hz), ("boost clock", device.boost_clock_hz))
    facts += [(name, view.clock_text(value)) for name, value in clocks if value]
    if device.memory_bytes:
        facts.append(("memory", units.size(device.memory_bytes)))
    if device.power_limit_w:
        facts.append(("power limit", f"{device.power_limit_w:g} W"))
    return tuple(facts)


def environment_facts(characterisation: Characterisation) -> tuple[tuple[str, str], ...]:
    """The conditions that it was measured under, one fact a row; unknown facts are ``–``."""
    environment = characterisation.environment
    if environment is None:
        return ()
    facts = [
        ("started", summary.moment(environment.started)),
        ("took", units.seconds(environment.seconds, 3)),
        *((name, f"in {units.seconds(seconds, 3)}") for name, seconds in environment.times.items()),
        ("microbench", environment.microbench),
    ]
    facts += [(f"session {number}", _session(each)) for number, each in enumerate(environment.sessions, start=1)]
    if characterisation.plan:
        budget = characterisation.plan.budget
        facts.append(
            (
                "plan",
                f"{budget.name}, {plural(len(characterisation.plan.cases), 'case')}, seed {characterisation.plan.seed}",
            )
        )
    facts += [_fact(name, value) for name, value in environment.facts.items()]
    return tuple(facts)


def _session(each: Session) -> str:
    took = units.seconds(each.seconds, 3)
    return f"{summary.moment(each.started)}, {plural(each.samples, 'burst')} in {took}, microbench {each.microbench}"


def _fact(name: str, value: float | str | bool | None) -> tuple[str, str]:
    """The name of a fact in words, and its value with the unit that its suffix or the table of facts gives."""
    stem, _, suffix = name.rpartition("_")
    known = {fact.name: fact.unit for fact in FACTS}.get(name, "")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if suffix == "share":
            return name.replace("_", " "), f"{100 * value:.3g} %"
        if suffix == "s" and stem:
            return f"{stem.replace('_', ' ')}", f"{value:.3g} s"
        if known == "byte" or suffix == "bytes":
            return name.removesuffix("_bytes").replace("_", " "), units.size(value)
        if known == "Hz" or suffix == "hz":
            return name.removesuffix("_hz").replace("_", " "), units.prefixed(value, "Hz", 3)
    return name.replace("_", " "), _plain(value)


def _plain(value: float | str | bool | None) -> str:
    if value is None or value == "":
        return view.UNKNOWN if value is None else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
