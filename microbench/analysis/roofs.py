"""Which ceilings bound the roofline: those of kernels that take the role."""

from __future__ import annotations

from collections.abc import Iterable

from microbench.records import Ceiling, Sheet


def roofs(ceilings: Iterable[Ceiling], sheets: Iterable[Sheet]) -> list[Ceiling]:
    """The ceilings of kernels that take the role `roof`; one without a sheet counts (others' rows have none)."""
    beside = {sheet.name for sheet in sheets if not sheet.takes("roof")}
    return [ceiling for ceiling in ceilings if ceiling.kernel not in beside]
