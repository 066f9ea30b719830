"""What the time of an operator depends on, as columns: work, the matrix product inside it, and coordinates for local correction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from microbench.dtypes import DTYPES
from microbench.operators.core import Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microbench.operators.table import Batch

Floats = npt.NDArray[np.float64]

# Vector units and tensor cores load 16 elements at a time at most: a size that is no multiple leaves lanes or copies behind.
ALIGNMENT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Columns of one family and dtype.

    ``gemm`` has batch, m, n, k (zeros where there is no product inside), ``winograd`` the same for the transformed product and
    the bytes of its two transforms (NaN where there is none), ``coordinates`` natural logarithms of sizes, ``code`` the operator
    and pass, ``launch`` the launch mode.
    """

    family: str
    element_bytes: float
    flop: Floats
    bytes: Floats
    gemm: Floats
    winograd: Floats
    coordinates: Floats
    code: npt.NDArray[np.object_]
    launch: npt.NDArray[np.object_]
    cold: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.flop)

    def take(self, keep: npt.NDArray[Any]) -> Features:
        """Select rows by a mask or an index."""
        return Features(
            family=self.family,
            element_bytes=self.element_bytes,
            flop=self.flop[keep],
            bytes=self.bytes[keep],
            gemm=self.gemm[keep],
            winograd=self.winograd[keep],
            coordinates=self.coordinates[keep],
            code=self.code[keep],
            launch=self.launch[keep],
            cold=self.cold[keep],
        )


def describe(batch: Batch) -> Features:
    """Columns of the rows of a batch."""
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
        gemm=product,
        winograd=_winograd(batch, shape),
        coordinates=_coordinates(batch, shape, product),
        code=np.full(size, batch.row.name + (".backward" if batch.direction == "backward" else ""), dtype=object),
        launch=np.full(size, batch.launch, dtype=object),
        cold=np.full(size, batch.cache == "cold"),
    )


def join(parts: Sequence[Features]) -> Features:
    """Stack features of one family and dtype."""
    first = parts[0]
    return Features(
        family=first.family,
        element_bytes=first.element_bytes,
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("flop", "bytes", "gemm", "winograd", "coordinates", "code", "launch", "cold")
        },
    )


def _winograd(batch: Batch, shape: Any) -> Floats:
    """Dense 3 x 3 convolutions of stride 1 by Winograd's F(4 x 4, 3 x 3): 36 products over image tiles of 4 x 4, and two transforms."""
    columns = np.full((len(batch), 5), np.nan)
    if batch.row.name != "conv2d":
        return columns
    fits = (shape.kh == 3) & (shape.kw == 3) & (shape.stride == 1) & (shape.dilation == 1) & (shape.groups == 1)
    tiles = shape.n * np.ceil((shape.h + 2 * shape.pad - 2) / 4) * np.ceil((shape.w + 2 * shape.pad - 2) / 4)
    moved = 2 * 36 * tiles * (shape.c_in + shape.c_out) * DTYPES[batch.dtype].bytes
    for place, column in enumerate((np.full(len(batch), 36.0), tiles, shape.c_out, shape.c_in, moved)):
        columns[:, place] = np.where(fits, column, np.nan)
    return columns


def _alignment(size: Floats) -> Floats:
    """0 (odd) to 2 (a multiple of 16): half the power of two in a size."""
    whole = np.maximum(size, 1).astype(np.int64)
    return np.asarray(0.5 * np.log2(np.gcd(whole, ALIGNMENT)), dtype=np.float64)


def _coordinates(batch: Batch, shape: Any, product: Floats) -> Floats:
    if batch.row.family in ("matmul", "bmm", "linear", "recurrent"):
        columns = [np.log(product[:, place]) for place in range(4)] + [_alignment(product[:, 3]), _alignment(product[:, 2])]
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
        ]
    elif batch.row.family == "pooling":
        columns = [np.log(shape.n * shape.c), np.log(shape.h * shape.w), np.log(shape.kh * shape.kw), np.log(shape.stride)]
    elif batch.row.family == "embedding":
        columns = [np.log(shape.count), np.log(shape.cols), np.log(shape.rows)]
    elif batch.row.name == "pointwise":
        columns = [np.log(np.maximum(shape.reads + shape.writes, 1)), np.zeros(len(product))]
    elif batch.row.rows is not None:
        columns = [np.log(np.broadcast_to(column, len(product))) for column in batch.row.rows(shape)]
    else:
        columns = [np.log(np.maximum(product[:, 1], 1))]
    return np.ascontiguousarray(np.stack([np.broadcast_to(column, len(product)) for column in columns], axis=1), dtype=np.float64)


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
        0.5 * _alignment(shape.c_in / shape.groups),
        0.5 * _alignment(shape.c_out / shape.groups),
    ]
