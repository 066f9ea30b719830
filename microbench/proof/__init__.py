"""Whether the loop that runs is the loop that the sheet describes."""

from __future__ import annotations

from collections.abc import Sequence

from microbench.records import Proof, Sheet


def prove(sheets: Sequence[Sheet]) -> dict[str, Proof]:
    """Proof by kernel name, for the kernels whose machine code can be examined here."""
    return {sheet.name: Proof(status="unproven", source=sheet.source, reason="not examined") for sheet in sheets}
