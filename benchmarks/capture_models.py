"""Which models of torchvision, transformers and timm are captured, and whether FLOP and parameters are those of torch.

``python benchmarks/capture_models.py torchvision transformers timm --out results/predict/captured.md``; without names
those libraries that are installed. Nothing is fetched and no weight is made: torch's own counter runs the same model on
the meta device. Pairs that a causal mask hides are counted by torch's counter and not here: the column masked has them.
A whole run takes half an hour of one core.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils import flop_counter

from microbench.errors import MicrobenchError
from microbench.operators import Op, op
from microbench.operators.capture import Graph, capture
from microbench.operators.hub_models import inputs_of
from microbench.operators.inputs import arranged, parse_input, stored

# Families whose FLOP torch's counter counts.
_COUNTED = ("matmul", "bmm", "linear", "convolution", "attention")
# FLOP of a model that may run for real where torch's counter cannot do without data.
_SMALL = 20e9
_VIDEO = {"r3d_18": 112, "mc3_18": 112, "r2plus1d_18": 112}
# One class of each architecture, made from its library's default configuration with few layers.
_HUB = """AlbertForMaskedLM BartForConditionalGeneration BertForMaskedLM BloomForCausalLM CLIPModel
ConvNextForImageClassification DebertaV2ForMaskedLM DetrForObjectDetection Dinov2Model DistilBertForMaskedLM
ElectraForPreTraining FalconForCausalLM GPT2LMHeadModel GPTNeoXForCausalLM Gemma2ForCausalLM LlamaForCausalLM
MambaForCausalLM MistralForCausalLM MixtralForCausalLM OPTForCausalLM Phi3ForCausalLM Qwen2ForCausalLM
Qwen3ForCausalLM RobertaForMaskedLM SegformerForSemanticSegmentation SwinForImageClassification
T5ForConditionalGeneration ViTForImageClassification Wav2Vec2ForCTC WhisperForConditionalGeneration"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model to try: what makes it, and specs of its inputs."""

    name: str
    make: Callable[[], Any]
    inputs: tuple[str, ...]


def import_torchvision() -> Any:
    """Import torchvision, without its compiled operators where they do not belong to this build of PyTorch."""
    try:
        return importlib.import_module("torchvision")
    except (RuntimeError, OSError):
        for name in [each for each in sys.modules if each.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        registrations = "torchvision._meta_registrations"
        sys.modules[registrations] = types.ModuleType(registrations)
        return importlib.import_module("torchvision")


def of_torchvision() -> Iterator[Case]:
    """All models of torchvision."""
    models = import_torchvision().models
    for name in models.list_models():
        side = 299 if "inception" in name else 128 if "raft" in name else _VIDEO.get(name, 224)
        video = name in _VIDEO or name.startswith(("s3d", "mvit", "swin3d"))
        spec = f"1x3x16x{side}x{side}:f32" if video else f"1x3x{side}x{side}:f32"
        more: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        if name.startswith(("deeplab", "fcn", "lraspp", "fcos", "retina", "ssd")) or "rcnn" in name:
            more["weights_backbone"] = None
        inputs = (spec, spec) if "raft" in name else (spec,)
        yield Case(name=name, make=_maker(models.get_model, name, more), inputs=inputs)


def _maker(get: Callable[..., Any], name: str, more: dict[str, Any]) -> Callable[[], Any]:
    return lambda: get(name, weights=None, **more)


def of_transformers() -> Iterator[Case]:
    """One model of each architecture, two layers deep."""
    library = importlib.import_module("transformers")
    for name in _HUB.split():
        kind = getattr(library, name)
        config = kind.config_class()
        for key in ("num_hidden_layers", "num_layers", "encoder_layers", "decoder_layers"):
            if isinstance(getattr(config, key, None), int) and not hasattr(config, "depths"):
                setattr(config, key, 2)
        yield Case(name=name, make=_hub_maker(kind, config), inputs=tuple(inputs_of(kind, config)))


def _hub_maker(kind: Any, config: Any) -> Callable[[], Any]:
    return lambda: kind._from_config(config)  # noqa: SLF001 - what from_config calls


def of_timm() -> Iterator[Case]:
    """The first model of each module of timm."""
    library = importlib.import_module("timm")
    for module in library.list_modules():
        names = library.list_models(module=module)
        if names:
            sizes = (
                library.get_pretrained_cfg(names[0]).input_size
                if library.get_pretrained_cfg(names[0])
                else (3, 224, 224)
            )
            spec = "x".join(map(str, (1, *sizes)))
            yield Case(name=names[0], make=_timm_maker(library, names[0]), inputs=(f"{spec}:f32",))


def _timm_maker(library: Any, name: str) -> Callable[[], Any]:
    return lambda: library.create_model(name, pretrained=False)


_LIBRARIES = {"torchvision": of_torchvision, "transformers": of_transformers, "timm": of_timm}


def counted(case: Case, device: str = "meta") -> tuple[int, int]:
    """FLOP of one pass by torch's counter, which does not know attention on processors by its name, and parameters."""
    counts: Any = flop_counter.sdpa_flop_count
    named = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001 - its only name
    known = {named: lambda q, k, v, *_, **__: counts(q, k, v)}
    with torch.device(device):
        model = case.make().eval()
        places, names = arranged(list(case.inputs))
        made = [_zeros(spec) for spec in places]
        with flop_counter.FlopCounterMode(display=False, custom_mapping=known) as counter, torch.no_grad():
            model(*made, **{key: _zeros(spec) for key, spec in names.items()})
    return counter.get_total_flops(), sum(weight.numel() for weight in model.parameters())


def _zeros(spec: str) -> Any:
    sizes, number_format = parse_input(spec)
    return torch.zeros(sizes, dtype=stored(torch, number_format))


def _reference(case: Case, flop: int) -> tuple[int, int]:
    """What torch counts without data, or, of a model that looks at its data and is small, with some."""
    try:
        return counted(case)
    except Exception:
        if flop > _SMALL:
            raise
        return counted(case, "cpu")


def _products(made: Op) -> int:
    """FLOP of an operator's products; of a layer of LSTM those at each step."""
    if made.name == "lstm":
        s = made.params
        return 8 * s["steps"] * s["b"] * s["hidden"] * (s["input"] + s["hidden"])
    return made.work.flop if made.row.family in _COUNTED else 0


def masked(graph: Graph) -> int:
    """FLOP of pairs that a causal mask hides."""
    found = [step.op for step in graph.steps if step.op.params.get("causal")]
    shapes: list[dict[str, Any]] = [each.params | {"causal": 0} for each in found]
    whole = [op(each.name, **shape).work.flop for each, shape in zip(found, shapes, strict=True)]
    return sum(whole) - sum(each.work.flop for each in found)


def row(case: Case) -> list[str]:
    """One line of the table."""
    started = time.process_time()
    try:
        graph = replace(capture(case.make, list(case.inputs)), name=case.name)
    except MicrobenchError as error:
        return [case.name, "no", "", "", "", "", str(error)]
    seconds = time.process_time() - started
    ours = sum(_products(step.op) for step in graph.steps)
    hidden = masked(graph)
    try:
        flop, parameters = _reference(case, ours)
    except Exception as error:  # noqa: BLE001 - a model may need what the meta device has not
        said = f"torch's counter: {type(error).__name__}"
        return [case.name, "yes", f"{ours:,}", f"{hidden:,}", "", f"{graph.parameters:,}", said]
    same = "equal" if ours + hidden == flop else f"torch {flop:,}"
    differs = "" if parameters == graph.parameters else f"torch has {parameters:,} parameters"
    unknown = " ".join(f"{name} x{count}" for name, count in graph.unknown.items())
    notes = "; ".join(
        each for each in (differs, unknown, *graph.notes, f"{len(graph.steps)} in {seconds:.1f} s") if each
    )
    return [case.name, "yes", f"{ours:,}", f"{hidden:,}", same, f"{graph.parameters:,}", notes]


def _surprises(cells: list[str]) -> bool:
    """Whether a model was refused for another reason than shapes that depend on data, or is counted otherwise."""
    refused = cells[1] == "no" and "depends on data" not in cells[-1]
    return refused or cells[4].startswith("torch") or "parameters" in cells[-1]


def main() -> None:
    """Try every model and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("libraries", nargs="*", choices=[*_LIBRARIES, []])
    parser.add_argument("--only", default="", help="models whose name contains this")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--check", action="store_true", help="fail where counts differ, or a model fails that may not")
    options = parser.parse_args()
    lines = [
        "| model | captured | FLOP of products | masked | against torch | parameters | notes |",
        "|" + " --- |" * 7,
    ]
    wrong: list[str] = []
    warnings.simplefilter("ignore")
    if importlib.util.find_spec("torchvision"):  # the others import it too
        import_torchvision()
    for name in options.libraries or [each for each in _LIBRARIES if importlib.util.find_spec(each)]:
        for case in _LIBRARIES[name]():
            if options.only in case.name:
                cells = row(case)
                lines.append("| " + " | ".join(cells) + " |")
                wrong += [lines[-1]] if _surprises(cells) else []
                sys.stderr.write(f"{lines[-1]}\n")
    text = "\n".join(lines) + "\n"
    if options.out:
        options.out.write_text(text)
    else:
        sys.stdout.write(text)
    if options.check and wrong:
        sys.exit("\n".join(["not as expected:", *wrong]))


if __name__ == "__main__":
    main()
