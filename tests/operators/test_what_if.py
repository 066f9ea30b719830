from __future__ import annotations

import sys
from pathlib import Path

import pytest

from microbench.errors import UsageError

pytest.importorskip("torch")

import torch

from microbench.operators.capture import Graph, capture
from microbench.operators.what_if import group, scale_channels
from microbench.records import Ceiling, Characterisation, Device, Estimate, MemoryLevel
from microbench.storage.store import dumps

nn = torch.nn


class Net(nn.Module):
    """Two convolutions, one of them depthwise, and a head; of any width."""

    def __init__(self, width: int, groups: int = 1) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.deep = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.wide = nn.Conv2d(width, 2 * width, 3, stride=2, groups=groups, bias=False)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.deep(torch.relu(self.norm(self.stem(x))))
        return self.head(nn.functional.adaptive_avg_pool2d(self.wide(x), 1).flatten(1))


def _shapes(graph: Graph) -> list[str]:
    return [f"{step.phase} {step.op}" for step in graph.steps]


@pytest.mark.parametrize("train", [False, True])
def test_a_scaled_model_is_the_narrower_model(train: bool) -> None:
    wide, narrow = (capture(lambda width=width: Net(width), ["4x3x32x32"], train=train) for width in (32, 16))
    scaled = scale_channels(wide, 0.5)
    assert _shapes(scaled) == _shapes(narrow)
    assert scaled.parameters == pytest.approx(narrow.parameters, rel=0.02)
    assert scaled.peak_bytes == pytest.approx(narrow.peak_bytes, rel=0.1)
    assert scaled.mean_bytes < wide.mean_bytes


def test_an_embedding_is_scaled_with_what_it_feeds() -> None:
    def block(width: int) -> nn.Module:
        return nn.Sequential(nn.Embedding(100, width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, 7))

    wide, narrow = (capture(lambda width=width: block(width), ["2x8:i64"]) for width in (64, 32))
    assert _shapes(scale_channels(wide, 0.5)) == _shapes(narrow)


def test_normalised_groups_of_channels_are_scaled_with_their_convolutions() -> None:
    def block(width: int) -> nn.Module:
        norm = nn.GroupNorm(4, width)
        return nn.Sequential(nn.Conv2d(3, width, 3), norm, nn.SiLU(), nn.Conv2d(width, 8, 3))

    wide, narrow = (capture(lambda width=width: block(width), ["2x3x16x16"]) for width in (64, 32))
    assert _shapes(scale_channels(wide, 0.5)) == _shapes(narrow)
    slim = [step.op for step in scale_channels(wide, 0.1).steps if step.op.name == "group_norm"]
    assert [(made.params["c"], made.params["groups"]) for made in slim] == [(8, 4)]


@pytest.mark.parametrize("train", [False, True])
def test_grouped_convolutions_are_those_of_the_grouped_model(train: bool) -> None:
    dense, grouped = (capture(lambda groups=groups: Net(32, groups), ["4x3x32x32"], train=train) for groups in (1, 4))
    changed = group(dense, 4)
    assert _shapes(changed) == _shapes(grouped)
    assert changed.parameters == pytest.approx(grouped.parameters, rel=0.02)


def test_factor_one_changes_nothing() -> None:
    graph = capture(lambda: Net(32), ["4x3x32x32"], train=True)
    assert scale_channels(graph, 1.0) == graph


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_an_absurd_factor_is_refused(factor: float) -> None:
    with pytest.raises(UsageError, match="factor from"):
        scale_channels(capture(lambda: Net(32), ["4x3x32x32"]), factor)


def test_a_model_without_such_layers_is_refused() -> None:
    graph = capture(nn.ReLU, ["4x8"])
    with pytest.raises(UsageError, match="no channels"):
        scale_channels(graph, 0.5)
    with pytest.raises(UsageError, match="no dense convolution"):
        group(graph, 2)


def test_the_command_says_what_a_what_if_assumes(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from microbench.cli.main import cli

    exactly = [Estimate(value=value, low=value, high=value) for value in (1e12, 1e11)]
    ceilings = (
        Ceiling(name="fma.f32", measures="compute", backend="native", rate=exactly[0], case="a", dtype="f32"),
        Ceiling(name="read.dram", measures="memory", backend="native", rate=exactly[1], case="b", level="DRAM"),
    )
    device = Device(id="0", kind="cpu", name="small", arch="none", levels=(MemoryLevel(name="DRAM"),))
    calibration = tmp_path / "small.json"
    calibration.write_bytes(
        dumps(Characterisation(schema="1.0", device=device, environment=None, plan=None, ceilings=ceilings))
    )
    layers = "torch.nn.Linear(8, 64), torch.nn.Linear(64, 2)"
    (tmp_path / "net.py").write_text(
        f"import torch\n\n\ndef make():\n    return torch.nn.Sequential({layers})\n", encoding="utf-8"
    )
    asked = ["predict", "--model", "net:make", "--input", "4x8", "--calibration", str(calibration)]
    sys.path.insert(0, str(tmp_path))
    try:
        result = CliRunner().invoke(cli, [*asked, "--train", "--scale-channels", "0.5"], catch_exceptions=False)
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("net", None)
    assert result.exit_code == 0
    assert "scale-channels 0.5: every inner width is multiplied" in result.stderr
    for fact in ("FLOP forward", "FLOP backward", "FLOP optimiser", "peak memory", "share of the memory ceiling"):
        assert fact in result.stdout


def test_a_what_if_without_a_model_is_refused() -> None:
    from click.testing import CliRunner

    from microbench.cli.main import cli

    result = CliRunner().invoke(cli, ["predict", "--op", "relu:size=8", "--groups", "2"])
    assert isinstance(result.exception, UsageError)
    assert "--groups is about a --model" in str(result.exception)
