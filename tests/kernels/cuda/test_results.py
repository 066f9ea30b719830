"""What a timed launch must leave is known without working it out anew: expected results, sums of streams, stamps."""

from __future__ import annotations

import numpy as np
import pytest

from microbench.kernels.cuda import chase, reference, timing
from microbench.kernels.cuda.registry import VALUES
from microbench.kernels.cuda.rows import ROWS, STAMP_WORDS, CudaRow

TILED = [row for row in ROWS if row.family in ("wgmma", "tcgen05")]
READS = [row for row in ROWS if row.family == "stream" and row.access == "read" and row.space != "bulk"]


@pytest.mark.parametrize("row", TILED, ids=lambda row: row.name)
def test_a_result_is_laid_out_once_and_not_for_every_launch(row: CudaRow) -> None:
    values = VALUES[row.family](row, "exact")
    if row.accumulator != "i32":
        assert values.expected(1) is values.expected(100_001)
    else:
        # Integers add up: what any number of trips leaves are the same three terms.
        one, three, five = (values.expected(trips) for trips in (1, 3, 5))
        assert one is not None
        assert three is not None
        assert five is not None
        words = [each.view(np.uint32) for each in (one, three, five)]
        assert (words[2] - words[1] == words[1] - words[0]).all()


@pytest.mark.parametrize("row", READS, ids=lambda row: row.name)
def test_the_sum_of_a_read_is_that_of_its_elements_one_by_one(row: CudaRow) -> None:
    source = reference.pattern(row.dtype, 0)
    count = 3 * row.tile * 37
    walk = reference.Walk(count=count, first=row.tile, step=5 * row.tile, tile=row.tile, iterations=90)
    expected = np.zeros((row.threads, 4), dtype=np.uint32)
    for start in walk.visited(2):
        for element in range(row.tile):
            expected[element % row.threads] += source[(start + element) % len(source)]
    assert np.array_equal(reference.read_sum(walk, 2, row.threads, source), expected)


@pytest.mark.parametrize("blocks", [1, 5, 528, 1056])
def test_the_clock_is_the_median_of_multiprocessors_of_the_median_of_their_blocks(blocks: int) -> None:
    random = np.random.default_rng(blocks)
    stamps = np.zeros((blocks, STAMP_WORDS), dtype=np.uint64)
    stamps[:, 0] = random.integers(0, 50, blocks) * 32
    stamps[:, 2] = 1_000_000 + random.integers(0, 50, blocks) * 32
    stamps[:, 4] = random.integers(0, 132, blocks)
    stamps[:, 3] = ((stamps[:, 2] - stamps[:, 0]) * 1.7).astype(np.uint64)
    rates = stamps[:, 3] / (stamps[:, 2] - stamps[:, 0]) * 1e9
    expected = np.median([np.median(rates[stamps[:, 4] == sm]) for sm in np.unique(stamps[:, 4])])
    assert timing.clock(stamps, 32) == pytest.approx(expected)


@pytest.mark.parametrize("nodes", [2, 3, 4, 5, 61, 1024, 5000])
def test_a_chase_meets_every_line_once_a_round_and_in_no_order_of_addresses(nodes: int) -> None:
    order = [chase.place(step, nodes) for step in range(nodes)]
    assert sorted(order) == list(range(nodes))
    assert chase.place(nodes, nodes) == order[0]
    if nodes >= 1024:
        strides = np.diff(order)
        assert np.unique(strides).size > nodes / 4
        # Neither neighbours nor lines of one parity follow each other more often than by chance.
        assert np.mean(np.abs(strides) == 1) < 0.02
        assert abs(np.mean(strides % 2) - 0.5) < 0.1
