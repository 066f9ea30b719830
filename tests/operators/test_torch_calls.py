from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from microbench.operators import OPERATORS, op

torch = pytest.importorskip("torch")

from microbench.operators.torch_calls import _cold_bytes, call_of

RUNNABLE = sorted(name for name, row in OPERATORS.items() if row.call)


def _outputs(result: Any) -> list[Any]:
    return [result] if isinstance(result, torch.Tensor) else list(result)


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_call_writes_as_many_bytes_as_the_rule_counts(name: str) -> None:
    made = op(name, **OPERATORS[name].example)
    written = sum(out.numel() * out.element_size() for out in _outputs(call_of(made)()))
    # The library hands back the hidden state only; the cell state is written beside it.
    assert written * (2 if name == "lstm_cell" else 1) == made.work.bytes_written


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in RUNNABLE
        if OPERATORS[name].backward
        and name not in ("copy", "cat", "add", "lstm_cell", "batch_norm", "gather", "embedding")
    ],
)
def test_a_backward_call_writes_as_many_bytes_as_the_rule_counts(name: str) -> None:
    made = op(name, direction="backward", **OPERATORS[name].example)
    written = sum(out.numel() * out.element_size() for out in _outputs(call_of(made)()))
    assert written == made.work.bytes_written


def test_a_product_is_the_product_of_its_operands() -> None:
    made = op("matmul", m=3, n=5, k=7)
    torch.manual_seed(7)
    a, b = torch.rand(3, 7) * 2 - 1, torch.rand(7, 5) * 2 - 1
    result = call_of(made)()
    assert isinstance(result, torch.Tensor)
    loops = np.array([[sum(float(a[i, p]) * float(b[p, j]) for p in range(7)) for j in range(5)] for i in range(3)])
    assert np.allclose(result.numpy(), loops, atol=1e-5)


def test_a_cold_call_takes_its_operands_in_turn() -> None:
    cold = call_of(op("relu", size=1 << 22, cache="cold"))
    first, second = cold(), cold()
    assert isinstance(first, torch.Tensor)
    assert isinstance(second, torch.Tensor)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("l2_mib", "wanted_mib"), [(50, 256), (126, 378)])
def test_cold_operands_on_a_gpu_are_three_of_its_last_caches(l2_mib: int, wanted_mib: int) -> None:
    said = SimpleNamespace(
        cuda=SimpleNamespace(get_device_properties=lambda _: SimpleNamespace(L2_cache_size=l2_mib << 20))
    )
    assert _cold_bytes(said, "cuda:0") == wanted_mib << 20
    assert _cold_bytes(said, "cpu") == 256 << 20
