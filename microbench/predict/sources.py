"""Where a calibration comes from that nobody named: the newest whole result, else the fits that the package carries."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path

from microbench.errors import CannotRun, MicrobenchError, UsageError
from microbench.hardware.tables import gpus
from microbench.records import Characterisation, Finding
from microbench.storage import store

NEWEST = Path("results")
_SUFFIX = ".json.gz"


@lru_cache(maxsize=1)
def shipped() -> tuple[Characterisation, ...]:
    """The fits that the package carries, made from public tables (`benchmarks/shipped_fits.py`)."""
    folder = resources.files("microbench.predict").joinpath("shipped")
    if not folder.is_dir():
        return ()
    files = sorted((each for each in folder.iterdir() if each.name.endswith(_SUFFIX)), key=lambda each: each.name)
    return tuple(store.loads(gzip.decompress(each.read_bytes()), each.name) for each in files)


def named(what: str | Path) -> tuple[Characterisation, ...]:
    """A calibration by its file, or the shipped fits of a device by its name; an existing file wins.

    Raises
    ------
    UsageError
        If it is neither.
    """
    path = Path(what)
    if path.exists():
        return (store.load(path),)
    row = gpus.find(str(what))
    found = tuple(each for each in shipped() if row is not None and each.device.name == row.name)
    if not found:
        if path.suffix or len(path.parts) > 1:
            return (store.load(path),)  # says that there is no such file
        names = ", ".join(names_of(shipped())) or "none"
        raise UsageError(f"there is no file {what} and no shipped fit of that name; shipped are {names}")
    return found


def names_of(held: Sequence[Characterisation]) -> list[str]:
    """The devices of calibrations, each once."""
    return list(dict.fromkeys(each.device.name for each in held))


def newest(out: Path = NEWEST, kind: str | None = None) -> tuple[Characterisation, Path] | None:
    """The newest result that can be read, of a kind of device where one is asked for; one with operator fits if any."""
    plain: tuple[Characterisation, Path] | None = None
    for path in sorted(out.glob("*/*.json"), key=lambda each: each.stem, reverse=True):
        try:
            held = store.load(path)
        except MicrobenchError:
            continue
        if kind is not None and held.device.kind != kind:
            continue
        if held.fits.operators:
            return held, path
        plain = plain or (held, path)
    return plain


def sources(
    given: Sequence[str | Path], kind: str | None, out: Path = NEWEST
) -> tuple[list[Characterisation], Finding]:
    """Calibrations as they were named, else the newest result of a kind of device, else the shipped ones; and which.

    Parameters
    ----------
    given
        Files, or names of shipped fits.
    kind
        The kind of the device that is asked for; ``None`` if it is the calibration's own.
    out
        The folder of results.

    Raises
    ------
    CannotRun
        If nothing is named, nothing was measured, and no device is asked for that shipped fits could be carried to.
    """
    if given:
        held = [part for each in given for part in named(each)]
        return held, _which(f"the calibration is {', '.join(names_of(held))}")
    found = newest(out, kind)
    if found is not None and (found[0].fits.operators or kind is None):
        return [found[0]], _which(f"the calibration is {found[1]} ({found[0].device.name}), the newest under {out}/")
    if kind == "cuda" and shipped():
        names = ", ".join(names_of(shipped()))
        return list(shipped()), _which(f"nothing was measured here: the calibration is the shipped fits of {names}")
    raise CannotRun(
        f"there is no characterisation below {out}/; measure with 'microbench run', name one with --calibration FILE, "
        "or a device with --on NAME"
    )


def _which(says: str) -> Finding:
    return Finding(code="calibration", severity="info", says=f"{says}.")
