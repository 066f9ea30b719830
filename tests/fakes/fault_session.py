"""Run inside a process under the fake driver: a short session per fault, and what came of it as one line of JSON each.

A session probes the device, prepares and runs a compute kernel, two streams, bulk copies and a copy to a second card,
replays a graph, copies both ways, and closes everything. The fault is one code, at one call of one function; nth 0 is a
call half way. With ``run FOLDER`` for a second argument a session is a whole run that stores what it measured there.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from pathlib import Path

from microbench import hardware, kernels
from microbench.errors import ContextLost, MicrobenchError
from microbench.hardware.extensions import cuda as extension
from microbench.kernels.cuda.device import DeviceSession
from microbench.kernels.cuda.row import packed
from microbench.kernels.cuda.rows import ROWS
from microbench.measure.plan import Selection
from microbench.runs.session import Request, carry_out

FAKE = ctypes.CDLL("libcuda.so.1")
KERNELS = ("fma.f32", "read.i32.u4", "copy.i32.u4", "read.i32.bulk", "copy.peer.cuda_1")
RUN = ("fma.f32", "read.i32.bulk", "copy.peer.cuda_1", "copy.both.pinned", "launch.graph", "launch.round_trip")


def live() -> dict[str, int]:
    text = ctypes.create_string_buffer(4096)
    FAKE.fake_live(text, len(text))
    return {kind: int(count) for kind, count in (word.split("=") for word in text.value.decode().split())}


def timers(session: DeviceSession) -> None:
    """What the kernels above do not reach: graphs, copies, pinned memory."""
    row = next(row for row in ROWS if row.name == "fma.f32")
    context, timer, cuda = session.context, session.timer, session.cuda
    memory, pinned = context.alloc(1 << 16), context.pinned(1 << 12)
    memory.fill(0)
    where = {"out": memory.address, "in": memory.address, "stamps": memory.address}
    launch = cuda.Launch(session.function(row), (1, 1, 1), (256, 1, 1), 0, packed("compute", iterations=1, **where))
    timer.replay(launch, 4, 2)
    timer.round_trip(launch)
    timer.round_trip(launch, 2)
    timer.enqueue(launch, 2)
    to_device = cuda.Copy(cuda.CopyKind.to_device, memory.address, pinned.address, pinned.size)
    to_host = cuda.Copy(cuda.CopyKind.to_host, pinned.address, memory.address, pinned.size)
    timer.copies([to_device, to_host], 2)
    timer.host_copy(to_device)
    timer.host_copy(to_host)
    session.function(row).attribute(4)
    memory.close()
    pinned.close()


def session() -> list[str]:
    """One session; the findings that a run would keep."""
    said = []
    jobs = []
    try:
        device = hardware.probe("cuda:0")
        registry = kernels.registry(device)
        for name in KERNELS:
            if name not in registry:
                continue  # a card that cannot be asked about its neighbours has none
            try:
                finding = registry[name].check(device)
                assert finding is None, finding.says
                params = {"working_set": 1 << 20, "size": 1 << 16}
                jobs.append(
                    registry[name].prepare(
                        device, {key: params[key] for key in registry[name].sheet.params if key in params}, 1
                    )
                )
            except MicrobenchError as error:
                said.append(f"{type(error).__name__}: {error}")
        for job in jobs:
            try:
                for _ in range(3):
                    assert job.run(1).checked
            except MicrobenchError as error:
                said.append(f"{type(error).__name__}: {error}")
        session = DeviceSession(device)
        with session.driving("timers"):
            timers(session)
    except ContextLost as error:
        said.append(f"ContextLost: {error}")
    except MicrobenchError as error:
        said.append(f"{type(error).__name__}: {error}")
    finally:
        for job in jobs:
            job.close()
            job.close()
    return said


def whole_run(folder: str) -> list[str]:
    """A run of a moment; what it says, and as the last line what it stored."""
    request = Request(
        budget="quick", device="cuda:0", selection=Selection(only=RUN), time_limit_s=0.05, out=Path(folder)
    )
    try:
        outcome = carry_out(request)
    except MicrobenchError as error:
        return [str(error), "stored nothing"]
    held = outcome.characterisation
    journal = any(Path(folder).rglob("*.partial"))
    said = [finding.says for finding in held.findings if finding.code in ("not-measured", "not-checked", "sticky")]
    return [
        *said,
        (
            f"stored {len(held.samples)} of "
            f"{len(held.plan.cases) if held.plan else 0}{' and a journal' if journal else ''}"
        ),
    ]


def main() -> None:
    faults = json.loads(sys.argv[1])
    once = (lambda: whole_run(sys.argv[3])) if sys.argv[2:3] == ["run"] else session
    usual: dict[str, int] = {}
    for name, nth, code in [(None, 0, 0), *faults]:
        before = live()
        FAKE.fake_fail(name.encode() if name else None, nth or max(2, usual.get(name, 0) // 2), code)
        if name in ("cuGetErrorName", "cuGetErrorString"):
            FAKE.fake_fail_too(b"cuMemAlloc_v2", 1, 2)  # only an error is described
        said = once()
        if name is None:
            usual = {each: FAKE.fake_calls(each.encode()) for each, _ in extension().exports()}
        reached = FAKE.fake_calls(name.encode()) if name else 0
        gc.collect()
        lost = any(line.startswith("ContextLost") or "--resume" in line for line in said)
        after = live()
        FAKE.fake_fail(None, 0, 0)
        held = {kind: after[kind] - before.get(kind, 0) for kind in after if after[kind] != before.get(kind, 0)}
        told = {
            "call": name,
            "nth": nth,
            "code": code,
            "said": said,
            "held": held,
            "lost": lost,
            "reached": reached,
            "usual": usual,
        }
        sys.stdout.write(json.dumps(told if name is None else {**told, "usual": usual.get(name)}) + "\n")


if __name__ == "__main__":
    main()
