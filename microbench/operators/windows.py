"""Operators that slide a window over images: convolution, its transpose, pooling. Conventions are those of `rules`."""

from __future__ import annotations

from typing import Any

from microbench.operators.core import INDEX_BYTES, Operator, Tally, add, operator


def _out(size: Any, kernel: Any, s: Any) -> Any:
    return (size + 2 * s.pad - s.dilation * (kernel - 1) - 1) // s.stride + 1


def _out_transposed(size: Any, kernel: Any, s: Any) -> Any:
    return (size - 1) * s.stride - 2 * s.pad + s.dilation * (kernel - 1) + 1


def _conv_faults(s: Any) -> tuple[tuple[Any, str], ...]:
    return (
        ((s.c_in % s.groups != 0) | (s.c_out % s.groups != 0), "groups must divide c_in and c_out"),
        (
            (s.h + 2 * s.pad < s.dilation * (s.kh - 1) + 1) | (s.w + 2 * s.pad < s.dilation * (s.kw - 1) + 1),
            "the kernel is larger than the padded input",
        ),
    )


def _transposed_faults(s: Any) -> tuple[tuple[Any, str], ...]:
    return (
        ((s.c_in % s.groups != 0) | (s.c_out % s.groups != 0), "groups must divide c_in and c_out"),
        ((_out_transposed(s.h, s.kh, s) < 1) | (_out_transposed(s.w, s.kw, s) < 1), "the padding leaves no output"),
    )


def _conv_sizes(s: Any) -> tuple[Any, Any, Any, Any]:
    weights = s.c_out * (s.c_in // s.groups) * s.kh * s.kw + s.bias * s.c_out
    outputs = s.n * s.c_out * _out(s.h, s.kh, s) * _out(s.w, s.kw, s)
    return s.n * s.c_in * s.h * s.w, outputs, weights, 2 * outputs * (s.c_in // s.groups) * s.kh * s.kw


def _transposed_sizes(s: Any) -> tuple[Any, Any, Any, Any]:
    weights = s.c_in * (s.c_out // s.groups) * s.kh * s.kw + s.bias * s.c_out
    inputs = s.n * s.c_in * s.h * s.w
    outputs = s.n * s.c_out * _out_transposed(s.h, s.kh, s) * _out_transposed(s.w, s.kw, s)
    return inputs, outputs, weights, 2 * inputs * (s.c_out // s.groups) * s.kh * s.kw


_CONV_KEYS = "n c_in c_out h w kh kw stride pad dilation groups bias"
_CONV_DEFAULTS: dict[str, int | str] = {
    "w": "h",
    "kw": "kh",
    "stride": 1,
    "pad": 0,
    "dilation": 1,
    "groups": 1,
    "bias": 0,
}


def _conv_backward(sizes: Any, s: Any) -> Tally:
    inputs, outputs, weights, flop = sizes
    return Tally(
        flop=2 * flop + s.bias * outputs, read=inputs + outputs + weights - s.bias * s.c_out, written=inputs + weights
    )


def _conv_gemm(s: Any) -> tuple[Any, Any, Any, Any]:
    return (
        s.groups,
        s.n * _out(s.h, s.kh, s) * _out(s.w, s.kw, s),
        s.c_out // s.groups,
        s.c_in // s.groups * s.kh * s.kw,
    )


def _transposed_gemm(s: Any) -> tuple[Any, Any, Any, Any]:
    return s.groups, s.n * s.h * s.w, s.c_out // s.groups * s.kh * s.kw, s.c_in // s.groups


@operator(
    "conv2d",
    _CONV_KEYS,
    "convolution",
    defaults=_CONV_DEFAULTS,
    check=_conv_faults,
    gemm=_conv_gemm,
    backward=lambda s: _conv_backward(_conv_sizes(s), s),
)
def conv2d(s: Any) -> Tally:
    """Convolution of n images; dense, grouped or (groups = c_in) depthwise. h and w are those of the input."""
    inputs, outputs, weights, flop = _conv_sizes(s)
    return Tally(flop=flop, read=inputs + weights, written=outputs, parameters=weights)


@operator(
    "conv_transpose2d",
    _CONV_KEYS,
    "convolution",
    defaults=_CONV_DEFAULTS,
    check=_transposed_faults,
    gemm=_transposed_gemm,
    backward=lambda s: _conv_backward(_transposed_sizes(s), s),
)
def conv_transpose2d(s: Any) -> Tally:
    """Transposed convolution of n images; h and w are those of the input."""
    inputs, outputs, weights, flop = _transposed_sizes(s)
    return Tally(flop=flop, read=inputs + weights, written=outputs, parameters=weights)


def _pool_out(s: Any) -> Any:
    return s.n * s.c * ((s.h + 2 * s.pad - s.kh) // s.stride + 1) * ((s.w + 2 * s.pad - s.kw) // s.stride + 1)


def _pool_faults(s: Any) -> tuple[tuple[Any, str], ...]:
    return (
        ((s.h + 2 * s.pad < s.kh) | (s.w + 2 * s.pad < s.kw), "the window is larger than the padded input"),
        ((2 * s.pad > s.kh) | (2 * s.pad > s.kw), "pad is at most half the window"),
    )


def _pool(s: Any) -> Tally:
    return Tally(flop=_pool_out(s) * s.kh * s.kw, read=s.n * s.c * s.h * s.w, written=_pool_out(s))


def _max_pool_backward(s: Any) -> Tally:
    return Tally(
        flop=_pool_out(s), read=_pool_out(s), written=s.n * s.c * s.h * s.w, index_bytes=INDEX_BYTES * _pool_out(s)
    )


def _avg_pool_backward(s: Any) -> Tally:
    return Tally(flop=_pool_out(s) * s.kh * s.kw, read=_pool_out(s), written=s.n * s.c * s.h * s.w)


for _name, _back in (("max_pool2d", _max_pool_backward), ("avg_pool2d", _avg_pool_backward)):
    add(
        Operator(
            name=_name,
            family="pooling",
            keys=("n", "c", "h", "w", "kh", "kw", "stride", "pad"),
            says=f"{_name[:3]} over a kh x kw window that moves by stride",
            defaults={"w": "h", "kw": "kh", "stride": 1, "pad": 0},
            forward=_pool,
            backward=_back,
            check=_pool_faults,
            rows=lambda s: (s.n * s.c, s.h * s.w),
        )
    )
