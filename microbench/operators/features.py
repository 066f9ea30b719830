"""What the time of an operator depends on, as columns: work, the matrix product inside it, and coordinates for local correction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from microbench.operators.core import Shape
from microbench.records.dtypes import DTYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microbench.operators.table import Batch

Floats = npt.NDArray[np.float64]

# Vector units and tensor cores load 16 elements at a time at most: a size that is no multiple leaves lanes or copies
# behind.
ALIGNMENT = 16
SMALL_IMAGE = 20480
SMALL_PRODUCT = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Columns of one family and dtype.

    ``gemm`` has batch, m, n, k (zeros where there is no product inside), ``winograd`` image tiles of 4 x 4 and of 2 x
    2, c_out and c_in (NaN where that algorithm does not apply), ``cols`` the length of a row, ``coordinates`` natural
    logarithms of sizes, ``code`` the operator and pass, ``launch`` the launch mode.
    """

    family: str
    element_bytes: float
    flop: Floats
    bytes: Floats
    weights: Floats
    footprint: float
    gemm: Floats
    winograd: Floats
    cols: Floats
    coordinates: Floats
    code: npt.NDArray[np.object_]
    launch: npt.NDArray[np.object_]
    cold: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.flop)

    def take(self, keep: npt.NDArray[Any] | slice) -> Features:
        """Select rows by a mask, an index or a slice."""
        return Features(
            family=self.family,
            element_bytes=self.element_bytes,
            flop=self.flop[keep],
            bytes=self.bytes[keep],
            weights=self.weights[keep],
            footprint=self.footprint,
            gemm=self.gemm[keep],
            winograd=self.winograd[keep],
            cols=self.cols[keep],
            coordinates=self.coordinates[keep],
            code=self.code[keep],
            launch=self.launch[keep],
            cold=self.cold[keep],
        )


def describe(batch: Batch, footprint: float = 0.0) -> Features:
    """Columns of the rows of a batch; ``footprint`` is what a whole model reads between two uses of one weight, in bytes."""
    size = len(batch)
    counts = batch.counts()
    shape = Shape({key: column.astype(np.float64) for key, column in batch.shape.items()})
    product = np.zeros((size, 4))
    if batch.row.gemm is not None:
        for place, column in enumerate(batch.row.gemm(shape)):
            product[:, place] = column
    return Features(
        family=batch.row.family,
        element_bytes=DTYPES[batch.dtype].bytes,
        flop=counts["flop"].astype(np.float64),
        bytes=np.maximum(counts["bytes_read"].astype(np.float64) + counts["bytes_written"], 1.0),
        weights=np.minimum(counts["parameters"] * DTYPES[batch.dtype].bytes, counts["bytes_read"]).astype(np.float64),
        footprint=footprint,
        gemm=product,
        winograd=_winograd(batch, shape),
        cols=np.array(
            np.broadcast_to(batch.row.rows(shape)[1] if batch.row.rows is not None else np.inf, (size,)),
            dtype=np.float64,
        ),
        coordinates=_coordinates(batch, shape, product),
        code=_codes(batch, product),
        launch=np.broadcast_to(np.asarray(batch.launch, dtype=object), (size,)),
        cold=np.broadcast_to(np.asarray(batch.cache == "cold"), (size,)),
    )


def join(parts: Sequence[Features]) -> Features:
    """Stack features of one family and dtype."""
    first = parts[0]
    return Features(
        family=first.family,
        element_bytes=first.element_bytes,
        footprint=first.footprint,
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in (
                "flop",
                "bytes",
                "weights",
                "gemm",
                "winograd",
                "cols",
                "coordinates",
                "code",
                "launch",
                "cold",
            )
        },
    )


def _winograd(batch: Batch, shape: Any) -> Floats:
    """Dense 3 x 3 convolutions of stride 1 by Winograd's algorithm: image tiles of 4 x 4 and of 2 x 2 outputs, c_out and c_in."""
    columns = np.full((len(batch), 4), np.nan)
    if batch.row.name != "conv2d":
        return columns
    fits = (shape.kh == 3) & (shape.kw == 3) & (shape.stride == 1) & (shape.dilation == 1) & (shape.groups == 1)
    high, wide = shape.h + 2 * shape.pad - 2, shape.w + 2 * shape.pad - 2
    tiles = [shape.n * np.ceil(high / side) * np.ceil(wide / side) for side in (4, 2)]
    for place, column in enumerate((*tiles, shape.c_out, shape.c_in)):
        columns[:, place] = np.where(fits, column, np.nan)
    return columns


def _codes(batch: Batch, product: Floats) -> npt.NDArray[np.object_]:
    """The operator, the pass, and which of a library's separate kernels serves it: the names that factors and costs belong to."""
    shape = Shape(batch.shape)
    code = np.full(len(batch), batch.row.name, dtype=object)
    if batch.row.name in ("matmul", "linear", "bmm"):
        code[(product[:, 1] == 1) | (product[:, 2] == 1)] = f"{batch.row.name}.vector"
        if batch.row.name == "linear":
            # A few rows times a transposed weight is a stream of the weight with a kernel of its own, like one row.
            code[(product[:, 1] > 1) & (product[:, 1] <= 4)] = "linear.few"
        if batch.row.name == "bmm":
            # PyTorch multiplies very small matrices itself.
            code[product[:, 1] * product[:, 2] * product[:, 3] < SMALL_PRODUCT] = "bmm.small"
    elif batch.row.name == "conv2d":
        code[shape.groups > 1] = "conv2d.grouped"
        depthwise = (shape.groups > 1) & (shape.groups == shape.c_in)
        code[depthwise] = "conv2d.depthwise"
        # Channels that do not fill the widest vectors are left to a slower kernel.
        code[depthwise & (shape.c_in % ALIGNMENT > 0)] = "conv2d.depthwise.ragged"
        # PyTorch leaves single small images to a kernel of its own, at a tenth of the fixed cost of the library's.
        small = (shape.n == 1) & (shape.c_in * shape.h * shape.w <= SMALL_IMAGE) & (shape.kh <= 3) & (shape.kw <= 3)
        code[(shape.groups == 1) & small] = "conv2d.small"
    elif batch.row.name == "conv_transpose2d":
        small = (shape.n == 1) & (shape.c_in * shape.h * shape.w <= SMALL_IMAGE) & (shape.kh <= 3) & (shape.kw <= 3)
        code[(shape.groups == 1) & small] = "conv_transpose2d.small"
    elif batch.row.name in ("softmax", "sum", "mean", "layer_norm", "rms_norm"):
        # Rows that do not fill the widest vector are done element by element.
        code[shape.cols < ALIGNMENT] = f"{batch.row.name}.short"
    elif batch.row.name == "batch_norm":
        code[shape.train == 1] = "batch_norm.train"
    if batch.direction == "backward":
        code = code + ".backward"
    return code


def _alignment(size: Floats) -> Floats:
    """0 (odd) to 2 (a multiple of 16): half the power of two in a size."""
    whole = np.maximum(size, 1).astype(np.int64)
    return np.asarray(0.5 * np.log2(np.gcd(whole, ALIGNMENT)), dtype=np.float64)


def _coordinates(batch: Batch, shape: Any, product: Floats) -> Floats:
    if batch.row.family in ("matmul", "bmm", "linear", "recurrent"):
        columns = [np.log(product[:, place]) for place in range(4)] + [
            _alignment(product[:, 3]),
            _alignment(product[:, 2]),
        ]
    elif batch.row.family == "convolution":
        columns = _convolution(shape, product)
    elif batch.row.family == "attention":
        columns = [
            np.log(shape.b * shape.heads),
            np.log(shape.q_len),
            np.log(shape.kv_len),
            np.log(shape.head_dim),
            np.log(shape.heads / shape.kv_heads),
            1.0 * shape.causal,
            0.5 * _alignment(shape.q_len),
            0.5 * _alignment(shape.kv_len),
        ]
    elif batch.row.family == "pooling":
        columns = [
            np.log(shape.n * shape.c),
            np.log(shape.h * shape.w),
            np.log(shape.kh * shape.kw),
            np.log(shape.stride),
        ]
    elif batch.row.family == "embedding":
        columns = [np.log(shape.count), np.log(shape.cols), np.log(shape.rows)]
    elif batch.row.name == "pointwise":
        columns = [np.log(np.maximum(shape.reads + shape.writes, 1)), np.zeros(len(product))]
    elif batch.row.rows is not None:
        columns = [np.log(np.broadcast_to(column, len(product))) for column in batch.row.rows(shape)]
    else:
        columns = [np.log(np.maximum(product[:, 1], 1))]
    return np.ascontiguousarray(
        np.stack([np.broadcast_to(column, len(product)) for column in columns], axis=1), dtype=np.float64
    )


def _convolution(shape: Any, product: Floats) -> list[Floats]:
    """The product inside, and what decides between algorithms: kernel, stride, image, dilation, channels per group."""
    return [
        np.log(product[:, 0]),
        np.log(product[:, 1]),
        np.log(product[:, 2]),
        np.log(product[:, 3]),
        np.log(shape.kh * shape.kw),
        np.log(shape.stride),
        0.5 * np.log(shape.h * shape.w),
        # Depthwise kernels take their vectors across channels, all others within a group.
        0.5 * _alignment(np.where(shape.groups == shape.c_in, shape.c_in, shape.c_in / shape.groups)),
        0.5 * _alignment(np.where(shape.groups == shape.c_in, shape.c_out, shape.c_out / shape.groups)),
    ]
