"""What if a model's weights were stored in fewer bits (weight-only quantisation), its activations as they are.

The matrices that products read are stored so: of linear layers, convolutions, experts. Tables of vectors, norms and
biases stay as they are, and so does a matrix that is used otherwise as well (one that an embedding shares). A product
reads the stored bits and multiplies in the activations' format, as kernels do that turn weights on the fly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from microbench.errors import UsageError
from microbench.operators.aten import held_bytes
from microbench.operators.graph import Graph, Step

# Families of products, whose matrices are stored in fewer bits.
PRODUCTS = ("matmul", "bmm", "linear", "convolution")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFormat:
    """How weights are stored: bits of one, and of the scale that so many share (``None``: those of one output)."""

    bits: int
    scale_bits: int
    shared_by: int | None

    def bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of a matrix of this shape, outputs first, with its scales."""
        count, rows = 1, shape[0]
        for size in shape:
            count *= size
        scales = rows if self.shared_by is None else -(-count // self.shared_by)
        return -(-(count * self.bits + scales * self.scale_bits) // 8)


# Groups of 128 are what GPTQ, AWQ and torchao take unless told otherwise; blocks of 32 with a power of two are OCP's
# microscaling formats.
WEIGHT_FORMATS = {
    "i4": WeightFormat(bits=4, scale_bits=16, shared_by=128),
    "i8": WeightFormat(bits=8, scale_bits=16, shared_by=None),
    "f8": WeightFormat(bits=8, scale_bits=16, shared_by=None),
    "f4": WeightFormat(bits=4, scale_bits=8, shared_by=32),
}
_SPELLINGS = {"int4": "i4", "int8": "i8", "fp8": "f8", "f8e4m3": "f8", "f8e5m2": "f8", "fp4": "f4", "f4e2m1": "f4"}


def weight_format(name: str) -> str:
    """The name of a weight format.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    found = _SPELLINGS.get(name, name)
    if found not in WEIGHT_FORMATS:
        raise UsageError(f"weights cannot be stored in {name[:20]!r}; --weights takes {', '.join(WEIGHT_FORMATS)}")
    return found


class WeightUses:
    """Which weights the operators of a model read, gathered while it is captured.

    ``matrices`` gives of each step that is a product the weights that it reads and the bytes of each that it reads,
    ``otherwise`` holds the weights that anything else reads.
    """

    def __init__(self) -> None:
        self._weights: dict[int, Any] = {}
        self.matrices: dict[int, list[tuple[int, int]]] = {}
        self.otherwise: set[int] = set()

    def of(self, model: Any) -> None:
        """Name the model whose weights are watched."""
        self._weights = {_storage(each): each for each in model.parameters() if each.is_floating_point()}

    def saw(self, place: int, families: set[str], inputs: list[Any]) -> None:
        """Hear of a call, with the place of its first step, the families of its operators and the tensors it reads."""
        read = {_storage(each): held_bytes(each) for each in inputs}
        for key, size in read.items():
            if key not in self._weights:
                continue
            if not families or not families <= set(PRODUCTS):
                self.otherwise.add(key)
            elif self._weights[key].dim() > 1:
                self.matrices.setdefault(place, []).append((key, size))

    def stored(self, graph: Graph, name: str) -> Graph:
        """The graph with its matrices stored in a format.

        Raises
        ------
        UsageError
            If no product reads a weight that could be stored so.
        """
        read = {key for each in self.matrices.values() for key, _ in each} - self.otherwise
        size = {key: self._weights[key].numel() * self._weights[key].element_size() for key in read}
        saved = {key: size[key] - WEIGHT_FORMATS[name].bytes(tuple(self._weights[key].shape)) for key in read}
        saved = {key: less for key, less in saved.items() if less > 0}
        if not saved:
            raise UsageError(
                f"{graph.name} has no product whose weights {name} would make smaller; leave --weights out"
            )
        steps = list(graph.steps)
        for place, held in self.matrices.items():
            less = sum(saved[key] * part // size[key] for key, part in held if key in saved)
            steps[place] = _reading_less(steps[place], less)
        less = sum(saved.values())
        count = sum(self._weights[key].numel() for key in saved)
        note = (
            f"{count:,} of {graph.parameters:,} parameters are stored in {name} and read so by products in the "
            "activations' format; turning them is taken to cost nothing"
        )
        return replace(
            graph,
            steps=tuple(steps),
            parameter_bytes=graph.parameter_bytes - less,
            peak_bytes=graph.peak_bytes - less,
            mean_bytes=graph.mean_bytes - less,
            notes=(*graph.notes, note),
        )


def _storage(tensor: Any) -> int:
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - the only name a storage has


def _reading_less(step: Step, less: int) -> Step:
    work = step.op.work
    return replace(step, op=replace(step.op, traffic=(max(0, work.bytes_read - less), work.bytes_written)))
