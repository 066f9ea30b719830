from __future__ import annotations

import numpy as np

from microbench.calibrate import timings
from microbench.operators import op
from microbench.operators.core import parse
from microbench.rounds import Rounds


def test_timings_keep_the_envelope_and_the_number_of_rounds_of_what_ran() -> None:
    operators = (op("matmul", m=4, n=5, k=6), op("add", size=7), op("relu", size=3))
    seconds = np.array([[3.0, 1.23456, np.nan], [np.nan, np.nan, np.nan], [2e-6, 1e-6, 3e-6]])
    first, second = timings(Rounds(operators=operators, seconds=seconds))
    assert (first.seconds, first.rounds) == (1.235, 2)
    assert (second.seconds, second.rounds) == (1e-6, 3)
    assert parse(f"{first.op}[{first.params}].{first.dtype}") == operators[0]
