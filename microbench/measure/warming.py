"""How a working set is brought to where it can be cached before it is timed."""

from __future__ import annotations

from microbench.records import Case, Sheet

# One pass brings a working set in; a second lets a small one settle. Beyond this size a second pass costs more than it
# tells.
TWO_PASSES_BYTES = {False: 64 * 2**20, True: 4 * 2**20}
# A chase takes some 100 ns a line, so one pass through more than this would cost a tenth of a second in every round.
LAST_CHASED_PASS_BYTES = 16 * 2**20
LINE_BYTES = 64


def passes(case: Case, sheet: Sheet) -> int:
    """Iterations that bring a working set in; 0 where there is none, or none that a cache could hold."""
    working_set, chased = int(case.params.get("working_set", 0)), sheet.measures == "latency"
    touched = sheet.work.bytes or sheet.loads * LINE_BYTES * chased
    if not touched or case.params.get("cold") or (chased and working_set > LAST_CHASED_PASS_BYTES):
        return 0
    return (2 if working_set <= TWO_PASSES_BYTES[chased] else 1) * -(-working_set // touched)
