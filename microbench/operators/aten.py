"""From an aten call to operators of the table: one rule per name, elementwise operators by torch's own tag."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from microbench.operators import Op, op
from microbench.records.dtypes import dtype as find_dtype

# Names that only look at a tensor differently, or make one without writing it.
_VIEWS = """view reshape _unsafe_view _reshape_alias t transpose permute expand slice select unsqueeze squeeze split
split_with_sizes chunk unbind as_strided detach alias lift_fresh lift unfold narrow diagonal view_as_real view_as_complex empty
empty_like new_empty empty_strided new_empty_strided empty_permuted flatten movedim swapaxes numpy_T sym_size sym_numel sym_stride
prim_layout _local_scalar_dense item is_same_size device"""
VIEWS = frozenset(_VIEWS.split())
# Elementwise operators that cost what a measured one costs.
SAME_AS = {
    "add": "add", "add_": "add", "sub": "add", "sub_": "add", "rsub": "add", "maximum": "add", "minimum": "add",
    "mul": "mul", "mul_": "mul", "div": "div", "div_": "div", "relu": "relu", "relu_": "relu", "clamp": "relu", "clamp_min": "relu",
    "hardtanh": "relu", "hardtanh_": "relu", "neg": "relu", "abs": "relu", "gelu": "gelu", "silu": "silu", "silu_": "silu",
    "tanh": "tanh", "tanh_": "tanh", "exp": "exp", "sigmoid": "sigmoid", "sigmoid_": "sigmoid",
}  # fmt: skip
BACKWARD_OF = {
    "threshold_backward": "relu",
    "gelu_backward": "gelu",
    "silu_backward": "silu",
    "tanh_backward": "tanh",
    "sigmoid_backward": "sigmoid",
    "hardtanh_backward": "relu",
}
Rule = Callable[["Call"], list[Op]]
RULES: dict[str, Rule] = {}


class Call:
    """One aten call: its arguments by position, its outputs, the dtype that its work is in."""

    def __init__(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], outputs: Sequence[Any], inputs: Sequence[Any]
    ) -> None:
        self.args, self.kwargs, self.outputs, self.inputs = args, kwargs, outputs, inputs
        floating = [tensor for tensor in (*outputs, *inputs) if tensor.is_floating_point()]
        chosen = (floating or [*outputs, *inputs])[0]
        self.dtype = find_dtype(str(chosen.dtype)).name

    def op(self, name: str, direction: Any = "forward", **params: Any) -> Op:
        """An operator of this call's dtype."""
        return op(name, dtype=self.dtype, direction=direction, **{key: int(value) for key, value in params.items()})

    def arg(self, place: int, default: Any = None) -> Any:
        """An argument by position."""
        return self.args[place] if len(self.args) > place else default


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for names."""

    def register(made: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, made))
        return made

    return register


def operators_of(
    torch: Any, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], outputs: Sequence[Any]
) -> list[Op] | None:
    """Operators that an aten call stands for; ``None`` where there is no rule."""
    name = func.overloadpacket.__name__
    inputs = [item for item in _flat(args) + _flat(list(kwargs.values())) if isinstance(item, torch.Tensor)]
    if not outputs and not inputs:
        return []
    if outputs and all(tensor.numel() == 0 for tensor in outputs):
        return []
    call = Call(args, kwargs, outputs, inputs)
    made = RULES.get(name)
    if made is not None:
        return made(call)
    if name in SAME_AS and outputs:
        return [call.op(SAME_AS[name], size=outputs[0].numel())]
    if name in BACKWARD_OF:
        return [call.op(BACKWARD_OF[name], "backward", size=outputs[0].numel())]
    if torch.Tag.pointwise in func.tags and outputs:
        return [_pointwise(call)]
    return None


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [item for each in value for item in _flat(each)]
    return [value]


def _pointwise(call: Call) -> Op:
    written = sum(tensor.numel() for tensor in call.outputs)
    return call.op(
        "pointwise",
        size=call.outputs[0].numel(),
        reads=sum(tensor.numel() for tensor in call.inputs),
        writes=written,
        flop=written,
    )


@rule("mm", "mv", "dot", "_int_mm")
def _mm(call: Call) -> list[Op]:
    a, b = call.args[0], call.args[1]
    m = a.shape[0] if a.dim() > 1 else 1
    return [call.op("matmul", m=m, n=b.shape[1] if b.dim() > 1 else 1, k=a.shape[-1])]


@rule("addmm", "addmv")
def _addmm(call: Call) -> list[Op]:
    a, b = call.args[1], call.args[2]
    return [call.op("linear", m=a.shape[0], n=b.shape[1] if b.dim() > 1 else 1, k=a.shape[1])]


@rule("linear")
def _linear(call: Call) -> list[Op]:
    x, w = call.args[0], call.args[1]
    return [call.op("linear", m=math.prod(x.shape[:-1]), n=w.shape[0], k=w.shape[1], bias=call.arg(2) is not None)]


@rule("bmm", "baddbmm")
def _bmm(call: Call) -> list[Op]:
    a, b = [tensor for tensor in call.args if hasattr(tensor, "dim")][-2:]
    return [call.op("bmm", b=a.shape[0], m=a.shape[1], n=b.shape[2], k=a.shape[2])]


def _convolution_shape(x: Any, w: Any, options: Sequence[Any]) -> tuple[str, dict[str, int]]:
    stride, pad, dilation, transposed, groups = options
    one = x.dim() == 3
    height = 1 if one else x.shape[2]
    shape = {"n": x.shape[0], "h": height, "w": x.shape[-1], "kh": 1 if one else w.shape[2], "kw": w.shape[-1]}
    shape |= {
        "stride": max(stride),
        "pad": max(pad) if not one else 0,
        "dilation": max(dilation),
        "groups": groups,
        "c_in": x.shape[1],
    }
    if one:
        shape["w"] += 2 * max(pad)
    return ("conv_transpose2d" if transposed else "conv2d"), shape | {
        "c_out": w.shape[1] * groups if transposed else w.shape[0]
    }


@rule("convolution", "_convolution", "mkldnn_convolution", "cudnn_convolution")
def _convolution(call: Call) -> list[Op]:
    x, w, bias, stride, pad, dilation, transposed, _, groups = call.args[:9]
    name, shape = _convolution_shape(x, w, (stride, pad, dilation, transposed, groups))
    return [call.op(name, bias=bias is not None, **shape)]


@rule("convolution_backward")
def _convolution_backward(call: Call) -> list[Op]:
    _, x, w, bias, stride, pad, dilation, transposed, _, groups = call.args[:10]
    name, shape = _convolution_shape(x, w, (stride, pad, dilation, transposed, groups))
    return [call.op(name, "backward", bias=bias is not None, **shape)]


@rule("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention",
      "_scaled_dot_product_cudnn_attention", "_scaled_dot_product_attention_math")  # fmt: skip
def _attention(call: Call) -> list[Op]:
    q, k = call.args[0], call.args[1]
    return [_attention_op(call, q, k, "forward")]


def _attention_op(call: Call, q: Any, k: Any, direction: str) -> Op:
    flags = [item for item in (*call.args[3:], call.kwargs.get("is_causal")) if item is True]
    shape = {
        "b": q.shape[0],
        "heads": q.shape[1],
        "kv_heads": k.shape[1],
        "q_len": q.shape[2],
        "kv_len": k.shape[2],
        "head_dim": q.shape[3],
    }
    return call.op("attention", direction, causal=bool(flags), **shape)


@rule("_scaled_dot_product_flash_attention_for_cpu_backward", "_scaled_dot_product_flash_attention_backward",
      "_scaled_dot_product_efficient_attention_backward")  # fmt: skip
def _attention_backward(call: Call) -> list[Op]:
    return [_attention_op(call, call.args[1], call.args[2], "backward")]


def _rows(tensor: Any, normalised: int) -> dict[str, int]:
    return {"rows": max(1, tensor.numel() // normalised), "cols": normalised}


@rule("_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax")
def _softmax(call: Call) -> list[Op]:
    return [call.op("softmax", **_rows(call.args[0], call.args[0].shape[call.args[1]]))]


@rule("_softmax_backward_data", "_log_softmax_backward_data")
def _softmax_backward(call: Call) -> list[Op]:
    return [call.op("softmax", "backward", **_rows(call.args[0], call.args[0].shape[call.args[2]]))]


@rule("native_layer_norm")
def _layer_norm(call: Call) -> list[Op]:
    return [call.op("layer_norm", **_rows(call.args[0], math.prod(call.args[1])))]


@rule("native_layer_norm_backward")
def _layer_norm_backward(call: Call) -> list[Op]:
    return [call.op("layer_norm", "backward", **_rows(call.args[1], math.prod(call.args[2])))]


@rule("_fused_rms_norm", "rms_norm")
def _rms_norm(call: Call) -> list[Op]:
    return [call.op("rms_norm", **_rows(call.args[0], math.prod(call.args[1])))]


@rule("_fused_rms_norm_backward")
def _rms_norm_backward(call: Call) -> list[Op]:
    return [call.op("rms_norm", "backward", **_rows(call.args[1], math.prod(call.args[2])))]


@rule("native_group_norm")
def _group_norm(call: Call) -> list[Op]:
    return [
        call.op(
            "layer_norm", **_rows(call.args[0], max(1, call.args[0].numel() // (call.args[0].shape[0] * call.args[6])))
        )
    ]


def _planes(tensor: Any) -> dict[str, int]:
    rest = math.prod(tensor.shape[2:])
    return {"n": tensor.shape[0], "c": tensor.shape[1] if tensor.dim() > 1 else 1, "h": rest, "w": 1}


@rule("native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit", "_batch_norm_with_update")
def _batch_norm(call: Call) -> list[Op]:
    train = call.arg(5) is True or call.arg(3) is True
    return [call.op("batch_norm", train=train, **_planes(call.args[0]))]


@rule("_native_batch_norm_legit_no_training", "_batch_norm_no_update")
def _batch_norm_inference(call: Call) -> list[Op]:
    return [call.op("batch_norm", **_planes(call.args[0]))]


@rule("native_batch_norm_backward", "cudnn_batch_norm_backward", "batch_norm_backward")
def _batch_norm_backward(call: Call) -> list[Op]:
    return [call.op("batch_norm", "backward", train=1, **_planes(call.args[1]))]


def _pooled(x: Any, window: Sequence[int], stride: Sequence[int], pad: Sequence[int]) -> dict[str, int]:
    kh, kw = (window[0], window[-1])
    return {"n": math.prod(x.shape[:-3]), "c": x.shape[-3], "h": x.shape[-2], "w": x.shape[-1], "kh": kh, "kw": kw,
            "stride": max(stride or window), "pad": max(pad) if pad else 0}  # fmt: skip


@rule("max_pool2d_with_indices", "max_pool2d", "avg_pool2d")
def _pool(call: Call) -> list[Op]:
    name = "avg_pool2d" if len(call.outputs) == 1 else "max_pool2d"
    return [call.op(name, **_pooled(call.args[0], call.args[1], call.arg(2, []), call.arg(3, [0])))]


@rule("max_pool2d_with_indices_backward")
def _max_pool_backward(call: Call) -> list[Op]:
    return [call.op("max_pool2d", "backward", **_pooled(call.args[1], call.args[2], call.args[3], call.args[4]))]


@rule("avg_pool2d_backward")
def _avg_pool_backward(call: Call) -> list[Op]:
    return [call.op("avg_pool2d", "backward", **_pooled(call.args[1], call.args[2], call.args[3], call.args[4]))]


@rule("sum", "mean", "amax", "amin", "max", "min", "argmax", "argmin", "var", "std", "var_mean", "prod", "any", "all", "logsumexp", "norm",
      "linalg_vector_norm", "_adaptive_avg_pool2d", "cumsum", "nll_loss_forward", "mse_loss")  # fmt: skip
def _reduction(call: Call) -> list[Op]:
    read, written = call.inputs[0].numel(), max(1, call.outputs[0].numel())
    return [call.op("mean", rows=written, cols=max(1, read // written))]


@rule("_adaptive_avg_pool2d_backward", "nll_loss_backward", "mse_loss_backward")
def _spread(call: Call) -> list[Op]:
    read, written = call.inputs[0].numel(), call.outputs[0].numel()
    return [call.op("mean", "backward", rows=read, cols=max(1, written // read))]


@rule("clone", "copy_", "_to_copy", "contiguous", "copy", "constant_pad_nd", "roll", "flip", "repeat", "index_fill")
def _copied(call: Call) -> list[Op]:
    return [call.op("copy", size=call.outputs[0].numel())]


@rule("cat", "stack")
def _cat(call: Call) -> list[Op]:
    return [call.op("cat", size=call.outputs[0].numel())]


@rule("zeros", "zeros_like", "ones", "ones_like", "full", "full_like", "fill_", "zero_", "new_zeros", "new_ones", "new_full", "arange",
      "fill", "scalar_tensor", "tril", "triu", "bernoulli_", "bernoulli", "rand", "randn", "rand_like", "normal_", "uniform_")  # fmt: skip
def _filled(call: Call) -> list[Op]:
    size = call.outputs[0].numel()
    return [call.op("pointwise", size=size, reads=0, writes=size, flop=0)]


@rule(
    "slice_backward",
    "select_backward",
    "slice_scatter",
    "select_scatter",
    "embedding_renorm_",
    "native_dropout",
    "native_dropout_backward",
)
def _passed(call: Call) -> list[Op]:
    return [_pointwise(call)]


@rule("embedding", "index_select", "index")
def _embedding(call: Call) -> list[Op]:
    table = call.args[0]
    count = max(1, call.outputs[0].numel() // max(1, table.numel() // table.shape[0]))
    return [call.op("embedding", rows=table.shape[0], cols=max(1, table.numel() // table.shape[0]), count=count)]


@rule("embedding_dense_backward", "index_put", "index_put_", "index_add", "scatter_add")
def _scattered(call: Call) -> list[Op]:
    out = call.outputs[0]
    cols = max(1, out.numel() // out.shape[0])
    return [call.op("embedding", "backward", rows=out.shape[0], cols=cols, count=max(1, call.args[0].numel() // cols))]


@rule("_thnn_fused_lstm_cell", "lstm_cell")
def _lstm_cell(call: Call) -> list[Op]:
    gates = call.inputs[0]
    return [_pointwise(call)] if gates.dim() == 2 else []


@rule("mkldnn_rnn_layer_backward")
def _rnn_layer_backward(call: Call) -> list[Op]:
    x, w_input, w_hidden = call.args[0], call.args[1], call.args[2]
    steps, batch = x.shape[0], x.shape[1]
    return [call.op("lstm_cell", "backward", b=batch, input=w_input.shape[1], hidden=w_hidden.shape[1])] * steps


@rule("mkldnn_rnn_layer")
def _rnn_layer(call: Call) -> list[Op]:
    x, w_input, w_hidden = call.args[0], call.args[1], call.args[2]
    return [call.op("lstm", b=x.shape[1], steps=x.shape[0], input=w_input.shape[1], hidden=w_hidden.shape[1])]
