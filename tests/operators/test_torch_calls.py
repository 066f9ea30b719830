from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from microbench.errors import UsageError
from microbench.operators import OPERATORS, op

pytest.importorskip("torch")

import torch

from microbench.operators.torch_calls import call_of, cold_bytes

RUNNABLE = sorted(name for name, row in OPERATORS.items() if row.call)


PASSES = [
    (name, direction)
    for name in RUNNABLE
    for direction in ("forward", "backward")
    if direction == "forward" or OPERATORS[name].backward
]


@pytest.mark.parametrize(("name", "direction"), PASSES)
def test_every_pass_can_be_called_and_gives_tensors(name: str, direction: str) -> None:
    result = call_of(op(name, direction=direction, **OPERATORS[name].example))()
    outputs = [result] if isinstance(result, torch.Tensor) else list(result)
    assert outputs
    assert all(isinstance(each, torch.Tensor) and each.numel() for each in outputs)


def test_what_stands_for_any_operator_says_that_one_must_be_named() -> None:
    with pytest.raises(UsageError, match="pointwise cannot be run: it stands for any elementwise operator; name one"):
        call_of(op("pointwise", size=8))


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
    assert cold_bytes(said, "cuda:0") == wanted_mib << 20
    assert cold_bytes(said, "cpu") == 256 << 20
