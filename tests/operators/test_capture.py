from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from microbench.errors import UsageError

pytest.importorskip("torch")

import torch

from microbench.operators.capture import capture
from microbench.operators.inputs import parse_input
from microbench.operators.model_sources import load_model

nn = torch.nn


def _names(graph: Any, phase: str = "forward") -> Counter[str]:
    return Counter(step.op.name for step in graph.steps if step.phase == phase)


def test_a_perceptron_is_two_linears_and_a_relu() -> None:
    graph = capture(lambda: nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10)), ["64x784:f32"])
    assert _names(graph) == {"linear": 2, "relu": 1}
    assert graph.parameters == 784 * 256 + 256 + 256 * 10 + 10
    assert graph.parameter_bytes == 4 * graph.parameters
    assert graph.steps[0].op.params | {"m": 64, "n": 256, "k": 784} == graph.steps[0].op.params
    assert graph.peak_bytes >= graph.parameter_bytes + 4 * 64 * 784
    assert graph.batch == 64


def test_flop_of_a_model_equal_those_of_the_flop_counter_of_torch() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(2, 3, 16, 16))
    graph = capture(model, ["2x3x16x16:f32"])
    products = sum(step.op.work.flop for step in graph.steps if step.op.name in ("conv2d", "linear"))
    assert products == counter.get_total_flops()


def test_training_adds_backward_and_the_passes_of_adam_over_each_parameter() -> None:
    graph = capture(lambda: nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)), ["16x8"], train=True)
    assert _names(graph, "optimiser") == {"pointwise": 4 * 7}
    assert _names(graph, "backward")["matmul"] == 3
    assert any(step.op.direction == "backward" for step in graph.steps)


def test_a_group_norm_reads_one_weight_a_channel() -> None:
    (step,) = capture(lambda: nn.GroupNorm(1, 64), ["1x64x56x56"]).steps
    assert str(step.op) == "group_norm[n=1;c=64;h=3136;w=1;groups=1].f32"
    assert (step.op.work.bytes_read, step.op.work.bytes_written) == (803_328, 802_816)
    assert step.op.work.parameters == 128


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (lambda: nn.GroupNorm(4, 8), "group_norm"),
        (lambda: nn.LayerNorm(6), "layer_norm"),
        (lambda: nn.BatchNorm2d(8), "batch_norm"),
        (lambda: nn.Softmax(1), "softmax"),
        (lambda: nn.MaxPool2d(2), "max_pool2d"),
        (lambda: nn.AvgPool2d(2), "avg_pool2d"),
    ],
)
def test_a_layer_s_backward_pass_is_that_of_its_operator(layer: Any, name: str) -> None:
    graph = capture(lambda: nn.Sequential(nn.Conv2d(8, 8, 1), layer()), ["2x8x6x6"], train=True)
    passes = [step.op.direction for step in graph.steps if step.op.name == name]
    assert passes == ["forward", "backward"]
    assert not graph.unknown


def test_a_dtype_turns_parameters_and_inputs() -> None:
    graph = capture(lambda: nn.Linear(8, 4), ["16x8:f32"], dtype="bf16")
    assert {step.op.dtype for step in graph.steps} == {"bf16"}
    assert graph.parameter_bytes == 2 * graph.parameters


def test_a_data_dependent_shape_is_one_sentence() -> None:
    class Picks(nn.Module):
        def forward(self, x: Any) -> Any:
            return x[x > 0]

    with pytest.raises(UsageError, match="depends on data") as refusal:
        capture(Picks, ["16"])
    assert "\n" not in str(refusal.value)


def test_an_operator_without_a_rule_is_counted() -> None:
    class Factors(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.linalg.ldl_factor(x)[0] + x

    graph = capture(Factors, ["4x4"])
    assert graph.unknown == {"linalg_ldl_factor_ex": 1}
    assert _names(graph) == {"add": 1}


def test_a_model_that_fails_is_one_sentence() -> None:
    with pytest.raises(UsageError, match="cannot be captured"):
        capture(lambda: nn.Linear(8, 4), ["16x9"])


@pytest.mark.parametrize("spec", ["", "8x", "x8", "8x0", "8x8:f33", "-1x8", "99999999999999999999"])
def test_a_wrong_input_is_one_sentence(spec: str) -> None:
    with pytest.raises(UsageError):
        parse_input(spec)


@pytest.mark.parametrize("spec", ["torch.nn", "no.such.module:x", "math:pi", "math:nothing"])
def test_a_model_that_cannot_be_imported_is_one_sentence(spec: str) -> None:
    with pytest.raises(UsageError):
        load_model(spec)


def test_a_real_model_is_captured_without_leaving_a_trace_on_it() -> None:
    model = nn.Linear(8, 4)
    before = [type(parameter) for parameter in model.parameters()]
    capture(model, [torch.randn(3, 8)], train=True)
    assert [type(parameter) for parameter in model.parameters()] == before
    assert model.weight.grad is None


def test_a_failing_shape_says_nothing_of_torch_s_own(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="cannot be captured"):
        capture(lambda: nn.Sequential(nn.Linear(8, 4), nn.Linear(5, 4)), ["16x8"])
    assert "Traceback" not in capfd.readouterr().err


def test_a_model_that_leaves_the_program_is_one_sentence() -> None:
    class Leaves(nn.Module):
        def forward(self, x: Any) -> Any:
            raise SystemExit(3)

    with pytest.raises(UsageError, match="SystemExit"):
        capture(Leaves, ["16"])


def test_a_model_s_literal_arguments_are_passed_on_and_never_evaluated() -> None:
    made = load_model("torch.nn:Linear(784, 256, bias=False)")()
    assert tuple(made.weight.shape) == (256, 784)
    assert made.bias is None
    for spec in (
        "torch.nn:Linear(__import__('os'), 2)",
        "torch.nn:Linear(784,",
        "torch.nn:Linear(784)(2)",
        "torch.nn:Linear(*[1])",
    ):
        with pytest.raises(UsageError, match="are no literals"):
            load_model(spec)
