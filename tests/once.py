"""What takes long to make is made once, whatever processes ask for it, and kept from one test run to the next."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def folder() -> Path:
    """The folder that outlives a test run."""
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "microbench-tests"
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError:
        kept = Path(f"/tmp/microbench-tests-{os.getuid()}")  # noqa: S108 - the tests' own TMPDIR does not outlive them
        kept.mkdir(parents=True, exist_ok=True)
    return kept


def key(*parts: object, files: Iterable[Path] = ()) -> str:
    """A name for what is made of these words and the contents of these files."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode())
    for path in sorted(files):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:20]


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock file, alone or with others that share it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


def made(name: str, make: Callable[[Path], None]) -> Path:
    """Return the file or folder ``name``; where there is none yet, ``make`` is given a path to make it at."""
    out = folder() / name
    if not out.exists():
        with locked(out.with_name(f"{out.name}.lock")):
            if not out.exists():
                with tempfile.TemporaryDirectory(dir=folder()) as scratch:
                    part = Path(scratch) / out.name
                    make(part)
                    shutil.move(part, out)
    return out
