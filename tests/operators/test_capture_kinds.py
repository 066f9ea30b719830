"""Kinds of models and of inputs that are captured, or refused in a sentence."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from microbench.errors import UsageError

pytest.importorskip("torch")

import torch
from torch.utils.flop_counter import FlopCounterMode

from microbench.operators.capture import Graph, capture
from microbench.operators.inputs import arranged, filled, parse_input, with_batch
from microbench.operators.model_sources import load_model

nn = torch.nn
LINEAR_FLOP = 2 * 4 * 8 * 8


def _flop(graph: Graph) -> int:
    return sum(step.op.work.flop for step in graph.steps if step.op.row.family in ("linear", "matmul"))


def _meta() -> nn.Module:
    with torch.device("meta"):
        return nn.Linear(8, 8)


class Asks(nn.Module):
    """A constructor that needs values, as those with a depth of each layer do."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = torch.linspace(0, 0.1, 3).tolist()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for rate in self.rates if rate < 0.06)
        nn.init.trunc_normal_(self.layers[0].weight, std=0.02)
        self.register_buffer("flag", torch.tensor(1))

    def forward(self, x: Any) -> Any:
        return self.layers[0](x) if int(self.flag) else x


class Measures(nn.Module):
    """A constructor that needs the values of its parameters: it is built for real."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.scale = float(self.layer.weight.detach().abs().max())

    def forward(self, x: Any) -> Any:
        return self.layer(x)


MODELS: dict[str, Any] = {
    "half": lambda: nn.Linear(8, 8).half(),
    "to bfloat16": lambda: nn.Linear(8, 8).to(torch.bfloat16),
    "double": lambda: nn.Linear(8, 8).double(),
    "to a device": lambda: nn.Linear(8, 8).to("cpu"),
    "to a GPU that is not there": lambda: nn.Linear(8, 8).cuda(),
    "lazy": lambda: nn.LazyLinear(8),
    "lazy module": nn.LazyLinear(8),
    "on meta": _meta,
    "module on meta": _meta(),
    "values in its constructor": Asks,
    "values of its parameters": Measures,
    "a function of the input": lambda x: torch.addmm(x.new_empty(8), x, x.new_empty(8, 8)),
    "a layer in a maker in a maker": lambda: lambda x: torch.mm(x, x.new_empty(8, 8)),
}
STORED = {"half": "f16", "to bfloat16": "bf16", "double": "f64"}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_runs_is_captured(name: str) -> None:
    number_format = STORED.get(name, "f32")
    graph = capture(MODELS[name], [f"4x8:{number_format}"])
    assert _flop(graph) == LINEAR_FLOP
    assert {step.op.dtype for step in graph.steps} == {number_format}


def test_a_lazy_module_is_left_as_it_was() -> None:
    lazy = nn.LazyLinear(8)
    assert capture(lazy, ["4x8"]).parameters == 72
    assert nn.parameter.is_lazy(lazy.weight)


def test_building_a_model_draws_no_random_number_of_the_user_s() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    capture(Asks, ["4x8"])
    assert torch.equal(before, torch.get_rng_state())
    assert nn.Module.register_parameter.__qualname__ == "Module.register_parameter"


def test_a_model_far_larger_than_memory_is_captured() -> None:
    graph = capture(lambda: nn.Sequential(*[nn.Linear(65536, 65536, bias=False) for _ in range(40)]), ["1x65536"])
    assert graph.parameters == 40 * 65536**2


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(100, 16), nn.Linear(16, 100, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x: Any) -> Any:
        return self.head(self.table(x))


@pytest.mark.parametrize("dtype", [None, "bf16", "f64"])
@pytest.mark.parametrize("made", [Tied, Tied()])
def test_shared_weights_stay_shared_in_another_format(dtype: str | None, made: Any) -> None:
    graph = capture(made, ["2x5:i64"], dtype=dtype)
    assert graph.parameters == 1600
    assert graph.parameter_bytes == 1600 * {None: 4, "bf16": 2, "f64": 8}[dtype]
    assert {step.op.dtype for step in graph.steps} == {dtype or "f32"}


@pytest.mark.parametrize("dtype", ["fp4", "i8", "fp8", "bool", "i64"])
def test_a_format_that_no_layer_takes_is_refused(dtype: str) -> None:
    with pytest.raises(UsageError, match="PyTorch runs no whole model in"):
        capture(lambda: nn.Linear(8, 8), ["4x8"], dtype=dtype)


def test_tf32_stores_f32_and_multiplies_in_tf32() -> None:
    graph = capture(lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU()), ["4x8"], dtype="tf32")
    assert [(step.op.name, step.op.dtype) for step in graph.steps] == [("linear", "tf32"), ("relu", "f32")]
    assert graph.parameter_bytes == 4 * 72


@pytest.mark.parametrize(("layer", "products"), [(nn.GRU(8, 8), 2), (nn.LSTM(8, 8), 2), (nn.RNN(8, 8), 2)])
@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_recurrent_layers_keep_their_lists_of_weights(layer: nn.Module, products: int, dtype: str | None) -> None:
    graph = capture(layer, ["3x4x8"], dtype=dtype)
    assert graph.parameters == sum(weight.numel() for weight in layer.parameters())
    assert {step.op.dtype for step in graph.steps} == {dtype or "f32"}


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="without oneDNN a layer is many operators")
@pytest.mark.parametrize("how", [{}, {"bidirectional": True}, {"bias": False}, {"num_layers": 2}])
def test_layers_of_lstm_have_the_parameters_and_products_of_torch(how: dict[str, Any]) -> None:
    layer = nn.LSTM(8, 12, **how)
    graph = capture(layer, ["5x3x8"])
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        nn.LSTM(8, 12, **how)(torch.zeros(5, 3, 8))
    made = [step.op for step in graph.steps if step.op.name == "lstm"]
    gates = sum((22 if each.params["bias"] else 18) * 5 * 3 * 12 for each in made)
    assert sum(each.work.parameters for each in made) == graph.parameters
    assert sum(each.work.flop for each in made) - gates == counter.get_total_flops()


class Point(NamedTuple):
    x: Any
    y: Any


class Takes(nn.Module):
    """All kinds of inputs."""

    def forward(self, pair: Any, *, named: Any = None, flag: bool = False, times: int = 1, held: Any = None) -> Any:
        first, second = pair
        out = torch.mm(first, second) * times
        if flag:
            out = torch.mm(out, named)
        return out + held["bias"] if held else out


def test_inputs_may_be_named_nested_numbers_and_nothing() -> None:
    specs = ["(4x8, 8x8)", "named=8x8", "flag=true", "times=int:3", "held={bias=8}"]
    tensors: dict[str, Any] = {
        "pair": (torch.zeros(4, 8), torch.zeros(8, 8)),
        "named": torch.zeros(8, 8),
        "flag": True,
        "times": 3,
        "held": {"bias": torch.zeros(8)},
    }
    counted = [Counter(str(step.op) for step in capture(Takes, given).steps) for given in (specs, tensors)]
    assert counted[0] == counted[1]
    assert _flop(capture(Takes, specs)) == 2 * LINEAR_FLOP
    assert _flop(capture(Takes, ["(4x8, 8x8)", "named=none"])) == LINEAR_FLOP


def test_a_named_tuple_stays_one() -> None:
    assert _flop(capture(lambda p: torch.mm(p.x, p.y), [Point(torch.zeros(4, 8), torch.zeros(8, 8))])) == LINEAR_FLOP


@pytest.mark.parametrize(
    ("spec", "dtype"), [("4:u8", "uint8"), ("4:i16", "int16"), ("4:c64", "complex64"), ("4:bool", "bool")]
)
def test_inputs_may_be_of_any_format(spec: str, dtype: str) -> None:
    seen = []

    def keeps(x: Any) -> Any:
        seen.append(x.dtype)
        return x.to(torch.float32) + 1 if not x.is_complex() else x + 1

    capture(keeps, [spec])
    assert seen == [getattr(torch, dtype)]


@pytest.mark.parametrize(
    "spec", ["(4x8", "{4x8}", "int:x", "x=", "float:", "4x8:f33", "[4x8, oops]", "names", "(4x8,, {a})"]
)
def test_a_spec_that_cannot_be_read_is_one_sentence(spec: str) -> None:
    with pytest.raises(UsageError) as refusal:
        capture(Takes, [spec])
    assert "\n" not in str(refusal.value)


def test_a_sentence_prints_no_tensor() -> None:
    def fails(x: Any) -> Any:
        raise ValueError(f"cannot use {x} nor {torch.arange(300.0).tolist()} here")

    for given in ([torch.rand(3, 4)], [object()]):
        with pytest.raises(UsageError) as refusal:
            capture(fails, given)
        assert "tensor(" not in str(refusal.value)
        assert "0." not in str(refusal.value)


def test_a_keyword_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="given twice"):
        arranged(["x=4", "x=5"])


def test_a_batch_changes_the_first_size_of_tensors() -> None:
    assert [with_batch(spec, 4) for spec in ("1x8:f32", "name=2x8", "16", "none", "(1x8, 2x8)")] == [
        "4x8:f32",
        "name=4x8",
        "16",
        "none",
        "(1x8, 2x8)",
    ]
    assert parse_input("scalar:f32") == ((), "f32")
    assert filled("none", lambda item: item) is None


def test_a_compiled_model_is_predicted_as_eager_and_says_so() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(nn.Linear(8, 8))
    graph = capture(compiled, ["4x8"])
    assert _flop(graph) == LINEAR_FLOP
    assert "eager" in graph.notes[0]


def test_an_exported_program_is_captured_and_says_so() -> None:
    exported = torch.export.export(nn.Linear(8, 8).eval(), (torch.zeros(4, 8),))
    graph = capture(exported, ["4x8"])
    assert _flop(graph) == LINEAR_FLOP
    assert "exported" in graph.notes[0]


def test_a_scripted_model_is_run_once_and_says_so() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(nn.Linear(8, 8))
    graph = capture(scripted, ["4x8"])
    assert _flop(graph) == LINEAR_FLOP
    assert graph.parameters == 72
    assert "scripted" in graph.notes[0]


class Quantised(nn.Module):
    """A convolution between the steps to 8 bits and back."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.into = nn.Conv2d(3, 8, 3, stride=(2, 1), padding=(0, 1)), torch.ao.quantization.QuantStub()
        self.back = torch.ao.quantization.DeQuantStub()

    def forward(self, x: Any) -> Any:
        return self.back(self.conv(self.into(x)))


def _quantised() -> tuple[nn.Module, nn.Module]:
    """A dynamically quantised perceptron and a convolution quantised after a look at data."""
    tools: Any = torch.ao.quantization
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        linear = tools.quantize_dynamic(nn.Sequential(nn.Linear(8, 16), nn.ReLU()), {nn.Linear}, dtype=torch.qint8)
        images = Quantised().eval()
        images.qconfig = tools.get_default_qconfig(torch.backends.quantized.engine)  # type: ignore[assignment]
        tools.prepare(images, inplace=True)
        images(torch.zeros(1, 3, 8, 8))
        tools.convert(images, inplace=True)
    return linear, images


@pytest.mark.skipif(torch.backends.quantized.engine == "none", reason="this build of PyTorch quantises nothing")
def test_quantised_layers_are_run_once_and_counted_in_8_bits() -> None:
    linear, images = _quantised()
    graph = capture(linear, ["4x8"])
    assert not graph.unknown
    assert (graph.parameters, graph.parameter_bytes) == (8 * 16 + 16, 8 * 16 + 4 * 16)
    work = graph.steps[0].op.work
    assert (graph.steps[0].op.dtype, work.flop) == ("i8", 2 * 4 * 8 * 16)
    assert (work.bytes_read, work.bytes_written) == (4 * 32 + 8 * 16 + 4 * 16, 4 * 64)
    graph = capture(images, ["1x3x8x8"])
    (made,) = [step.op for step in graph.steps if step.op.name == "conv2d"]
    assert not graph.unknown
    assert (made.dtype, made.work.flop) == ("i8", 2 * 8 * 3 * 9 * 3 * 8)
    assert (made.work.bytes_read, made.work.bytes_written) == (192 + 216 + 32, 8 * 3 * 8)
    with pytest.raises(UsageError, match="quantised or scripted model can neither be trained"):
        capture(linear, ["4x8"], train=True)


def test_a_module_file_of_the_current_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of_this_folder.py").write_text("import torch\n\ndef make():\n    return torch.nn.Linear(8, 8)\n")
    monkeypatch.chdir(tmp_path)
    for spec in ("of_this_folder:make", "of_this_folder.py:make", f"{tmp_path}/of_this_folder.py:make"):
        assert _flop(capture(load_model(spec), ["4x8"])) == LINEAR_FLOP


@pytest.mark.parametrize("made", [None, 3, "resnet", [nn.Linear(8, 8)]])
def test_what_makes_no_model_is_one_sentence(made: Any) -> None:
    with pytest.raises(UsageError, match=r"made a|is no model"):
        capture(lambda: made, ["4x8"])


def test_a_maker_s_own_error_is_told() -> None:
    def make() -> nn.Module:
        raise ValueError("no such width")

    with pytest.raises(UsageError, match="ValueError: no such width"):
        capture(make, ["4x8"])
