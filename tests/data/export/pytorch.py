"""Device figures for PyTorch's runtime estimators, measured by microbench.

Eager cost model (``torch.distributed._tools.RuntimeEstimator``, ``torch.utils._runtime_estimation``)::

    with THIS_FILE.installed():
        ...

Inductor: ``torch._inductor.config.estimate_op_runtime = THIS_FILE.estimate_op_runtime``, or for the overlap scheduler
``torch._inductor.config.aten_distributed_optimizations.custom_runtime_estimation =
THIS_FILE.custom_runtime_estimation``.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# figures begin
NAME = 'Fake X100 SXM 80GB'
TFLOPS = {
    "bfloat16": 750,
    "int8": 1400,
    "float32": 54,
}
DRAM_GBPS = 2100
DRAM_GB = 85.8993
COST_MS = 0.008
# figures end


def device_info(scale: float = 1.0) -> Any:
    """Build torch's DeviceInfo: dense TFLOP/s by dtype times ``scale``, GB/s, GB."""
    import torch
    from torch._inductor.analysis.device_info import DeviceInfo

    tops: dict[Any, float] = {}
    for name, value in TFLOPS.items():
        key = "torch.tf32" if name == "tf32" else getattr(torch, name, None)
        if key is not None:
            tops[key] = value * scale
    return DeviceInfo(tops=tops, dram_bw_gbs=DRAM_GBPS, dram_gb=DRAM_GB)


def eager_scale() -> float:
    """The factor by which this torch's estimator shortens compute times, measured on a peak of 1 TFLOP/s.

    It is 1 where time is FLOP over peak, and 2/3 where FLOP are halved and 3/4 of the peak is taken.
    """
    import torch
    from torch.utils import _runtime_estimation

    estimation: Any = _runtime_estimation  # the stubs do not export the names that are replaced here
    # As matrices, 1e12 FLOP.
    left, right = torch.empty(1000, 500_000, device="meta"), torch.empty(500_000, 1000, device="meta")
    out = torch.empty(1000, 1000, device="meta")
    asked = estimation.get_device_tflops
    estimation.get_device_tflops = lambda _dtype: 1.0
    try:
        nanoseconds = estimation.get_compute_time(torch.ops.aten.mm, (left, right), {}, out, {torch.float32})
    finally:
        estimation.get_device_tflops = asked
    return float(nanoseconds) / 1e9


def tflops(dtype: Any) -> float:
    """Dense TFLOP/s of a torch dtype; f32 where the dtype was not measured, else the slowest known."""
    import torch

    name = str(dtype).removeprefix("torch.")
    if name == "float32" and "tf32" in TFLOPS and torch.backends.cuda.matmul.allow_tf32:
        name = "tf32"
    return TFLOPS.get(name) or TFLOPS.get("float32") or min(TFLOPS.values())


@contextmanager
def installed(target: str = "eager") -> Iterator[None]:
    """Let torch's estimators use these figures; ``target`` is ``eager`` or ``inductor``, which scale FLOP differently.

    The table entry is enough where the GPU is present and its driver reports NAME. The two cached look-ups are replaced
    as well, since without that GPU torch asks no table, and for bandwidth it asks the driver even where it has one. The
    eager model has no fixed cost per operator, so it is added to both of its terms.
    """
    from torch._inductor import scheduler, utils
    from torch._inductor.analysis import device_info as known
    from torch.distributed._tools import runtime_estimator
    from torch.utils import _runtime_estimation as estimation

    if target not in ("eager", "inductor"):
        raise ValueError(f"target is {target!r}; known: eager, inductor")
    scale = eager_scale() if target == "eager" else 1.0
    replaced: dict[str, Callable[..., float]] = {
        "get_device_tflops": lambda dtype: tflops(dtype) * scale,
        "get_gpu_dram_gbps": lambda: DRAM_GBPS,
    }
    for name in ("get_compute_time", "get_transfer_time"):
        replaced[name] = _with_cost(getattr(estimation, name))
    modules = (estimation, runtime_estimator, utils, scheduler)
    places = [(module, name) for module in modules for name in replaced if hasattr(module, name)]
    before = [getattr(module, name) for module, name in places]
    table: dict[str, Any] = known._device_mapping  # noqa: SLF001 - the table has no public way in
    # torch 2.13 looks names up in capitals, torch 2.11 as the driver spells them.
    keys = dict.fromkeys((NAME, NAME.upper()))
    entries = {key: table[key] for key in keys if key in table}
    try:
        table.update(dict.fromkeys(keys, device_info(scale)))
        for module, name in places:
            setattr(module, name, replaced[name])
        yield
    finally:
        for (module, name), value in zip(places, before, strict=True):
            setattr(module, name, value)
        for key in keys:
            table.pop(key, None)
        table.update(entries)


def _with_cost(nanoseconds: Callable[..., float]) -> Callable[..., float]:
    """Add the fixed cost of an operator to a term of the eager model; a term of 0 (nothing to compute) stays 0."""

    def estimate(*args: Any, **kwargs: Any) -> float:
        term = nanoseconds(*args, **kwargs)
        return term + COST_MS * 1e6 if term else term

    return estimate


def milliseconds(flop: float, size_bytes: float, dtype: Any) -> float:
    """Roofline time: fixed cost + max(FLOP / rate, bytes / bandwidth)."""
    return COST_MS + 1e3 * max(flop / (tflops(dtype) * 1e12), size_bytes / (DRAM_GBPS * 1e9))


def estimate_op_runtime(snode: Any) -> float:
    """Milliseconds of an inductor scheduler node; collectives are left to torch."""
    from torch._inductor.utils import is_collective

    if is_collective(snode.node):
        return float(snode.get_estimated_runtime())
    node = snode.get_nodes()[0].node
    return milliseconds(snode.estimate_flops() or 0, snode.get_read_write_buffers_sizes(), node.get_dtype())


def custom_runtime_estimation(node: Any, override_size: int | None = None) -> float | None:
    """Milliseconds of an FX node; ``None`` (torch estimates it) for views, collectives and nodes without tensors."""
    import torch
    from torch.utils._pytree import tree_leaves, tree_map
    from torch.utils.flop_counter import flop_registry

    packet = getattr(node.target, "overloadpacket", None)
    value = node.meta.get("val") if node.op == "call_function" else None
    outputs = [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]
    if packet is None or override_size is not None or not outputs or getattr(node.target, "is_view", False):
        return None
    if node.target.namespace not in ("aten", "prims"):
        return None

    def real(argument: Any) -> Any:
        return argument.meta.get("val") if isinstance(argument, torch.fx.Node) else argument

    args, kwargs = tree_map(real, node.args), tree_map(real, node.kwargs)
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    count = flop_registry.get(packet)
    flop = count(*args, **kwargs, out_val=value) if count else 0
    return milliseconds(flop, sum(t.numel() * t.element_size() for t in (*tensors, *outputs)), outputs[0].dtype)
