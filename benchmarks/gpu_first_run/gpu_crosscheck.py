"""The same card by PyTorch: cuBLAS products, copies, host links, launches; a row each as it is measured."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from gpu_rows import Row, failure, say

Call = Callable[[], Any]
GIB = 1 << 30
IN_GRAPH = 20  # copies in one graph


class Torch:
    """PyTorch on one card, and where its rows go."""

    def __init__(self, out: str | None) -> None:
        import torch

        self.torch: Any = torch
        self.out = out

    def best(self, call: Call, times: int, rounds: int = 3) -> tuple[float, float]:
        """Seconds of one call, best of rounds of calls back to back, and the median round."""
        cuda = self.torch.cuda
        for _ in range(3):
            call()
        cuda.synchronize()
        took = []
        for _ in range(rounds):
            start, stop = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
            start.record()
            for _ in range(times):
                call()
            stop.record()
            stop.synchronize()
            took.append(start.elapsed_time(stop) / 1e3 / times)
        return min(took), statistics.median(took)

    def measure(self, what: str, key: Row, work: float, make: Callable[[], Call], times: int = 10) -> None:
        """Measure what ``make`` makes, and tell its rate or why there is none."""
        started = time.monotonic()
        row: Row = {"what": what, **key}
        try:
            fast, middle = self.best(make(), times)
            row |= {"value": work / fast, "median": work / middle, "by": "torch"}
            row |= {"unit": "FLOP/s" if key["measures"] == "compute" else "byte/s"}
            row["seconds"] = round(time.monotonic() - started, 2)
        except Exception as error:  # noqa: BLE001 - a product that this card or version lacks costs one row
            row["error"] = failure(error)
        say(self.out, row)
        self.torch.cuda.empty_cache()

    def product(self, n: int, dtype: str, precision: str = "highest", *, zeros: bool = False) -> Call:
        """A matrix product of one format."""
        torch = self.torch
        torch.set_float32_matmul_precision(precision)
        fill = torch.zeros if zeros else torch.randn
        a, b = (fill(n, n, device="cuda").to(getattr(torch, dtype)) for _ in range(2))
        c = torch.empty_like(a)
        return lambda: torch.mm(a, b, out=c)

    def product_f8(self, n: int, *, fast: bool = True) -> Call:
        """A scaled product of E4M3."""
        torch = self.torch
        a = torch.randn(n, n, device="cuda").to(torch.float8_e4m3fn)
        b = torch.randn(n, n, device="cuda").to(torch.float8_e4m3fn).t()
        one = torch.ones((), device="cuda")
        return lambda: torch._scaled_mm(  # noqa: SLF001 - the only way to a scaled product
            a, b, one, one, out_dtype=torch.bfloat16, use_fast_accum=fast
        )

    def product_i8(self, n: int, *, by_columns: bool = True) -> Call:
        """A product of INT8."""
        torch = self.torch
        a, b = (torch.randint(-128, 128, (n, n), dtype=torch.int8, device="cuda") for _ in range(2))
        right = b.t().contiguous().t() if by_columns else b
        return lambda: torch._int_mm(a, right)  # noqa: SLF001 - the only way to an INT8 product

    def bytes_on_card(self, size: int) -> Any:
        """Random bytes."""
        return self.torch.empty(size, dtype=self.torch.uint8, device="cuda").random_()

    def copy(self, size: int) -> Call:
        """A copy within the card's memory."""
        a = self.bytes_on_card(size)
        b = self.torch.empty_like(a)
        return lambda: b.copy_(a)

    def fill(self, size: int) -> Call:
        """Zeros."""
        return self.bytes_on_card(size).zero_  # type: ignore[no-any-return]

    def total(self, count: int) -> Call:
        """A sum of floats."""
        return self.torch.ones(count, dtype=self.torch.float32, device="cuda").sum  # type: ignore[no-any-return]

    def graphed(self, size: int) -> Call:
        """`IN_GRAPH` copies as one graph."""
        cuda, copy = self.torch.cuda, self.copy(size)
        with cuda.stream(cuda.Stream()):
            copy()
        cuda.synchronize()
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            for _ in range(IN_GRAPH):
                copy()
        return graph.replay  # type: ignore[no-any-return]

    def link(self, size: int, *, to_device: bool, page_locked: bool) -> Call:
        """A copy over the bus."""
        host = self.torch.empty(size, dtype=self.torch.uint8)
        host = host.pin_memory() if page_locked else host
        there = self.torch.empty(size, dtype=self.torch.uint8, device="cuda")
        if to_device:
            return lambda: there.copy_(host, non_blocking=page_locked)
        return lambda: host.copy_(there, non_blocking=page_locked)


def crosscheck(options: argparse.Namespace) -> int:
    """Products, memory, links and launches, in this order."""
    card = Torch(options.out)
    if not card.torch.cuda.is_available():
        say(options.out, {"what": "torch", "error": "torch.cuda.is_available() is false"})
        return 1
    card.torch.cuda.set_device(0)
    products(card, 64 if options.small else options.size)
    memory(card, 1 << 22 if options.small else GIB)
    links(card, 1 << 22 if options.small else GIB)
    try:
        launches(card)
    except Exception as error:  # noqa: BLE001 - the last part
        say(options.out, {"what": "launch", "error": failure(error)})
    return 0


def products(card: Torch, n: int) -> None:
    """Matrix products of every format that PyTorch multiplies."""
    flop = 2.0 * n**3

    def each(named: str, dtype: str, make: Callable[[], Call], times: int = 10, **more: str) -> None:
        card.measure(f"matmul {n} {named}", {"measures": "compute", "dtype": dtype} | more, flop, make, times)

    each("bf16", "bf16", partial(card.product, n, "bfloat16"))
    each("bf16 zeros", "bf16", partial(card.product, n, "bfloat16", zeros=True), operands="zeros")
    each("f16", "f16", partial(card.product, n, "float16"))
    each("tf32", "tf32", partial(card.product, n, "float32", "high"), 5)
    each("f8e4m3", "f8e4m3", partial(card.product_f8, n))
    each("f8e4m3, slow accumulation", "f8e4m3", partial(card.product_f8, n, fast=False))
    each("i8", "i8", partial(card.product_i8, n))
    each("i8, right operand by rows", "i8", partial(card.product_i8, n, by_columns=False))
    each("f32", "f32", partial(card.product, n, "float32"), 2)
    each("f64", "f64", partial(card.product, n, "float64"), 2)


def memory(card: Torch, gib: int) -> None:
    """Copies, fills and sums in main memory, copies in the last cache."""
    dram = {"measures": "memory", "level": "DRAM"}
    card.measure("copy 2 x 2 GiB", dram | {"access": "copy"}, 4.0 * gib, partial(card.copy, 2 * gib))
    card.measure("fill 4 GiB", dram | {"access": "write"}, 4.0 * gib, partial(card.fill, 4 * gib))
    card.measure("sum of 4 GiB", dram | {"access": "read"}, 4.0 * gib, partial(card.total, gib))
    for mib in (8, 16):
        cache = {"measures": "memory", "level": "L2", "access": "copy"}
        moved = 2.0 * IN_GRAPH * (mib << 20)
        card.measure(f"copy 2 x {mib} MiB in L2, graph", cache, moved, partial(card.graphed, mib << 20))


def links(card: Torch, gib: int) -> None:
    """Copies over the bus."""
    for to_device, way, short in ((True, "host to device", "h2d"), (False, "device to host", "d2h")):
        for page_locked, kind, size in ((True, "pinned", gib), (False, "pageable", gib // 4)):
            what = f"{way}, {'page-locked' if page_locked else kind}"
            make = partial(card.link, size, to_device=to_device, page_locked=page_locked)
            card.measure(what, {"measures": "link", "name": f"{short}.{kind}"}, size, make, 3 if page_locked else 2)


def launches(card: Torch) -> None:
    """What a launch costs PyTorch: on the host, on the device, and with the wait for it."""
    x, synchronize = card.torch.zeros(1, device="cuda"), card.torch.cuda.synchronize
    for _ in range(200):
        x.add_(1)
    synchronize()
    started = time.perf_counter()
    for _ in range(2000):
        x.add_(1)
    host = (time.perf_counter() - started) / 2000
    synchronize()
    whole = (time.perf_counter() - started) / 2000
    trips = []
    for _ in range(200):
        started = time.perf_counter()
        x.add_(1)
        synchronize()
        trips.append(time.perf_counter() - started)
    found = (
        ("host", "eager", host),
        ("back to back", "eager period", whole),
        ("and wait", "eager round trip", min(trips)),
    )
    for what, name, value in found:
        row: Row = {"what": f"torch x.add_(1): {what}", "measures": "cost", "name": name, "value": value}
        say(card.out, row | {"unit": "s", "by": "torch"})
