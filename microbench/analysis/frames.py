"""Records as flat rows for tables, CSV and pandas: SI units in the column names."""

from __future__ import annotations

from collections.abc import Iterable

from microbench.records import Ceiling, Row
from microbench.records.dtypes import DTYPES


def ceiling_rows(ceilings: Iterable[Ceiling]) -> Iterable[Row]:
    """Ceilings in long form, SI units in the column names."""
    for ceiling in ceilings:
        rate, typical = ceiling.rate, ceiling.typical
        yield {
            "name": ceiling.name,
            "measures": ceiling.measures,
            "unit": ceiling.unit,
            "dtype": ceiling.dtype,
            "level": ceiling.level,
            "access": ceiling.access,
            "variant": ceiling.variant,
            "backend": ceiling.backend,
            "threads": ceiling.threads,
            "placement": ceiling.placement,
            "mode": ceiling.mode,
            "rate_unit": DTYPES[ceiling.dtype].rate_unit
            if ceiling.measures == "compute" and ceiling.dtype
            else "byte/s",
            "rate_per_s": rate.value,
            "rate_low_per_s": rate.low,
            "rate_high_per_s": rate.high,
            "typical_per_s": typical.value if typical else None,
            "nominal_per_s": ceiling.nominal,
            "clock_hz": ceiling.clock_hz,
            "rounds": ceiling.rounds,
            "converged": ceiling.converged,
            "quiet_share": ceiling.quiet_share,
            "proof": ceiling.proof.status,
            "case": ceiling.case,
        }
