"""Characterisations on disk: results are written and read here.

Nothing is overwritten, nothing half-written is left under a final name, and whatever is read back is either a valid
record or one sentence.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from microbench.errors import CannotRun, UsageError, expect
from microbench.records import Characterisation, Finding
from microbench.storage.encoding import SCHEMA, decode, encode
from microbench.storage.files import JOURNAL_SUFFIX, check_writable, only_run, slug, stem, write_new
from microbench.storage.thinning import EXACT, SAMPLES_PER_ROUND, STEPS, fewer_rounds, fewer_samples

__all__ = [
    "JOURNAL_SUFFIX",
    "SCHEMA",
    "check_writable",
    "dumps",
    "load",
    "loads",
    "only_run",
    "save",
    "slug",
    "stem",
    "write_new",
]

MAX_FILE_BYTES = 2_000_000
# Far above what is ever written (a journal is not thinned), and below what would stall a laptop.
_READ_LIMIT_BYTES = 64_000_000
_SCHEMA = re.compile(r"(\d{1,4})\.(\d{1,4})")


def dumps(characterisation: Characterisation) -> bytes:
    """Encode as JSON of at most 2 MB.

    Samples are thinned to 200 a case and round, and further, with a finding, where the file would still be larger.

    Raises
    ------
    ValueError
        If a record holds what JSON cannot (infinity, for example): it would be unreadable, so it is not written.
    """
    data = b""
    longest = max((len(each.ns) for each in characterisation.samples), default=0)
    for count, rounds in STEPS:
        if data and rounds > len(characterisation.samples) and count >= longest:
            continue  # nothing would be left out
        samples = tuple(fewer_samples(each, count) for each in characterisation.samples)
        fewer = fewer_rounds(samples, rounds)
        findings = characterisation.findings
        if count < SAMPLES_PER_ROUND:
            says = (
                f"the file would have been above {MAX_FILE_BYTES / 1e6:g} MB; it keeps at most {count} samples a case "
                "and round"
            )
            says += f" and {rounds} rounds a case" if len(fewer) < len(samples) else ""
            says += (
                ", and those that the ceilings rest on"
                if count >= EXACT
                else ", too few for the ceilings' typical rates"
            )
            remedy = "measure fewer cases at a time with --only"
            findings = (*findings, Finding(code="samples-thinned", severity="info", says=says, remedy=remedy))
        data = encode(replace(characterisation, samples=fewer, findings=findings))
        if len(data) <= MAX_FILE_BYTES:
            break
    try:
        decode(data, Characterisation)
    except msgspec.MsgspecError as error:
        raise ValueError(f"this characterisation could not be read back: {error}") from error
    return data


class _Head(msgspec.Struct):
    schema: Any = None
    device: Any = None


def _check_schema(data: bytes, name: str) -> None:
    """Refuse what is no characterisation, or one of another major schema, before looking closer."""
    alien = f"{name} is not a microbench characterisation"
    remedy = "give a .json file that 'microbench run' or 'microbench fit' wrote"
    if not data.strip():
        raise UsageError(f"{name} is empty: {remedy}")
    try:
        data.decode()
        head = decode(data, _Head, unique=False)
    except UnicodeDecodeError as error:
        raise UsageError(f"{alien}: it is not UTF-8 text (byte {error.start}); {remedy}") from None
    except msgspec.ValidationError:
        raise UsageError(f"{alien}: it is JSON of another kind; {remedy}") from None
    except msgspec.DecodeError as error:
        raise UsageError(f"{name} cannot be read: {error}; it is truncated or not JSON: {remedy}") from None
    match = _SCHEMA.fullmatch(head.schema) if isinstance(head.schema, str) else None
    if match is None or head.device is None:
        raise UsageError(f"{alien}: it has no 'schema' like {SCHEMA!r} and no 'device'; {remedy}")
    major = SCHEMA.partition(".")[0]
    if match[1] != major:
        raise UsageError(
            f"{name} has schema {head.schema}, and this version reads {major}.x: use the microbench that wrote it"
        )


def loads(data: bytes, name: str = "the characterisation") -> Characterisation:
    """Decode and check a characterisation; ``name`` stands for it in the sentence if it is refused.

    Keys that a newer minor schema added are ignored.

    Raises
    ------
    UsageError
        If the data is not a characterisation of this major schema, or holds a value that cannot be.
    """
    _check_schema(data, name)
    try:
        found: Characterisation = decode(data, Characterisation)
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{name} holds what cannot be: {error}; restore the file as it was written, or measure again"
        ) from None
    return found


def read_file(path: Path) -> bytes:
    """Read a regular file of at most 64 MB.

    Raises
    ------
    UsageError
        If there is none, it is larger, or it cannot be read; the sentence says which.
    """
    with contextlib.suppress(OSError, ValueError):
        # A pipe would block on open, a device might never end: look before opening.
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UsageError(f"{path} is not a regular file: give a .json file that 'microbench run' wrote")
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(f"{path} is not a regular file: give a .json file that 'microbench run' wrote")
            if status.st_size > _READ_LIMIT_BYTES:
                limit = f"a characterisation has at most {MAX_FILE_BYTES / 1e6:g} MB"
                raise UsageError(f"{path} has {status.st_size / 1e6:.0f} MB, and {limit}: is it the right file?")
            return file.read(_READ_LIMIT_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}; 'microbench list results' shows those that are here") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder: give one of the .json files in it") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def load(path: str | Path) -> Characterisation:
    """Read a characterisation from a file.

    Raises
    ------
    UsageError
        If there is no such file or it is no valid characterisation; the sentence names the file and what to do.
    """
    expect("the file", path, (str, os.PathLike), "the path of a .json file that 'microbench run' wrote")
    if Path(path).suffix == JOURNAL_SUFFIX:
        raise UsageError(f"{path} is the journal of an unfinished run: 'microbench run --resume {path}' finishes it")
    return loads(read_file(Path(path)), str(path))


def save(characterisation: Characterisation, out: str | Path, name: str | None = None) -> Path:
    """Write ``out/<device>/<UTC time>-<id>-<random>.json`` and return its path.

    ``name`` is that of the file without suffix where it is given, that of the run's journal; one that is taken gets
    ``-2``.

    Raises
    ------
    CannotRun
        If the folder cannot be written to.
    """
    data = dumps(characterisation)
    base = Path(out) / stem(
        characterisation.device, characterisation.environment.started if characterisation.environment else None
    )
    base = base.with_name(name) if name is not None else base
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotRun(
            f"{base.parent} cannot be created: {error.strerror}; choose another folder with --out"
        ) from None
    for number in range(1, 1000):
        path = base.with_name(base.name + (f"-{number}" if number > 1 else "") + ".json")
        if not path.exists():
            with contextlib.suppress(UsageError):  # somebody took the name between the look and the write
                return write_new(path, data)
    raise CannotRun(f"{base}.json and its next 998 names are taken: choose another folder with --out")
