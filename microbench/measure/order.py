"""In which order the cases of a round are visited."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from microbench.records import Case, Sheet

_FREQUENCY_LICENSES = ("128", "neon", "256", "512", "amx")


def in_blocks(
    cases: Sequence[Case], sheets: Mapping[str, Sheet], turn: Callable[[Case], tuple[int, float]], seeded: random.Random
) -> list[Case]:
    """Blocks of one frequency license, narrow to wide, libraries last: their idle threads spin on.

    Parameters
    ----------
    cases, sheets
        What is to be visited, and the sheet of each case by its key.
    turn
        What comes before any license: cases of a smaller turn go first.
    seeded
        Decides inside a block.
    """
    shuffled = list(cases)
    seeded.shuffle(shuffled)

    def place(case: Case) -> tuple[tuple[int, float], int]:
        frequency_license = sheets[case.key].frequency_license or ""
        known = frequency_license in _FREQUENCY_LICENSES
        return turn(case), _FREQUENCY_LICENSES.index(frequency_license) if known else len(_FREQUENCY_LICENSES)

    return sorted(shuffled, key=place)
