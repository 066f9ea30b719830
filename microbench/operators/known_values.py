"""Numbers that are known while a model is captured: small whole numbers are there, everything else is a shape.

What a forward pass asks of positions, counts and masks then has its answer. A selection among few choices whose scores
nobody knows (a router's choice of experts) is taken to be balanced: each choice is picked equally often. What is made
of both is no longer known.
"""

from __future__ import annotations

from typing import Any

from microbench.operators.seen_before import SeenBefore

# Tensors of more elements are shapes alone, whatever they hold.
LARGEST_KNOWN = 1 << 20
# Selections among more choices are no router's.
_MOST_CHOICES = 1024
BALANCED = "rows are taken for equally shared between the experts of a layer, whatever a router would do"


def listed(value: Any) -> list[Any]:
    """What is inside of lists and tuples of arguments, in their order."""
    if isinstance(value, list | tuple):
        return [item for each in value for item in listed(each)]
    return [value]


class KnownValues:
    """Answers calls of PyTorch's operators, from known numbers where all of theirs are known."""

    def __init__(self, torch: Any) -> None:
        from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

        self._torch = torch
        self.seen = SeenBefore(torch)
        self._fake, self._for_real = FakeTensor, unset_fake_temporarily
        # Storages whose numbers were overwritten by unknown ones, or stem from a selection that was taken for balanced;
        # kept alive, so that no other takes their address.
        self._doubtful: dict[int, Any] = {}
        self._balanced: dict[int, Any] = {}
        self.notes: list[str] = []

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run a call; on known numbers for real, else on shapes."""
        self.seen.last = None
        # A mode that hears of functions must not hear of what is asked of tensors here.
        with self._torch._C.DisableTorchFunction():  # noqa: SLF001 - its only name
            return self._called(func, args, kwargs)

    def _called(self, func: Any, args: Any, kwargs: Any) -> Any:
        aten = self._torch.ops.aten
        packet = func.overloadpacket
        inputs = [each for each in listed((*args, *kwargs.values())) if isinstance(each, self._torch.Tensor)]
        if packet is aten._grouped_mm:  # noqa: SLF001 - its name
            return _grouped_result(self._torch, func, args, kwargs)
        if packet is aten._pack_padded_sequence and not isinstance(args[1], self._fake):  # noqa: SLF001 - its name
            return self._packed(*args)
        shapes = any(isinstance(each, self._fake) for each in inputs)
        if not shapes and inputs and not self._any(inputs, self._doubtful):
            return self._really(func, args, kwargs, inputs)
        if packet in (aten.index, aten._unsafe_index, aten.index_put, aten.index_put_):  # noqa: SLF001 - its name
            args = self._places(args)
        self._overwritten(func, args, kwargs)
        out = self.seen.call(func, self._as_shapes(args) if inputs and not shapes else args, kwargs)
        if not inputs:
            return self._made(func, (args, kwargs), out)
        return self._balanced_choice(packet, args, out) if shapes else out

    def _packed(self, padded: Any, lengths: Any, batch_first: bool) -> tuple[Any, Any]:
        """Sequences without their padding, and how many there are at each step."""
        rest = padded.shape[2:]
        with self._for_real():
            longest = int(lengths.max())
            sizes = (lengths.reshape(1, -1) > self._torch.arange(longest).reshape(-1, 1)).sum(1)
            count = int(lengths.sum())
        steps = padded.transpose(0, 1) if batch_first else padded
        return steps.new_empty((count, *rest)), sizes

    def _any(self, tensors: list[Any], among: dict[int, Any]) -> bool:
        return bool(among) and any(_name(each) in among for each in tensors)

    def _really(self, func: Any, args: Any, kwargs: Any, inputs: list[Any]) -> Any:
        with self._for_real():
            out = func(*args, **kwargs)
        if self._any(inputs, self._balanced):
            if self._torch.Tag.dynamic_output_shape in func.tags or self._torch.Tag.data_dependent_output in func.tags:
                self._say(BALANCED)
            for each in listed(out):
                if isinstance(each, self._torch.Tensor):
                    self._balanced[_name(each)] = each.untyped_storage()
        return out

    def _say(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _made(self, func: Any, given: tuple[Any, Any], out: Any) -> Any:
        """A small tensor of whole numbers that is made from nothing has them; random ones are nobody's to know."""
        known = (
            isinstance(out, self._torch.Tensor)
            and not (out.is_floating_point() or out.is_complex())
            and out.numel() <= LARGEST_KNOWN
            and self._torch.Tag.nondeterministic_seeded not in func.tags
            and not func.overloadpacket.__name__.startswith("empty")
        )
        if not known:
            return out
        with self._for_real():
            return func(*given[0], **given[1])

    def _overwritten(self, func: Any, args: Any, kwargs: Any) -> None:
        """Remember which known numbers a call replaces by unknown ones."""
        if not func._schema.is_mutable:  # noqa: SLF001 - torch has no public name for the schema of an operator
            return
        for place, argument in enumerate(func._schema.arguments):  # noqa: SLF001
            given = args[place] if place < len(args) else kwargs.get(argument.name)
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            for each in listed(given):
                if isinstance(each, self._torch.Tensor) and not isinstance(each, self._fake):
                    self._doubtful[_name(each)] = each.untyped_storage()

    def _as_shapes(self, args: Any) -> list[Any]:
        from torch._guards import detect_fake_mode

        mode = detect_fake_mode()
        if mode is None:
            return list(args)

        def turned(value: Any) -> Any:
            if isinstance(value, list | tuple):
                return [turned(each) for each in value]
            return mode.from_tensor(value) if isinstance(value, self._torch.Tensor) else value

        return [turned(each) for each in args]

    def _places(self, args: Any) -> list[Any]:
        """Arguments of an indexing whose known masks are the places where they are true."""
        places: list[Any] = []
        for each in args[1]:
            mask = isinstance(each, self._torch.Tensor) and each.dtype in (self._torch.bool, self._torch.uint8)
            if mask and not isinstance(each, self._fake) and not self._any([each], self._doubtful):
                if self._any([each], self._balanced):
                    self._say(BALANCED)
                with self._for_real():
                    places += each.nonzero().unbind(1)
            else:
                places.append(each)
        return [args[0], places, *args[2:]]

    def _balanced_choice(self, packet: Any, args: Any, out: Any) -> Any:
        """The result of a selection, with places that pick each choice equally often."""
        aten = self._torch.ops.aten
        if packet not in (aten.topk, aten.max, aten.argmax, aten.sort, aten.argsort):
            return out
        held = list(out) if isinstance(out, list | tuple) else [out]
        chosen, scores = held[-1], args[0]
        if chosen.dtype is not self._torch.int64 or not scores.dim() or not scores.is_floating_point():
            return out
        axis = self._axis(packet, args)
        if axis is None:
            return out
        choices = scores.shape[axis]
        if not 1 < choices <= _MOST_CHOICES or chosen.numel() > LARGEST_KNOWN:
            return out
        held[-1] = self._in_turn(chosen, scores, axis, choices)
        self._balanced[_name(held[-1])] = held[-1].untyped_storage()
        return type(out)(held) if isinstance(out, list | tuple) else held[-1]

    def _axis(self, packet: Any, args: Any) -> int | None:
        aten = self._torch.ops.aten
        place = {aten.topk: 2, aten.sort: 1, aten.argsort: 1}.get(packet, 1)
        given = args[place] if len(args) > place else -1 if packet not in (aten.max, aten.argmax) else None
        return given if isinstance(given, int) else None

    def _in_turn(self, chosen: Any, scores: Any, axis: int, choices: int) -> Any:
        """Places 0, 1, 2 and so on in turn, from row to row, none twice in a row."""
        with self._for_real():
            if chosen.dim() < scores.dim():
                return (self._torch.arange(chosen.numel()) % choices).reshape(chosen.shape)
            picked = chosen.shape[axis]
            whole = [chosen.shape[place] for place in range(chosen.dim()) if place != axis % chosen.dim()]
            step = picked if picked < choices else 1
            rows = step * self._torch.arange(chosen.numel() // max(1, picked)).reshape(-1, 1)
            turns = (rows + self._torch.arange(picked)) % choices
            return turns.reshape(*whole, picked).movedim(-1, axis).contiguous()


def _name(tensor: Any) -> int:
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - the only name a storage has


def _grouped_result(torch: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """The result of a grouped product: processors multiply formats that the shape function of torch refuses."""
    given = dict(zip((each.name for each in func._schema.arguments), args, strict=False)) | kwargs  # noqa: SLF001
    a, b, groups = given["self"], given["mat2"], given.get("offs")
    sizes: tuple[int, ...] = (a.shape[-2], b.shape[-1])
    if a.dim() == b.dim():
        sizes = (a.shape[0] if a.dim() == 3 else groups.shape[0], *sizes)
    return torch.empty(sizes, dtype=given.get("out_dtype") or a.dtype)
