"""What the words in the names of ceilings mean, and what each cost is, for the page to explain."""

from __future__ import annotations

import re
from collections.abc import Sequence

from microbench.records import MODULE_COST, Characterisation, Cost
from microbench.report import view
from microbench.report.sweeps import parse_case

# Each is a pattern of one word of a variant, the name that it is listed under, and its meaning.
_WORDS = (
    (r"scalar", "scalar", "one number an instruction"),
    (r"v(128|256|512)", "v128, v256, v512", "vectors of so many bits"),
    (r"vex(128|256)", "vex128, vex256", "the same dot products in the older encoding (AVX-VNNI)"),
    (r"amx", "amx", "the matrix unit of a processor (AMX tiles)"),
    (r"nt", "nt", "stores past the caches (non-temporal)"),
    (r"rep", "rep", "the processor's own instruction for strings (rep movsb, rep stosb)"),
    (r"torch", "torch", "measured through PyTorch"),
    (r"triton", "triton", "compiled by Triton"),
    (r"half2|bf16x2", "half2, bf16x2", "two numbers a register"),
    (r"m\d+n\d+k\d+", "m…n…k…", "rows, columns and depth of the product that one instruction makes"),
    (r"ss|rs", "ss, rs", "the first operand from shared memory, or from registers; the second from shared memory"),
    (r"legacy", "legacy", "mma.sync, the matrix instruction of earlier architectures"),
    (r"u\d+", "u4, u8", "so many independent 16-byte accesses in flight a thread"),
    (r"bulk", "bulk", "bulk asynchronous copies"),
    (r"pinned|pageable", "pinned, pageable", "host memory that is locked for copies, or is not"),
    (r"h2d|d2h|both", "h2d, d2h, both", "host to device, device to host, both at once"),
)
_COSTS = {MODULE_COST: "what calling an operator through a module of PyTorch adds"}


def explained(rows: Sequence[view.Row]) -> tuple[tuple[str, str], ...]:
    """The words that occur in the variants of ceilings, with their meaning.

    Examples
    --------
    >>> explained([])
    ()
    """
    used = {word for row in rows for word in re.split(r"[._]", f"{row.ceiling.variant or ''}.{row.ceiling.backend}")}
    found = [(name, says) for pattern, name, says in _WORDS if any(re.fullmatch(pattern, word) for word in used)]
    acc = any(" acc " in row.title for row in rows)
    return (*found, *((("acc", "the format that sums are kept in"),) if acc else ()))


def of_cost(characterisation: Characterisation, cost: Cost) -> str:
    """What a cost is, from the data sheet of the kernel behind it."""
    if cost.level:
        return "one load whose address the load before it brought"
    case = parse_case(cost.case)
    says = next((sheet.says for sheet in characterisation.sheets if case and sheet.name == case.kernel), "")
    return says or _COSTS.get(cost.name, view.UNKNOWN)
