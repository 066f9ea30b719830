"""Quantised layers of PyTorch: 8-bit products whose weights lie packed in an object, and steps to and from 8 bits."""

from __future__ import annotations

from typing import Any

from microbench.operators.aten import Call, aten, held_bytes
from microbench.operators.core import Op
from microbench.operators.windows import seen


def packed_tensors(torch: Any, model: Any) -> list[Any]:
    """Weights and biases that a model holds packed, which are no parameters to PyTorch."""
    packed = [held for each in model.modules() for held in vars(each).values() if isinstance(held, torch.ScriptObject)]
    return [tensor for each in packed if hasattr(each, "unpack") for tensor in each.unpack() if tensor is not None]


def _layer(call: Call, name: str, held: tuple[Any, Any], **shape: int) -> list[Op]:
    """An 8-bit layer; input and result are in the formats of their tensors."""
    weight, bias = held
    made_of = [tensor for tensor in (weight, bias) if tensor is not None]
    call.dtype = "i8"
    made = call.op(name, bias=bias is not None, **shape)
    read = held_bytes(call.inputs[0]) + sum(tensor.numel() * tensor.element_size() for tensor in made_of)
    return [call.moving(made, read, sum(map(held_bytes, call.outputs[:1])))]


_LINEAR = "linear linear_relu linear_leaky_relu linear_tanh linear_dynamic linear_relu_dynamic"


@aten(*(f"quantized.{name}" for name in _LINEAR.split()), gives="linear")
def _seen_linear(call: Call) -> list[Op]:
    x, weight = call.args[0], call.get("W_prepack").unpack()
    cols = weight[0].shape
    return _layer(call, "linear", weight, m=x.numel() // cols[1], n=cols[0], k=cols[1])


_CONVOLUTIONS = "conv1d conv2d conv3d conv1d_relu conv2d_relu conv3d_relu conv2d_add conv2d_add_relu conv2d_dynamic"


@aten(*(f"quantized.{name}" for name in _CONVOLUTIONS.split()), gives=("conv2d", "conv3d"))
def _seen_convolution(call: Call) -> list[Op]:
    """Sequences are packed as images of height 1."""
    packed, x = call.get("packed_weight"), call.args[0]
    held = packed.unpack()
    rank = x.dim() - 2
    kernel, groups = held[0].shape[2:][-rank:], int(packed.groups())
    how = {"stride": packed.stride(), "pad": packed.padding(), "dilation": packed.dilation()}
    shape = seen(x.shape[2:], kernel, **{name: list(values)[-rank:] for name, values in how.items()})
    shape |= {"n": x.shape[0], "c_in": x.shape[1], "c_out": held[0].shape[0], "groups": groups}
    return _layer(call, f"conv{max(rank, 2)}d", held, **shape)


_STEPS = "add add_relu mul mul_relu cat cat_relu hardswish leaky_relu sigmoid batch_norm2d batch_norm2d_relu mul_scalar"


@aten(
    *(f"quantized.{name}" for name in _STEPS.split()),
    "quantize_per_tensor",
    "quantize_per_tensor_dynamic",
    "quantize_per_channel",
    "dequantize",
    "_empty_affine_quantized",
    "fake_quantize_per_tensor_affine_cachemask",
    "fake_quantize_per_channel_affine_cachemask",
    gives="pointwise",
)
def _seen_step(call: Call) -> list[Op]:
    return [call.pointwise()]
