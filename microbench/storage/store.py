"""Characterisations on disk: the only place with JSON, and the place that reads and writes results.

Nothing is overwritten, nothing half-written is left under a final name, and whatever is read back is either a valid
record or one sentence. While a run measures, every sample goes to a `Journal` at once, so that a killed process loses
no more than the case in flight.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from microbench.errors import CannotRun, UsageError
from microbench.records import Characterisation, Finding, Samples
from microbench.storage.files import check_writable, only_run, slug, stem, write_new
from microbench.storage.thinning import EXACT, SAMPLES_PER_ROUND, STEPS, fewer_rounds, thin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from microbench.records import Device, Environment, Plan, Sheet

__all__ = [
    "SCHEMA",
    "Journal",
    "check_writable",
    "dumps",
    "journal_header",
    "load",
    "loads",
    "only_run",
    "read_journal",
    "save",
    "slug",
    "stem",
    "write_new",
]

SCHEMA = "1.0"
MAX_FILE_BYTES = 2_000_000
JOURNAL_SUFFIX = ".partial"

_READ_LIMIT_BYTES = (
    64_000_000  # far above what is ever written (a journal is not thinned); below what would stall a laptop
)
_SCHEMA = re.compile(r"(\d{1,4})\.(\d{1,4})")

# Names in the file that differ from the records': those that files of schema 1 have always had.
_STORED_SHEET = {"frequency_license": "licence", "reference_clock": "companion"}
_STORED_SAMPLES = {"reference_ns": "companion_ns", "reference_iterations": "companion_iterations"}
_READ_SHEET = {stored: name for name, stored in _STORED_SHEET.items()}
_READ_SAMPLES = {stored: name for name, stored in _STORED_SAMPLES.items()}

_FIELDS = tuple((field.name, _STORED_SAMPLES.get(field.name, field.name), field.default) for field in fields(Samples))


def _plain(value: object) -> object:
    """Let numpy scalars through without importing numpy."""
    item = getattr(value, "item", None)
    if callable(item):
        return item()
    raise TypeError(f"a record holds a {type(value).__name__}, which JSON cannot")


def _samples_row(samples: Samples) -> dict[str, Any]:
    """One row of samples; what equals its default is left out, for there are thousands of them."""
    return {
        stored: value
        for name, stored, default in _FIELDS
        if (value := getattr(samples, name)) is not default and value != default
    }


def _encode(characterisation: Characterisation) -> bytes:
    tree = msgspec.to_builtins(replace(characterisation, schema=SCHEMA, samples=()), enc_hook=_plain)
    tree["sheets"] = [_renamed(sheet, _STORED_SHEET) for sheet in tree["sheets"]]
    tree["samples"] = [_samples_row(samples) for samples in characterisation.samples]
    return msgspec.json.encode(tree, enc_hook=_plain)


def dumps(characterisation: Characterisation) -> bytes:
    """Encode as JSON of at most 2 MB: samples are thinned to 200 a case and round, and further (with a finding) where that is too much.

    Raises
    ------
    ValueError
        If a record holds what JSON cannot (infinity, for example): it would be unreadable, so it is not written.
    """
    data = b""
    longest = max((len(each.ns) for each in characterisation.samples), default=0)
    for count, rounds in STEPS:
        if data and rounds > len(characterisation.samples) and count >= longest:
            continue  # it would thin nothing
        samples = tuple(thin(each, count) for each in characterisation.samples)
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
        data = _encode(replace(characterisation, samples=fewer, findings=findings))
        if len(data) <= MAX_FILE_BYTES:
            break
    try:
        _decode(data, Characterisation)
    except msgspec.MsgspecError as error:
        raise ValueError(f"this characterisation could not be read back: {error}") from error
    return data


def _renamed(row: Any, names: Mapping[str, str]) -> Any:
    """A JSON object with some of its keys under other names; what is no object is passed on for the decoder to refuse."""
    return {names.get(key, key): value for key, value in row.items()} if isinstance(row, dict) else row


def _from_stored(tree: Any, kind: type[Any]) -> Any:
    """Give the keys of a file the names that the records have now."""
    if kind is Samples:
        return _renamed(tree, _READ_SAMPLES)
    if kind is Characterisation and isinstance(tree, dict):
        for part, names in (("sheets", _READ_SHEET), ("samples", _READ_SAMPLES)):
            if isinstance(tree.get(part), list):
                tree[part] = [_renamed(row, names) for row in tree[part]]
    return tree


def _decode(data: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.convert(_from_stored(msgspec.json.decode(data), kind), kind)
    except (OverflowError, RecursionError) as error:  # an integer of 400 digits; brackets nested a thousand deep
        raise msgspec.ValidationError(str(error)) from error


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
        head = _decode(data, _Head)
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
        found: Characterisation = _decode(data, Characterisation)
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{name} holds what cannot be: {error}; restore the file as it was written, or measure again"
        ) from None
    return found


def _read(path: Path) -> bytes:
    """Read a regular file of sane size."""
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
    if Path(path).suffix == JOURNAL_SUFFIX:
        raise UsageError(f"{path} is the journal of an unfinished run: 'microbench run --resume {path}' finishes it")
    return loads(_read(Path(path)), str(path))


def save(characterisation: Characterisation, out: str | Path) -> Path:
    """Write ``out/<device>/<UTC time>-<id>.json`` and return its path; a second file of the same second gets ``-2``.

    Raises
    ------
    CannotRun
        If the folder cannot be written to.
    """
    data = dumps(characterisation)
    base = Path(out) / stem(
        characterisation.device, characterisation.environment.started if characterisation.environment else None
    )
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


class Journal:
    """An append-only file of what a run has measured so far; `read_journal` reads it back.

    Each line goes to the kernel in one write, so that a killed process loses nothing that was appended. (It is not
    forced to the disk line by line: that takes milliseconds, and only a power cut would notice.)
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def create(cls, path: str | Path, header: Characterisation) -> Journal:
        """Begin a journal; ``header`` holds device, plan, environment and sheets (`journal_header` makes one).

        Raises
        ------
        CannotRun
            If the file exists or cannot be created.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            journal = cls(path, os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o666))
        except OSError as error:
            raise CannotRun(
                f"the journal {path} cannot be created: {error.strerror}; choose another folder with --out"
            ) from None
        journal._write(_encode(replace(header, samples=())))
        for samples in header.samples:
            journal.append(samples)
        return journal

    @classmethod
    def resume(cls, path: str | Path) -> tuple[Journal, Characterisation]:
        """Open an interrupted run's journal to go on; also returns what it holds. A half-written last line is cut off.

        Raises
        ------
        UsageError
            If it is no journal.
        CannotRun
            If it cannot be written to.
        """
        path = Path(path)
        held = read_journal(path)
        try:
            whole = _read(path).rfind(b"\n") + 1
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
            os.ftruncate(descriptor, whole)
        except OSError as error:
            raise CannotRun(f"the journal {path} cannot be continued: {error.strerror}") from None
        return cls(path, descriptor), held

    def append(self, samples: Samples) -> None:
        """Add the samples of one case in one round.

        Raises
        ------
        CannotRun
            If the disk is full or gone.
        """
        self._write(msgspec.json.encode(_samples_row(samples), enc_hook=_plain))

    def _write(self, line: bytes) -> None:
        data = line + b"\n"
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            raise CannotRun(
                f"the journal {self.path} cannot be written: {error.strerror}; what it holds so far is kept"
            ) from None

    def close(self) -> None:
        """Close the file; calling it twice is allowed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def discard(self) -> None:
        """Close and remove it, once the characterisation is saved."""
        self.close()
        self.path.unlink(missing_ok=True)


def journal_header(device: Device, plan: Plan, environment: Environment, sheets: tuple[Sheet, ...]) -> Characterisation:
    """Make what a journal opens with: a characterisation without samples."""
    return Characterisation(schema=SCHEMA, device=device, environment=environment, plan=plan, sheets=sheets)


def read_journal(path: str | Path) -> Characterisation:
    """Read a journal as a characterisation with samples and nothing distilled; a half-written last line is ignored.

    Raises
    ------
    UsageError
        If it is no journal, or a line other than the last is damaged.
    """
    path = Path(path)
    if path.suffix == ".json":
        journal = path.with_suffix(JOURNAL_SUFFIX)
        remedy = (
            f"its journal is {journal}"
            if journal.exists()
            else "its run ended and left none; start anew without --resume"
        )
        raise UsageError(f"{path} is a result, and a run goes on from its journal: {remedy}")
    head, *lines = _read(path).split(b"\n")
    if not lines:
        raise UsageError(f"{path} is no journal of a run that got as far as measuring: start anew without --resume")
    opened = loads(head, str(path))
    samples = list(opened.samples)
    for number, line in enumerate(lines[:-1], start=2):  # what follows the last line end was never finished
        try:
            samples.append(_decode(line, Samples))
        except msgspec.MsgspecError as error:
            remedy = "remove the lines from there on, or start anew without --resume"
            raise UsageError(f"line {number} of {path} is damaged ({error}): {remedy}") from None
    return replace(opened, samples=tuple(samples))
