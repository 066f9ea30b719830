"""Real models that no calibration has seen, by family: torchvision's, transformers' and a few written here."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from capture_models import import_torchvision
from torch import nn

Make = Callable[[], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Real:
    """A model: who it is related to, its maker, its input with ``{b}`` for the batch, and the batches to try."""

    name: str
    family: str
    make: Make
    spec: str
    batches: tuple[int, ...] = (1, 8)
    trained: tuple[int, ...] = ()
    narrow: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing to measure: a forward pass, or a step of training by an optimiser."""

    model: Real
    batch: int
    mode: str = "inference"
    dtype: str = "f32"

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.model.name} b{self.batch} {self.mode} {self.dtype}"

    @property
    def spec(self) -> str:
        """The input."""
        spec = self.model.spec.format(b=self.batch)
        return spec.replace(":f32", f":{self.dtype}")


class _UNet(nn.Module):
    def __init__(self, width: int = 16, depth: int = 4) -> None:
        super().__init__()
        widths = [width << place for place in range(depth)]
        pairs = zip(widths[-2::-1], widths[:0:-1], strict=True)
        self.down = nn.ModuleList(_double(*pair) for pair in zip([3, *widths[:-1]], widths, strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(low, high, 2, stride=2) for high, low in pairs)
        self.back = nn.ModuleList(_double(2 * each, each) for each in widths[-2::-1])
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: Any) -> Any:
        kept = []
        for layer in self.down[:-1]:
            kept.append(layer(x))
            x = nn.functional.max_pool2d(kept[-1], 2)
        x = self.down[-1](x)
        for up, back in zip(self.up, self.back, strict=True):
            x = back(torch.cat([up(x), kept.pop()], 1))
        return self.head(x)


def _double(c_in: int, c_out: int) -> Any:
    layers: list[Any] = []
    for inside in (c_in, c_out):
        layers += [nn.Conv2d(inside, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU()]
    return nn.Sequential(*layers)


class _MixerBlock(nn.Module):
    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(tokens, 128), nn.GELU(), nn.Linear(128, tokens))
        self.channels = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Any) -> Any:
        x = x + self.tokens(self.first(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.second(x))


class _Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 256, 16, 16), nn.Linear(256, 100)
        self.blocks = nn.Sequential(*(_MixerBlock(256, 196) for _ in range(6)))

    def forward(self, x: Any) -> Any:
        return self.head(self.blocks(self.stem(x).flatten(2).transpose(1, 2)).mean(1))


class _Recurrent(nn.Module):
    def __init__(self, kind: str, *, both: bool = False) -> None:
        super().__init__()
        self.cells = getattr(nn, kind)(128, 256, 2, batch_first=True, bidirectional=both)
        self.head = nn.Linear(512 if both else 256, 32)

    def forward(self, x: Any) -> Any:
        return self.head(self.cells(x)[0])


class _LlamaLayer(nn.Module):
    def __init__(self, width: int, heads: int, shared: int) -> None:
        super().__init__()
        self.heads, self.shared = heads, shared
        self.first, self.second = nn.RMSNorm(width), nn.RMSNorm(width)
        self.q, self.kv = (nn.Linear(width, each, bias=False) for each in (width, 2 * shared * width // heads))
        self.out, self.gate, self.up, self.down = (
            nn.Linear(*each, bias=False) for each in ((width, width), (width, 1408), (width, 1408), (1408, width))
        )

    def forward(self, x: Any) -> Any:
        b, length, _ = x.shape
        normed = self.first(x)
        q = self.q(normed).view(b, length, self.heads, -1).transpose(1, 2)
        keys_values = self.kv(normed).view(b, length, 2, self.shared, -1).permute(2, 0, 3, 1, 4)
        k, v = (each.repeat_interleave(self.heads // self.shared, 1) for each in keys_values)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, length, -1))
        normed = self.second(x)
        return x + self.down(nn.functional.silu(self.gate(normed)) * self.up(normed))


def _llama() -> Any:
    layers = (_LlamaLayer(512, 8, 2) for _ in range(6))
    return nn.Sequential(nn.Embedding(8000, 512), *layers, nn.RMSNorm(512), nn.Linear(512, 8000, bias=False))


def _mlp() -> Any:
    widths = ((784, 2048), (2048, 2048), (2048, 10))
    return nn.Sequential(*(layer for pair in widths for layer in (nn.Linear(*pair), nn.ReLU())))


def _here() -> Iterator[Real]:
    """Models that need no other library."""
    sequence, words = "{b}x64x128:f32", "{b}x128:i64"
    yield Real(name="unet", family="unet", make=_UNet, spec="{b}x3x128x128:f32", trained=(8,), narrow=(1,))
    yield Real(name="mixer", family="mixer", make=_Mixer, spec="{b}x3x224x224:f32", trained=(8,))
    yield Real(name="llama_gqa", family="llama", make=_llama, spec=words, trained=(8,), narrow=(1,))
    yield Real(name="mlp", family="mlp", make=_mlp, spec="{b}x784:f32", batches=(1, 64), trained=(64,), narrow=(64,))
    for kind, trained in (("LSTM", (8,)), ("GRU", (8,)), ("RNN", ())):
        make = _recurrent(kind)
        yield Real(name=kind.lower(), family="recurrent", make=make, spec=sequence, trained=trained)


def _recurrent(kind: str) -> Make:
    return lambda: _Recurrent(kind)


# Family, name, batches, batch of a step of training (0: none).
_VISION = (
    ("resnet", "resnet50", (1, 8), 8),
    ("vgg", "vgg11", (1, 4), 2),
    ("vgg", "alexnet", (1, 8), 8),
    ("squeezenet", "squeezenet1_1", (1, 8), 8),
    ("inception", "googlenet", (1, 8), 8),
    ("densenet", "densenet121", (1, 8), 4),
    ("mobile", "mobilenet_v2", (1, 8), 0),
    ("mobile", "mobilenet_v3_large", (1, 8), 8),
    ("mobile", "mnasnet1_0", (1, 8), 0),
    ("efficient", "efficientnet_b0", (1, 8), 8),
    ("shuffle", "shufflenet_v2_x1_0", (1, 8), 8),
    ("regnet", "regnet_y_400mf", (1, 8), 8),
    ("convnext", "convnext_tiny", (1, 8), 2),
    ("swin", "swin_t", (1, 4), 2),
    ("vit", "vit_b_32", (1, 8), 8),
)


def _vision() -> Iterator[Real]:
    models = import_torchvision().models
    for family, name, batches, trained in _VISION:
        more: dict[str, Any] = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
        steps = (trained,) if trained else ()
        narrow = (1,) if name == "mobilenet_v2" else ()
        spec = "{b}x3x224x224:f32"
        make = _made(models.get_model, name, more | {"weights": None})
        yield Real(name=name, family=family, make=make, spec=spec, batches=batches, trained=steps, narrow=narrow)


def _made(get: Callable[..., Any], name: str, options: dict[str, Any]) -> Make:
    return lambda: get(name, **options)


def _language() -> Iterator[Real]:
    library = importlib.import_module("transformers")
    words = "{b}x128:i64"
    small = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
    gpt = {"n_layer": 4, "n_embd": 512, "n_head": 8, "vocab_size": 8000, "use_cache": False}
    sound = {"d_model": 384, "encoder_layers": 4, "decoder_layers": 1, "encoder_ffn_dim": 1536}
    sound |= {"encoder_attention_heads": 6, "decoder_attention_heads": 6}
    of = {name: _from_config(library, name) for name in ("DistilBert", "Bert", "GPT2", "Whisper")}
    yield Real(name="distilbert", family="bert", make=lambda: of["DistilBert"]("Model"), spec=words)
    bert = lambda: of["Bert"]("Model", **small)  # noqa: E731 - like its neighbours
    yield Real(name="bert_mini", family="bert", make=bert, spec=words, trained=(8,), narrow=(1,))
    yield Real(name="gpt2", family="gpt2", make=lambda: of["GPT2"]("LMHeadModel", **gpt), spec=words, trained=(8,))
    whisper = lambda: of["Whisper"]("Model", **sound).encoder  # noqa: E731 - like its neighbours
    yield Real(name="whisper encoder", family="whisper", make=whisper, spec="{b}x80x3000:f32", batches=(1, 4))


def _from_config(library: Any, name: str) -> Callable[..., Any]:
    def make(kind: str, **sizes: Any) -> Any:
        config = getattr(library, f"{name}Config")(**sizes)
        return getattr(library, f"{name}{kind}")._from_config(config, attn_implementation="sdpa")  # noqa: SLF001

    return make


def cases(only: str = "") -> list[Case]:
    """Everything to measure, of those libraries that are installed."""
    found: list[Case] = []
    sources = {"torchvision": _vision, "transformers": _language}
    models = [*_here(), *(each for name, make in sources.items() if importlib.util.find_spec(name) for each in make())]
    for model in models:
        if only not in model.name:
            continue
        found += [Case(model=model, batch=batch) for batch in model.batches]
        # Half of the models by each, whichever others there are.
        optimiser = "adam" if len(model.name) % 2 else "sgd"
        found += [Case(model=model, batch=batch, mode=optimiser) for batch in model.trained]
        found += [Case(model=model, batch=batch, dtype="bf16") for batch in model.narrow]
    return found
