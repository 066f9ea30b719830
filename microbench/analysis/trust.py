"""Which samples are distilled at all, and what is said of those that are not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from microbench.hardware.clock import distillable
from microbench.hardware.nominal import per_cycle
from microbench.records import Ceiling, Device, Finding, Samples, Sheet


def long_enough(grouped: Mapping[str, Sequence[Samples]]) -> tuple[dict[str, list[Samples]], list[Finding]]:
    """The bursts whose samples are long enough, and a finding where a case has none."""
    kept = {
        key: [trusted for samples in group if (trusted := distillable(samples)) is not None]
        for key, group in grouped.items()
    }
    lost = [key for key, group in kept.items() if not group]
    found = {key: group for key, group in kept.items() if group}
    if not lost:
        return found, []
    says = (
        f"{len(lost)} cases have no sample of half the length that it should have, so nothing is said of them: "
        f"{', '.join(lost[:3])}{f' and {len(lost) - 3} more' if len(lost) > 3 else ''}"
    )
    remedy = "close other programs and run again: something held the threads up while their loops were calibrated"
    return found, [Finding(code="too-short", severity="warning", says=says, remedy=remedy)]


def clocks_unknown(ceilings: Iterable[Ceiling], sheets: Mapping[str, Sheet], device: Device) -> Iterator[Finding]:
    """Where the ports' count is known and the clock is not, so that a ceiling stands without its share of nominal."""
    lacks = [
        ceiling
        for ceiling in ceilings
        if ceiling.nominal is None
        and ceiling.mode != "sustained"
        and (sheet := sheets[ceiling.kernel]).reference_clock
        and (ceiling.measures == "compute" or ceiling.level == "L1")
        and per_cycle(sheet, device)
    ]
    if lacks:
        names = [f"{each.name} ({each.threads} thread{'s' if each.threads > 1 else ''})" for each in lacks]
        says = (
            f"the clock of {len(lacks)} ceilings is unknown, since their reference clocks were held up: "
            f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}; they stand without a "
            "share of nominal"
        )
        yield Finding(code="clock-unknown", severity="info", says=says, remedy="run again in a quieter moment")
