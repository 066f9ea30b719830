"""Whether the loop that runs is the loop that the sheet describes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from microbench.records import Proof, Sheet


def prove(sheets: Sequence[Sheet]) -> dict[str, Proof]:
    """Proof by kernel name; a loop that cannot be examined here is ``unproven`` with the reason."""
    found = {sheet.name: Proof(status="unproven", source=sheet.source, reason="not examined") for sheet in sheets}
    native = [sheet for sheet in sheets if sheet.backend == "native"]
    return found | _native(native) if native else found


def _native(sheets: Sequence[Sheet]) -> dict[str, Proof]:
    from microbench.proof import objdump

    try:
        from microbench import _cpu
    except ImportError:
        return {}
    return objdump.prove_binary(sheets, Path(str(_cpu.__file__)))
