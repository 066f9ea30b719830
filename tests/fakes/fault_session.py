"""Run inside a process under the fake driver: a short session per fault, and what came of it as one line of JSON each.

A session probes the device, prepares and runs a compute kernel and two streams, replays a graph and copies both ways, and closes
everything. The fault is one code, at one call of one function.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys

from microbench import devices, kernels
from microbench.errors import ContextLost, MicrobenchError
from microbench.kernels.cuda_row import packed
from microbench.kernels.cuda_rows import ROWS
from microbench.kernels.cuda_station import Station

FAKE = ctypes.CDLL("libcuda.so.1")


def live() -> dict[str, int]:
    text = ctypes.create_string_buffer(4096)
    FAKE.fake_live(text, len(text))
    return {kind: int(count) for kind, count in (word.split("=") for word in text.value.decode().split())}


def timers(station: Station) -> None:
    """What the kernels above do not reach: graphs, copies, pinned memory."""
    row = next(row for row in ROWS if row.name == "fma.f32")
    context, timer, cuda = station.context, station.timer, station.cuda
    memory, pinned = context.alloc(1 << 16), context.pinned(1 << 12)
    memory.fill(0)
    where = {"out": memory.address, "in": memory.address, "stamps": memory.address}
    launch = cuda.Launch(station.function(row), (1, 1, 1), (256, 1, 1), 0, packed("compute", iterations=1, **where))
    timer.replay(launch, 4, 2)
    timer.round_trip(launch)
    timer.round_trip(launch, 2)
    timer.enqueue(launch, 2)
    to_device = cuda.Copy(cuda.CopyKind.to_device, memory.address, pinned.address, pinned.size)
    to_host = cuda.Copy(cuda.CopyKind.to_host, pinned.address, memory.address, pinned.size)
    timer.copies([to_device, to_host], 2)
    timer.host_copy(to_device)
    timer.host_copy(to_host)
    station.function(row).attribute(4)
    memory.close()
    pinned.close()


def session() -> list[str]:
    """One session; the findings that a run would keep."""
    said = []
    jobs = []
    try:
        device = devices.probe("cuda:0")
        registry = kernels.registry(device)
        for name in ("fma.f32", "read.i32.u4", "copy.i32.u4"):
            try:
                finding = registry[name].check(device)
                assert finding is None, finding.says
                jobs.append(registry[name].prepare(device, {"working_set": 1 << 20} if "." in name[4:] else {}, 1))
            except MicrobenchError as error:
                said.append(f"{type(error).__name__}: {error}")
        for job in jobs:
            try:
                for _ in range(3):
                    assert job.run(1).checked
            except MicrobenchError as error:
                said.append(f"{type(error).__name__}: {error}")
        station = Station(device)
        with station.driving("timers"):
            timers(station)
    except ContextLost as error:
        said.append(f"ContextLost: {error}")
    except MicrobenchError as error:
        said.append(f"{type(error).__name__}: {error}")
    finally:
        for job in jobs:
            job.close()
            job.close()
    return said


def main() -> None:
    faults = json.loads(sys.argv[1])
    for name, nth, code in [(None, 0, 0), *faults]:
        before = live()
        FAKE.fake_fail(name.encode() if name else None, nth, code)
        said = session()
        reached = FAKE.fake_calls(name.encode()) if name else 0
        gc.collect()
        lost = any(line.startswith("ContextLost") for line in said)
        after = live()
        FAKE.fake_fail(None, 0, 0)
        held = {kind: after[kind] - before.get(kind, 0) for kind in after if after[kind] != before.get(kind, 0)}
        sys.stdout.write(
            json.dumps({"call": name, "nth": nth, "code": code, "said": said, "held": held, "lost": lost, "reached": reached}) + "\n"
        )


if __name__ == "__main__":
    main()
