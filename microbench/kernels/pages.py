"""What memory kernels were given: whether the pages asked for are the pages got."""

from __future__ import annotations

from microbench.hardware import extensions
from microbench.records import Finding

# A set that is nearly all on huge pages measures as one that is: the rest is one page walk in twenty.
_ENOUGH = 0.95


def findings() -> list[Finding]:
    """Say what the working sets of all open jobs lack; to be called while they are open.

    Returns
    -------
    list of Finding
        ``no-huge-pages`` where sets that asked for 2 MiB pages lie on 4 KiB pages.
    """
    held = [row for row in extensions.cpu().memory() if row["pages"] == "huge"]
    wanted, got = (sum(row[name] for row in held) for name in ("bytes", "huge_bytes"))
    if got >= _ENOUGH * wanted:
        return []
    return [
        Finding(
            code="no-huge-pages",
            severity="warning",
            says=(
                f"of {wanted / 2**20:.0f} MiB that asked for 2 MiB pages, {got / 2**20:.0f} MiB have them; latencies "
                "include page walks"
            ),
            remedy="echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled; free memory that is in pieces",
        )
    ]
