from __future__ import annotations

import pytest

from microbench import blas


def test_linear_algebra_has_one_thread_inside_and_what_it_had_outside() -> None:
    with blas.one_thread():
        found = blas._loaded()
        inside = [get() for get, _ in found]
    if not found:
        pytest.skip("numpy and scipy use another library than OpenBLAS here")
    assert inside == [1] * len(found)
    (get, change), *_ = found
    held = get()
    change(2)
    with blas.one_thread():
        pass
    assert get() == 2
    change(held)
