"""The machine: instruction sets, nominal rates, the conditions of measuring, stolen time, the folder for results."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator

from microbench.errors import CannotRun
from microbench.hardware import extensions, nominal, probe
from microbench.hardware.chips import signature_of
from microbench.hardware.clock import SUSTAINED_SAMPLE_S
from microbench.hardware.energy import Meter
from microbench.hardware.environment import FACTS, environment_facts
from microbench.hardware.interference import STEAL_SHARE, Steal
from microbench.hardware.procfs import allowed
from microbench.records import Finding, Value, units
from microbench.runs.doctor import Context, check, finding
from microbench.storage.files import check_writable

# Long enough for a few ticks of the kernel's counter of stolen time.
_STEAL_LOOK_S = 0.25


@check("cpu")
def instruction_sets(_: Context) -> Iterator[Finding]:
    """The instruction sets that the processor has, and whether MICROBENCH_ISA caps them."""
    try:
        features = extensions.cpu().features()
    except CannotRun:
        return
    cap = features.get("isa_cap")
    if cap:
        says = f"MICROBENCH_ISA={cap} keeps wider instruction sets from being measured"
        yield finding("instruction-sets", "warning", says, "unset MICROBENCH_ISA")
    notable = [flag for flag in features["flags"] if re.match(r"avx|amx|fma|asimd|sve|bf16|i8mm", flag)]
    yield finding("instruction-sets", "info", f"instruction sets: {', '.join(notable) or 'none beyond the base'}")


@check("cpu")
def port_table(_: Context) -> Iterator[Finding]:
    """Whether nominal rates are known for this processor."""
    device = probe("cpu")
    row = nominal.ports_of(device)
    if row is None:
        signature = signature_of(extensions.cpu().features(), min(os.sched_getaffinity(0)))
        says = (
            f"microarchitecture {device.arch} ({signature or 'no signature told'}) is not in the port table: ceilings "
            "stand without a share of nominal"
        )
        yield finding(
            "port-table", "warning", says, "report the processor's name and signature, so that a row can be added"
        )
    else:
        seen = "" if row.arch == device.arch else f" (it calls itself {device.arch})"
        note = f"; {row.note}" if row.varies and row.note else ""
        yield finding("port-table", "info", f"nominal rates by the port table's row {row.arch}{seen}{note}")


@check("cpu")
def environment(context: Context) -> Iterator[Finding]:
    """Every fact of the environment that can be good or bad for measuring."""
    facts = environment_facts(context.machine)
    for row in FACTS:
        value = facts[row.name]
        if row.judge is None or row.name in ("optimised", "sanitisers"):  # the native module has a check of its own
            continue
        bad = row.judge(value, context.machine) if value is not None else None
        name = row.name.replace("_", "-")
        unknown = "not told by this system" if row.name != "cpu_quota" else "none"
        fine = unknown if value is None else _readable(value, row.unit)
        yield bad or finding(name, "info", f"{row.name.replace('_', ' ')}: {fine}")


def _readable(value: Value, unit: str) -> str:
    if unit == "byte" and isinstance(value, (int, float)):
        return units.size(float(value))
    return f"{value:g} {unit}".strip() if isinstance(value, float) else f"{value} {unit}".strip()


@check("cpu")
def stolen_time(context: Context) -> Iterator[Finding]:
    """How much processor time the host takes away right now, over a quarter of a second."""
    steal = Steal(context.machine)
    time.sleep(_STEAL_LOOK_S)
    stolen = steal.lap()
    if stolen is None:
        yield finding("steal", "info", "stolen time: not told by this system")
        return
    share = stolen / (_STEAL_LOOK_S * max(1, len(allowed(context.machine))))
    if share > STEAL_SHARE:
        says = f"the host took {share:.0%} of the processor time in the last {_STEAL_LOOK_S:g} s"
        yield finding("steal", "warning", says, "measure at another time, or on a dedicated host")
    else:
        yield finding("steal", "info", f"stolen time: {share:.0%} in the last {_STEAL_LOOK_S:g} s")


@check("cpu")
def power(context: Context) -> Iterator[Finding]:
    """Whether the system tells the power that a loop takes, and why not."""
    meter = Meter(context.machine)
    if meter.says is None:
        yield finding("power", "info", f"power: not told by this system ({meter.why_not}); no joules", meter.remedy)
    elif meter.settles_s > SUSTAINED_SAMPLE_S:
        says = f"power: {meter.says}, a mean over {meter.settles_s:g} s; joules in runs with --thorough only"
        yield finding("power", "info", says)
    else:
        yield finding("power", "info", f"power: {meter.says}")


@check()
def output_folder(context: Context) -> Iterator[Finding]:
    """Whether results could be written; a folder that is missing is not created here."""
    folder = context.out
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        check_writable(folder)
    except CannotRun as error:
        yield finding("output-folder", "error", str(error), "microbench run --out DIR")
    else:
        yield finding("output-folder", "info", f"results can be written to {context.out}")
