"""Hardware counters of ncu over what the sheets claim; 1 is agreement."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_rows import Row, command_output, failure, rows, say

if TYPE_CHECKING:  # the facts are written before the project is installed
    from microbench.kernels import Kernel
    from microbench.records import Device

PROGRAM = Path(__file__).resolve().with_name("gpu_first.py")
# Kernels whose sheets are compared with the hardware's own counters, and their working set in terms of the last cache:
# sixteen of them ("dram"), four as the plan takes for main memory ("plan": what is missing of the bytes was hit in the
# last cache), a quarter ("l2"). No two neighbours share a symbol: that is how launches are told apart.
COUNTED = (
    ("fma.f32", ""), ("fma.f64", ""), ("fma.f16.half2", ""), ("fma.bf16.bf16x2", ""), ("mad.i32", ""),
    ("dp4a.i8.i32", ""), ("wgmma.bf16.f32.m64n256k16.ss", ""), ("wgmma.f16.f32.m64n256k16.rs", ""),
    ("wgmma.tf32.f32.m64n256k8.ss", ""), ("wgmma.f8e4m3.f32.m64n256k32.ss", ""), ("wgmma.i8.i32.m64n256k32.ss", ""),
    ("mma.bf16.f32.m16n8k16", ""), ("mma.f64.f64.m16n8k16", ""), ("read.i32.u4", "dram"), ("write.i32.u4", "dram"),
    ("copy.i32.u4", "dram"), ("triad.f32.u4", "dram"), ("read.i32.bulk", "dram"), ("read.i32.u4", "plan"),
    ("copy.i32.u4", "plan"), ("read.i32.u4", "l2"), ("copy.i32.u4", "l2"), ("read.i32.shared", ""),
    ("write.i32.shared", ""), ("read.i32.l1", ""), ("mix.f32.fma8", "dram"), ("mix.bf16.f32.mma16", "dram"),
    ("chase.i32.cg", "l2"), ("chase.i32.ca", "l1"),
)  # fmt: skip
SYMBOLS = "fma_.*|mad_.*|dp4a_.*|wgmma_.*|mma_.*|read_.*|write_.*|copy_.*|triad_.*|mix_.*|chase_.*"
DURATION, CYCLES = "gpu__time_duration.sum", "sm__cycles_elapsed.max"
DRAM_READ, DRAM_WRITTEN = "dram__bytes_read.sum", "dram__bytes_write.sum"
L2_READ, L2_WRITTEN = "lts__t_sectors_op_read.sum", "lts__t_sectors_op_write.sum"
SHARED_LOADS, SHARED_STORES = "smsp__sass_data_bytes_mem_shared_op_ld.sum", "smsp__sass_data_bytes_mem_shared_op_st.sum"
WAVEFRONTS = "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum"
L1_SECTORS = "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum"
THREAD_OPS = "smsp__sass_thread_inst_executed_op_{}_pred_on.sum"
TENSOR_BUSY = "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed"
SECTOR = 32
SURE = (DURATION, CYCLES, "smsp__inst_executed.sum", DRAM_READ, DRAM_WRITTEN)
WANTED = (
    *SURE, *(THREAD_OPS.format(each) for each in ("ffma", "dfma", "hfma", "integer")),
    "sm__inst_executed_pipe_fma.sum", "sm__inst_executed_pipe_fmaheavy.sum", "sm__inst_executed_pipe_fp64.sum",
    "sm__inst_executed_pipe_fp16.sum", "sm__inst_executed_pipe_alu.sum", "sm__inst_executed_pipe_tensor.sum",
    TENSOR_BUSY, L2_READ, L2_WRITTEN, "lts__t_sector_hit_rate.pct", "l1tex__t_sector_hit_rate.pct", L1_SECTORS,
    WAVEFRONTS, "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum", "smsp__sass_data_bytes_mem_global_op_ld.sum",
    SHARED_LOADS, SHARED_STORES,
)  # fmt: skip
# FLOP of one thread's instruction, by how a kernel's name begins.
THREAD_FLOP = {
    "fma.f32": ("ffma", 2),
    "fma.f64": ("dfma", 2),
    "fma.f16": ("hfma", 4),
    "fma.bf16": ("hfma", 4),
    "mix.f32": ("ffma", 2),
    "mad.i32": ("integer", 2),
    "dp4a": ("integer", 8),
}


def counters_run(options: argparse.Namespace) -> int:
    """Under ncu: each kernel of `COUNTED` once, with the iterations that it did."""
    from microbench import hardware
    from microbench.kernels.cuda import registry

    device = hardware.probe(options.device)
    level = device.level("L2")
    last = (level.capacity_bytes if level else None) or 50 << 20
    sizes = {"dram": 16 * last, "plan": 4 * last, "l2": last // 4, "l1": 64 << 10}
    if options.small:
        sizes = {"dram": 8 << 20, "plan": 4 << 20, "l2": 1 << 20, "l1": 64 << 10}
    held = {kernel.sheet.name: kernel for kernel in registry.kernels(device)}
    for name, where in COUNTED:
        kernel = held.get(name)
        if kernel is None or kernel.sheet.unavailable:
            continue
        work = kernel.sheet.work
        row: Row = {"kernel": name, "symbol": kernel.sheet.symbol, "params": {"working_set": where} if where else {}}
        row |= {"flop": work.flop, "read": work.bytes_read, "written": work.bytes_written}
        try:
            say(options.out, row | run_once(kernel, device, where, sizes.get(where, 0), small=options.small))
        except Exception as error:  # noqa: BLE001 - one kernel's fault is one row
            say(options.out, row | {"error": failure(error)})
    return 0


def run_once(kernel: Kernel, device: Device, where: str, size: int, *, small: bool) -> Row:
    """Run a kernel long enough for its counters to mean something."""
    sheet = kernel.sheet
    prepared = kernel.prepare(device, {"working_set": size} if where else {}, 1)
    try:
        taken = prepared.run(1)
        if sheet.measures in ("memory", "intensity") and where:
            passes = {"dram": 1, "plan": 3}.get(where, 16)
            wanted = max(1, passes * size // max(1, sheet.work.bytes))
        elif sheet.measures == "latency":
            wanted = 1000
        else:
            wanted = taken.iterations * (1 if small else 256)
        taken = prepared.run(wanted)
    finally:
        prepared.close()
    return {"iterations": taken.iterations, "ns": taken.ns, "checked": taken.checked}


def counters(options: argparse.Namespace) -> int:
    """Choose the metrics that this ncu knows, run under it, and join its figures with the sheets'."""
    folder = Path(options.out).parent
    began = time.monotonic()
    wanted = metrics(folder, options.chip)
    ran, raw = folder / "counted.jsonl", ""
    for chosen in (wanted, list(SURE)):
        ran.unlink(missing_ok=True)
        raw = under_ncu(options, folder, ran, chosen, max(10.0, options.limit - (time.monotonic() - began)))
        (folder / "ncu.csv").write_text(raw)
        if '"ID"' in raw:
            break
    joined = join_counters(raw, rows(ran))
    for row in joined:
        say(options.out, row)
        told = " ".join(f"{key}={value:.4g}" for key, value in row["ratios"].items())
        print(f"{row['kernel']:34} {json.dumps(row['params']):26} {told}")
    if not joined:
        lines = [line for line in raw.splitlines() if line.startswith("==")][:3]
        print("ncu gave no counters:", *lines, sep="\n  ")
        say(options.out, {"error": "; ".join(lines) or "no counters"})
    return 0 if joined else 1


def metrics(folder: Path, chip: str) -> list[str]:
    """Of `WANTED` those that this ncu knows, and the tensor cores' counters, whose names differ between versions."""
    began = time.monotonic()
    listed = command_output("ncu", "--query-metrics", "--chip", chip, limit=40)
    known = set(re.findall(r"^([a-z0-9]+__\w+)", listed, re.MULTILINE))
    wanted = [name for name in WANTED if name.split(".")[0] in known] if known else list(SURE)
    path = re.compile(r"sm__ops_path_tensor_src_(bf16|fp16|tf32|fp8|int8|fp64)")
    tensor = [name for name in known if path.match(name) and "sparsity_on" not in name]
    # Of a name with and without the suffix for dense operands one is enough.
    dense = "_sparsity_off"
    tensor = [name for name in tensor if not name.endswith(dense) or name.removesuffix(dense) not in tensor]
    pipes = [name for name in known if re.match(r"sm__inst_executed_pipe_tensor_op_(gmma|hmma|imma|dmma)$", name)]
    wanted += [*sorted(f"{name}.sum" for name in tensor), *sorted(f"{name}.sum" for name in pipes)]
    seconds = round(time.monotonic() - began, 1)
    say(folder / "ncu-metrics.jsonl", {"known": len(known), "wanted": wanted, "seconds": seconds})
    return wanted


def under_ncu(options: argparse.Namespace, folder: Path, ran: Path, chosen: list[str], limit: float) -> str:
    """Run `counters_run` under ncu, which leaves the clocks and caches alone; what ncu prints."""
    command = ["ncu", "--target-processes", "all", "--clock-control", "none", "--cache-control", "none", "--csv"]
    command += ["--page", "raw", "--print-units", "base", "--kernel-name", f"regex:^({SYMBOLS})$"]
    command += ["--metrics", ",".join(chosen), sys.executable, "-u", str(PROGRAM), "counters-run", "--out", str(ran)]
    command += ["--device", options.device, *(["--small"] if options.small else [])]
    with (folder / "ncu.log").open("a", encoding="utf-8") as log:
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=limit,
                env=os.environ | {"CUDA_LAUNCH_BLOCKING": "1"},
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            log.write("out of time\n")
            text = error.stdout or b""
            return text.decode(errors="replace") if isinstance(text, bytes) else text
        log.write(f"exit {done.returncode}\n{done.stderr[-4000:]}\n")
    return done.stdout


def join_counters(raw: str, ran: list[Row]) -> list[Row]:
    """The last launch of each kernel that ran, with what the counters say of it over what the sheet claims."""
    lines = raw.splitlines()
    start = next((place for place, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        return []
    table = csv.DictReader(io.StringIO("\n".join(line for line in lines[start:] if line.startswith('"'))))
    launches = [row for row in table if row.get("ID", "").isdigit()]
    names = [row["Kernel Name"].partition("(")[0].strip() for row in launches]
    found: list[Row] = []
    at = 0
    for case in ran:
        if "error" in case:
            found.append({**case, "ratios": {}})
            continue
        # The launches of a case are adjacent, and the next case's have another symbol; the last one's iterations are
        # those that are told.
        end = at
        while end < len(launches) and names[end] != case["symbol"]:
            end += 1
        while end < len(launches) and names[end] == case["symbol"]:
            end += 1
        if not end or names[end - 1] != case["symbol"]:
            found.append({**case, "error": "ncu told of no launch of it", "ratios": {}})
            continue
        at = end
        values = numbers(launches[end - 1])
        found.append({**case, "counters": values, "ratios": ratios(case, values)})
    return found


def numbers(launch: dict[str, str]) -> dict[str, float]:
    """The counters of one launch."""
    values = {}
    for name, text in launch.items():
        if name and "__" in name:
            try:
                values[name] = float(text.replace(",", ""))
            except (ValueError, AttributeError):
                continue
    return values


def ratios(case: Row, values: dict[str, float]) -> dict[str, float]:
    """What the hardware counted over what the sheet claims."""
    flop, read, written = (case[key] * case["iterations"] for key in ("flop", "read", "written"))
    name, where = case["kernel"], case["params"].get("working_set")
    claims: list[tuple[str, float | None, float]] = []

    def times(factor: float, metric: str) -> float | None:
        counted = values.get(metric)
        return None if counted is None else factor * counted

    for begin, (what, each) in THREAD_FLOP.items():
        if name.startswith(begin):
            label = "flop (integer instructions)" if what == "integer" else "flop"
            claims.append((label, times(each, THREAD_OPS.format(what)), flop))
    tensor = [counted for metric, counted in values.items() if re.match(r"sm__ops_path_tensor_.*\.sum$", metric)]
    if tensor and (name.startswith(("wgmma", "mma.")) or ".mma" in name):
        claims.append(("flop (tensor path)", max(tensor), flop))
    if where in ("dram", "plan"):
        claims += [
            ("DRAM bytes read", times(1, DRAM_READ), read),
            ("DRAM bytes written", times(1, DRAM_WRITTEN), written),
        ]
    if where in ("dram", "plan", "l2") and not name.startswith("chase"):
        claims += [
            ("L2 bytes read", times(SECTOR, L2_READ), read),
            ("L2 bytes written", times(SECTOR, L2_WRITTEN), written),
        ]
    if name.endswith(".shared") and not name.startswith("chase"):
        claims += [
            ("shared bytes read", times(1, SHARED_LOADS), read),
            ("shared bytes written", times(1, SHARED_STORES), written),
        ]
        claims.append(("shared wavefronts x 128", times(128, WAVEFRONTS), read + written))
    if name == "read.i32.l1":
        claims.append(("L1 bytes read", times(SECTOR, L1_SECTORS), read))
    found = {label: counted / claimed for label, counted, claimed in claims if counted is not None and claimed}
    return found | conditions(name, values)


def conditions(name: str, values: dict[str, float]) -> dict[str, float]:
    """What is no claim of the sheet: the clock, hit rates, how busy the tensor cores were."""
    found = {}
    if values.get(CYCLES) and values.get(DURATION):
        found["clock GHz"] = values[CYCLES] / values[DURATION]
    labels = [("L2 hit %", "lts__t_sector_hit_rate.pct"), ("L1 hit %", "l1tex__t_sector_hit_rate.pct")]
    labels += [("tensor busy %", TENSOR_BUSY)] if name.startswith(("wgmma", "mma")) else []
    return found | {label: values[metric] for label, metric in labels if metric in values}
