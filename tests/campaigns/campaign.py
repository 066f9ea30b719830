"""Mutated files through the command line: nothing but an answer or a sentence, in bounded time and memory.

    python tests/campaigns/campaign.py [--files 20000] [--seed 0] [--shard 0/1] [--kinds fit,csv] [--keep FOLDER]

Each file is one of six kinds, goes through one command that reads it, in this process, and has one outcome: accepted,
refused in a sentence, or a fault, which is kept: a traceback, a sentence of several lines, more than five seconds of
processor time, output that a terminal or a job would obey, or a value accepted that no machine has. The table of a long
campaign is in docs/campaigns.md.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [path for path in (str(TESTS), str(TESTS / "fakes")) if path not in sys.path]

from campaigns.mutations import mutated  # noqa: E402 - found by the line above
from campaigns.possible import impossible  # noqa: E402

DATA = TESTS / "data"
CPU_LIMIT_S = 5.0
MEMORY_LIMIT_BYTES = 1e9
# A sentence of two lines, with a path and a value of the file in it.
LONGEST = 650
OP = "matmul:m=64,n=64,k=64,dtype=f32"
HEADER = "op,dtype,params,seconds,launch,cache\n"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of file: its good examples, what reads it, and its part of all files."""

    suffix: str
    good: tuple[bytes, ...]
    commands: tuple[tuple[str, ...], ...]
    share: int
    load: Callable[[Path], object] | None = None


@dataclass(kw_only=True)
class Counts:
    """What became of the files of one kind."""

    files: int = 0
    accepted: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    faults: list[str] = field(default_factory=list)


class TooLongError(BaseException):
    """A file took more processor time than it may."""


def kinds(folder: Path) -> dict[str, Kind]:
    """The six kinds, with good files of each; what they need besides is written into the folder."""
    from fake_characterisation import characterisation

    from microbench.interop import render
    from microbench.storage import store
    from microbench.storage.journal import read_journal

    stored = tuple((DATA / "schema" / f"1.{minor}.json").read_bytes() for minor in range(4))
    good = folder / "good.json"
    good.write_bytes((DATA / "fake-cuda.json").read_bytes())
    whole = characterisation()
    journal = store.dumps(whole).replace(b"\n", b" ") + b"\n"
    rows = (DATA / "gemm_a100_bf16.csv").read_text(encoding="utf-8").splitlines()[2:34]
    csv = (HEADER + "\n".join(rows) + "\n").encode()
    mixed = b"op,dtype,params,note\nmatmul,f32,m=8;n=8;k=8,a\nadd,f32,size=4096,b\nsoftmax,bf16,rows=64;cols=128,c\n"
    yaml = render(store.load(good), "aiconfigurator").text.encode()
    toml = tuple((DATA / "audit" / name).read_bytes() for name in ("correct.toml", "typed_in.toml"))
    fitted = folder / "fitted.json"
    (folder / "rows.csv").write_bytes(csv)
    run(("fit", str(folder / "rows.csv"), "--nominal", "A100", "-o", str(fitted)))
    calibrated = ("predict", "--op", "matmul:m=256,n=512,k=64,dtype=bf16", "--calibration", "X")
    reading = (
        ("report", "X"),
        ("report", "X", "--md", "-"),
        ("report", "X", "--csv", "-"),
        ("compare", "X", str(good)),
    )
    exported = tuple(
        ("export", "X", "--to", name) for name in ("pytorch", "calculon", "genz", "servcalc", "pytorch-trace")
    )
    predicted = ("predict", "--op", OP, "--calibration", "X")
    return {
        "characterisation": Kind(
            suffix=".json",
            good=(*stored, good.read_bytes()),
            commands=(*reading, *exported, predicted, ("compare", str(good), "X", "--format", "github")),
            share=5,
            load=store.load,
        ),
        "fit": Kind(
            suffix=".json", good=(fitted.read_bytes(),), commands=(calibrated, *exported[:2]), share=3, load=store.load
        ),
        "journal": Kind(suffix=".partial", good=(journal,), commands=(), share=3, load=read_journal),
        "csv": Kind(
            suffix=".csv",
            good=(csv, mixed),
            # A fit takes seconds of processor time, so few are made.
            commands=(("predict", "--ops", "X", "--calibration", str(fitted)),) * 199 + (("fit", "X", "-o", "-"),),
            share=4,
        ),
        "yaml": Kind(suffix=".yaml", good=(yaml,), commands=(("audit", "X"), ("audit", "X", "--csv", "-")), share=3),
        "toml": Kind(suffix=".toml", good=toml, commands=(("audit", "X"), ("audit", "X", "--json", "-")), share=2),
    }


def run(arguments: Sequence[str]) -> tuple[int, str, str]:
    """Carry out a command line in this process: exit code, standard output, standard error."""
    from microbench.cli import exits, streams
    from microbench.cli.main import cli

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        streams.open_streams()
        code = exits.run_command(lambda: cli(list(arguments), standalone_mode=False))
    return code, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """End what takes too much processor time; on a busy machine the time by the clock says nothing."""

    def stop(*_: object) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def examine(path: Path, kind: Kind, number: int) -> tuple[bool, str | None]:
    """Whether a file was accepted, and what was wrong with how it was treated (``None``: nothing)."""
    from microbench.errors import MicrobenchError
    from microbench.text import visible

    try:
        with limited():
            accepted = True
            if kind.load is not None:
                try:
                    found = kind.load(path)
                except MicrobenchError as error:
                    accepted = False
                    if not str(error).strip() or "\n" in str(error) or len(str(error)) > LONGEST:
                        return False, f"no sentence: {str(error)[:200]!r}"
                else:
                    wrong = next(impossible(found), None)
                    if wrong is not None:
                        return True, f"accepted: {wrong}"
            if not kind.commands:
                return accepted, None
            chosen = random.Random(f"command {number}").choice(kind.commands)
            command = [str(path) if word == "X" else word for word in chosen]
            code, out, err = run(command)
    except TooLongError:
        return False, f"more than {CPU_LIMIT_S:g} s of processor time"
    except BaseException as error:  # noqa: BLE001 - whatever comes out is what the campaign looks for
        last = traceback.extract_tb(error.__traceback__)[-1]
        return False, f"{type(error).__name__}: {str(error)[:150]} ({Path(last.filename).name}:{last.lineno})"
    return code not in (2, 3), _said_wrong(code, out, err, visible)


def _said_wrong(code: int, out: str, err: str, visible: Callable[[str], str]) -> str | None:
    if "Traceback" in err:
        return f"traceback: {err.splitlines()[-1][:200]}"
    lines = [line for line in err.splitlines() if line.strip()]
    # What was assumed or left out before may stand above the sentence.
    if code in (2, 3) and not (lines and len(lines[-1]) <= LONGEST and lines[-1].startswith("microbench: ")):
        return f"no sentence: {err[:200]!r}"
    for line in itertools.chain(out.split("\n"), err.split("\n")):
        ours = re.match(r"::(notice|warning|error) title=microbench ", line) is not None
        if visible(line) != line or "##[" in line or (line.lstrip().startswith("::") and not ours):
            return f"obeyed: {line[:100]!r}"
    return None


def campaign(
    files: int, seed: int, shard: tuple[int, int], only: Sequence[str], keep: Path | None
) -> dict[str, Counts]:
    """Examine so many files of all kinds; a shard is every n-th of them."""
    counts: dict[str, Counts] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        every = kinds(folder)
        dealt = [kind for kind in every for _ in range(every[kind].share)]
        for number in range(shard[0], files, shard[1]):
            which = random.Random(f"{seed} kind {number}").choice(dealt)
            if only and which not in only:
                continue
            kind, count = every[which], counts.setdefault(which, Counts())
            good = kind.good[number % len(kind.good)]
            data = mutated(good, number, seed, is_json=kind.suffix in (".json", ".partial"))
            path = folder / f"x{kind.suffix}"
            path.write_bytes(data)
            began = time.process_time()
            accepted, wrong = examine(path, kind, number)
            count.slowest_s = max(count.slowest_s, time.process_time() - began)
            count.files += 1
            count.accepted += accepted and wrong is None
            count.refused += not accepted and wrong is None
            if wrong is not None:
                count.faults.append(f"{which} {number}: {wrong}")
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{which}-{seed}-{number}{kind.suffix}").write_bytes(data)
    return counts


def peak_bytes() -> int:
    """The most memory that this process has had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def table(counts: dict[str, Counts]) -> str:
    """The counts as a table of Markdown."""
    lines = [
        "| kind | files | accepted | refused | faults | slowest, s of processor |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, each in sorted(counts.items()):
        row = (name, each.files, each.accepted, each.refused, len(each.faults), f"{each.slowest_s:.2f}")
        lines.append(f"| {' | '.join(map(str, row))} |")
    total = Counter[str]()
    for each in counts.values():
        total.update(files=each.files, accepted=each.accepted, refused=each.refused, faults=len(each.faults))
    row = ("all", total["files"], total["accepted"], total["refused"], total["faults"], "")
    return "\n".join([*lines, f"| {' | '.join(map(str, row))} |"])


def main() -> int:
    """Run a campaign, print its table and its faults; 1 where there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("--kinds", default="")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    at, _, of = options.shard.partition("/")
    only = tuple(word for word in options.kinds.split(",") if word)
    counts = campaign(options.files, options.seed, (int(at), int(of)), only, options.keep)
    print(table(counts))  # noqa: T201
    print(f"peak memory {peak_bytes() / 1e6:.0f} MB")  # noqa: T201
    faults = [fault for each in counts.values() for fault in each.faults]
    print("\n".join(faults[:100]))  # noqa: T201
    return 1 if faults or peak_bytes() > MEMORY_LIMIT_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
