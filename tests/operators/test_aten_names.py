"""Which of torch's operators have a rule, and what happens to those that have none: named, each with the reason."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch.utils.flop_counter import flop_registry

import microbench.operators as table
from microbench.errors import UsageError
from microbench.operators.aten import ATEN, VIEWS
from microbench.operators.capture import capture

nn = torch.nn

# Core operators without a rule: what they give depends on data, so that capture refuses them in a sentence.
REFUSED = {"nonzero": "its result is as long as there are numbers that are not zero"}
# Operators of the counter's registry that are no aten operators: a mode that sees aten operators sees none of them.
NOT_SEEN = {"flex_attention", "flex_attention_backward"}


def _core() -> list[str]:
    """Names of torch's core operators that are neither views nor elementwise, both of which need no rule."""
    found = []
    for name in dir(torch.ops.aten):
        packet = getattr(torch.ops.aten, name)
        overloads = [getattr(packet, each) for each in packet.overloads()] if hasattr(packet, "overloads") else []
        if any(torch.Tag.core in each.tags for each in overloads):
            free = any(each.is_view or torch.Tag.pointwise in each.tags for each in overloads)
            found += [] if free else [name]
    return found


@pytest.mark.parametrize("name", _core())
def test_a_core_operator_has_a_rule_or_is_named(name: str) -> None:
    assert (name in ATEN or name in VIEWS) != (name in REFUSED)


@pytest.mark.parametrize("name", sorted(str(each).removeprefix("aten.") for each in flop_registry))
def test_what_torch_counts_has_a_rule_or_is_named(name: str) -> None:
    assert (name in ATEN) != (name in NOT_SEEN)


def test_a_core_operator_without_a_rule_is_refused_in_a_sentence() -> None:
    class Finds(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.nonzero(x)

    with pytest.raises(UsageError, match=r"nonzero.* depends on data"):
        capture(Finds, ["16"])


def test_every_rule_is_for_a_name_that_torch_has_or_had() -> None:
    """Names come and go between versions; a spelling mistake would stand alone."""
    gone = [name for name in ATEN if "." not in name and not hasattr(torch.ops.aten, name)]
    assert len(gone) < 0.1 * len(ATEN), gone


def test_no_rule_is_for_what_only_looks_at_a_tensor() -> None:
    assert not set(ATEN) & VIEWS
    assert table.OPERATORS


@pytest.mark.parametrize("layer", [nn.Hardswish, nn.ReLU, nn.SiLU, nn.Hardtanh, nn.ELU, nn.Mish, nn.LeakyReLU, nn.SELU])
def test_an_activation_in_place_is_an_activation(layer: Any) -> None:
    for inplace in (False, True):
        graph = capture(nn.Sequential(nn.Conv2d(2, 2, 1), layer(inplace=inplace)), ["1x2x4x4"])
        assert not graph.unknown
        assert graph.steps[-1].op.work.bytes_written == 4 * 32
