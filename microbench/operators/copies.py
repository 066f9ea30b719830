"""Data movement: copies, joins and transposed copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from microbench.operators.aten import Call, aten, same_size
from microbench.operators.core import Op
from microbench.operators.draws import Sizes, draw
from microbench.operators.registry import Tally, operator, rows_and_cols

Built = tuple[tuple[Any, ...], Callable[..., Any]]

_ON = "autograd hands the gradient on, or slices of it"


def _nothing(s: Any) -> Tally:
    return Tally(flop=0 * s.size)


def _copy_call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    return (t(s.size),), torch.clone


@operator(
    "copy",
    "size",
    "data movement",
    example={"size": 30},
    backward=_nothing,
    call=_copy_call,
    widths=("size",),
    rows=lambda s: (1, s.size),
    without={"aten backward": _ON},
)
def copy(s: Any) -> Tally:
    """Copy of a tensor."""
    return Tally(flop=0 * s.size, read=s.size, written=s.size)


_COPIES = """clone _to_copy contiguous copy constant_pad_nd roll flip repeat index_fill rot90 tile fliplr flipud
pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle reflection_pad1d reflection_pad2d reflection_pad3d
replication_pad1d replication_pad2d replication_pad3d im2col permute_copy expand_copy slice_copy transpose_copy
unfold_copy as_strided_copy _reshape_copy resolve_conj _conj_physical conj_physical _resize_output block_diag
diag_embed to_dense _pin_memory _copy_from _foreach_copy"""
same_size(*_COPIES.split(), gives="copy")


@aten("copy_", gives="copy")
def _seen_copy(call: Call) -> list[Op]:
    """What was there is not read."""
    made = call.op("copy", size=call.outputs[0].numel())
    return [call.holding(made, [call.get("src")], call.outputs)]


_PADDED = "reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d"


@aten(*(f"{name}_backward" for name in _PADDED.split()), "col2im", gives="pointwise", direction="backward")
def _seen_folded(call: Call) -> list[Op]:
    """Elements that stem from one are added up; the input only tells the shape."""
    gradient = call.args[0]
    return [call.traffic([gradient], call.outputs, gradient.numel())]


def _cat_call(torch: Any, s: Any, t: Callable[..., Any]) -> Built:
    return (t(s.size // 2), t(s.size - s.size // 2)), lambda *x: torch.cat(x)


@operator(
    "cat",
    "size",
    "data movement",
    example={"size": 30},
    backward=_nothing,
    call=_cat_call,
    widths=("size",),
    rows=lambda s: (1, s.size),
    without={"aten backward": _ON},
)
def cat(s: Any) -> Tally:
    """Tensors joined into one of size elements."""
    return copy(s)


same_size("cat", "stack", "hstack", "vstack", "_chunk_cat", gives="cat")


@draw("copy", "cat", name="movement", count=40)
def _sizes(s: Sizes) -> dict[str, Any]:
    return {"size": s.large(64, 6_000_000)}


def _turned_view(s: Any) -> Tally:
    """The gradient is handed on as a view with rows and columns exchanged: nothing runs."""
    return Tally(flop=0 * s.rows)


def _transpose_call(_: Any, s: Any, t: Callable[..., Any]) -> Built:
    return (t(s.rows, s.cols),), lambda x: x.t().contiguous()


_AS_COPY = "aten turns by a view and copies it: a copy"


@operator(
    "transpose",
    "rows cols",
    "data movement",
    example={"rows": 6, "cols": 5},
    backward=_turned_view,
    call=_transpose_call,
    widths=("cols",),
    rows=rows_and_cols,
    without={"aten": _AS_COPY, "aten backward": _AS_COPY},
)
def transpose(s: Any) -> Tally:
    """Transposed copy of a matrix."""
    return Tally(flop=0 * s.rows, read=s.rows * s.cols, written=s.rows * s.cols)


@draw("transpose", count=20)
def _near_squares(s: Sizes) -> dict[str, Any]:
    size = s.large(64, 6_000_000)
    side = max(1, int(size**0.5))
    return {"rows": side, "cols": max(1, size // side)}
