"""Small real models that `validate` measures: fully connected, convolutional, attention with a cache or not, LSTM.

Inference, in larger batches as well, steps of training, and some in bf16: what a model's interval is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A model to measure: its maker, the spec of its input, whether it is a step of training (Adam), its format."""

    make: Callable[[], Any]
    spec: str
    train: bool = False
    dtype: str = "f32"


def models() -> Mapping[str, Reference]:
    """The models by name."""
    plain: dict[str, tuple[Callable[[], Any], str]] = {
        "mlp 784-256-10": (_mlp, "64x784:f32"),
        "convnet 1-10-20": (_convnet, "32x1x28x28:f32"),
        "resnet18": (_resnet18, "1x3x224x224:f32"),
        "mobilenet-like": (_depthwise_net, "1x3x128x128:f32"),
        "vit block": (lambda: _block(384, 6), "1x197x384:f32"),
        "gpt block": (lambda: _block(512, 8, causal=True), "1x128x512:f32"),
        "gpt block, kv cache": (lambda: _block(512, 8, held=256), "1x1x512:f32"),
        "lstm 128": (_lstm, "4x32x64:f32"),
        "mobilenet-like, batch 8": (_depthwise_net, "8x3x128x128:f32"),
        "vit block, batch 4": (lambda: _block(384, 6), "4x197x384:f32"),
    }
    trained = {
        "mlp 784-256-10": "64x784:f32",
        "convnet 1-10-20": "32x1x28x28:f32",
        "resnet18": "1x3x112x112:f32",
        "mobilenet-like": "2x3x128x128:f32",
        "vit block": "1x197x384:f32",
        "gpt block": "1x128x512:f32",
        "lstm 128": "4x32x64:f32",
    }
    narrow = {"mlp 784-256-10": "64x784", "vit block": "1x49x384", "mobilenet-like": "1x3x64x64"}
    found = {name: Reference(make=make, spec=spec) for name, (make, spec) in plain.items()}
    found |= {
        f"{name}, trained": Reference(make=plain[name][0], spec=spec, train=True) for name, spec in trained.items()
    }
    found |= {
        f"{name}, bf16": Reference(make=plain[name][0], spec=f"{spec}:bf16", dtype="bf16")
        for name, spec in narrow.items()
    }
    return found


def _mlp() -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))


def _convnet() -> Any:
    from torch import nn

    features = (
        nn.Conv2d(1, 10, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(10, 20, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
    )
    return nn.Sequential(*features, nn.Linear(320, 50), nn.ReLU(), nn.Linear(50, 10))


def _normalised(c_in: int, c_out: int, kernel: int, **options: Any) -> list[Any]:
    from torch import nn

    return [nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False, **options), nn.BatchNorm2d(c_out)]


def _resnet18() -> Any:
    from torch import nn

    class Residual(nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self, c_in: int, c_out: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                *_normalised(c_in, c_out, 3, stride=stride), nn.ReLU(), *_normalised(c_out, c_out, 3)
            )
            same = stride == 1 and c_in == c_out
            self.short = nn.Identity() if same else nn.Sequential(*_normalised(c_in, c_out, 1, stride=stride))

        def forward(self, x: Any) -> Any:
            return nn.functional.relu(self.body(x) + self.short(x))

    layers: list[Any] = [*_normalised(3, 64, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    widths = (64, 64, 128, 256, 512)
    for place in range(1, 5):
        layers += [
            Residual(widths[place - 1], widths[place], 1 if place == 1 else 2),
            Residual(widths[place], widths[place], 1),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def _depthwise_net() -> Any:
    from torch import nn

    layers: list[Any] = [*_normalised(3, 32, 3, stride=2), nn.ReLU()]
    for c_in, c_out, stride in ((32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)):
        layers += [
            *_normalised(c_in, c_in, 3, stride=stride, groups=c_in),
            nn.ReLU(),
            *_normalised(c_in, c_out, 1),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 100))


def _block(width: int, heads: int, *, causal: bool = False, held: int = 0) -> Any:
    """A transformer block; ``held`` tokens' keys and values are there already."""
    import torch
    from torch import nn

    class Block(nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            for name in ("keys", "values") if held else ():
                self.register_buffer(name, torch.randn(1, heads, held, width // heads))

        def forward(self, x: Any) -> Any:
            b, length, _ = x.shape
            q, k, v = self.qkv(self.first(x)).reshape(b, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            if held:
                k, v = (torch.cat([getattr(self, name), new], 2) for name, new in (("keys", k), ("values", v)))
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
            x = x + self.out(mixed.transpose(1, 2).reshape(b, length, width))
            return x + self.feed(self.second(x))

    return Block()


def _lstm() -> Any:
    from torch import nn

    class Last(nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.cells, self.head = nn.LSTM(64, 128, batch_first=True), nn.Linear(128, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.cells(x)[0][:, -1])

    return Last()


def call_of_model(reference: Reference, place: str = "cpu") -> Callable[[], object]:
    """Make a call that runs a model's forward pass, or a whole step of training, once."""
    import torch

    from microbench.operators.inputs import parse_input, stored

    torch.manual_seed(7)
    sizes, number_format = parse_input(reference.spec)
    dtype = stored(torch, number_format)
    model = reference.make().to(place).to(dtype)
    x = torch.randn(sizes, device=place).to(dtype)
    made = _step(torch, model.train(), x) if reference.train else _pass(torch, model.eval(), x)
    made()
    return made


def _pass(torch: Any, model: Any, x: Any) -> Callable[[], object]:
    def forward() -> object:
        with torch.inference_mode():
            return model(x)

    return forward


def _step(torch: Any, model: Any, x: Any) -> Callable[[], object]:
    # So small a rate leaves the model as it is.
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-12)

    def step() -> None:
        with torch.enable_grad():
            optimiser.zero_grad(set_to_none=True)
            model(x).float().sum().backward()
        optimiser.step()

    return step


def module_chain(length: int, place: str = "cpu") -> Callable[[], object]:
    """A chain of the smallest modules: what the host pays per module beyond the operator itself."""
    from torch import nn

    return call_of_model(Reference(make=lambda: nn.Sequential(*(nn.ReLU() for _ in range(length))), spec="8"), place)
