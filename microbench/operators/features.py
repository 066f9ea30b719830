"""What the time of an operator depends on, as columns: work, the product inside, coordinates for local correction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from microbench.operators.registry import Shape, alignment
from microbench.records.dtypes import DTYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microbench.operators.table import Batch

Floats = npt.NDArray[np.float64]


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
    """Columns of the rows of a batch; ``footprint`` is the bytes that a model reads between two uses of one weight."""
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
    """Image tiles of 4 x 4 and of 2 x 2 outputs, c_out and c_in, where Winograd's algorithm applies."""
    columns = np.full((len(batch), 4), np.nan)
    if batch.row.winograd is not None:
        fits, *found = batch.row.winograd(shape)
        for place, column in enumerate(found):
            columns[:, place] = np.where(fits, column, np.nan)
    return columns


def _codes(batch: Batch, product: Floats) -> npt.NDArray[np.object_]:
    """The operator, the pass, and which of a library's separate kernels serves it: what factors and costs belong to."""
    code = np.full(len(batch), batch.row.name, dtype=object)
    if batch.row.variants is not None:
        for variant, which in batch.row.variants(Shape(batch.shape), product):
            code[which] = f"{batch.row.name}.{variant}"
    if batch.direction == "backward":
        code = code + ".backward"
    return code


def _coordinates(batch: Batch, shape: Any, product: Floats) -> Floats:
    row = batch.row
    if row.coordinates is not None:
        columns = row.coordinates(shape, product)
    elif row.gemm is not None:
        columns = [np.log(product[:, place]) for place in range(4)]
        columns += [alignment(product[:, 3]), alignment(product[:, 2])]
    elif row.rows is not None:
        columns = [np.log(column) for column in row.rows(shape)]
    else:
        raise ValueError(f"operator {row.name} has neither coordinates nor gemm nor rows")
    return np.ascontiguousarray(
        np.stack([np.broadcast_to(column, len(product)) for column in columns], axis=1), dtype=np.float64
    )
