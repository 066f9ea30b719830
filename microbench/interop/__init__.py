"""Other tools' files: a characterisation written for them, and their declared numbers read; one file per format.

A writer turns a characterisation into the text that the consumer reads, in the consumer's own fields and units. A
reader takes the same fields back as SI numbers, which is what `audit` needs and what the round-trip tests use. A format
is found by its file: every module of this folder is imported unless its name begins with an underscore.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from microbench.errors import UsageError
from microbench.interop.declared import Declared
from microbench.records import Characterisation, Finding
from microbench.records.dtypes import DTYPES
from microbench.text import shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a writer is asked for; ``dtype`` is set for formats that hold one dtype only."""

    characterisation: Characterisation
    to: str
    dtype: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The text for the consumer, and what its reader should know about it."""

    text: str
    findings: tuple[Finding, ...] = ()

    def __repr__(self) -> str:
        """How much text, and how many findings."""
        return f"<Exported: {len(self.text.splitlines())} lines, {len(self.findings)} findings>"


Writer = Callable[[Request], Exported]
Reader = Callable[[Any], list[Declared] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One format: what it is, and which release of its reader was checked for fields and units."""

    name: str
    says: str
    suffix: str
    checked: str
    write: Writer


FORMATS: dict[str, Format] = {}
READERS: dict[str, Reader] = {}


def writes(name: str, *, says: str, suffix: str, checked: str) -> Callable[[Writer], Writer]:
    """Register the writer of a format.

    Raises
    ------
    ValueError
        If another function writes a format of that name.
    """

    def register(function: Writer) -> Writer:
        if name in FORMATS:
            raise ValueError(f"two functions write the format {name!r}")
        FORMATS[name] = Format(name=name, says=says, suffix=suffix, checked=checked, write=function)
        return function

    return register


def reads(name: str) -> Callable[[Reader], Reader]:
    """Register the reader of a format; it returns ``None`` for a document that is not of its format.

    Raises
    ------
    ValueError
        If another function reads a format of that name.
    """

    def register(function: Reader) -> Reader:
        if name in READERS:
            raise ValueError(f"two functions read the format {name!r}")
        READERS[name] = function
        return function

    return register


def formats() -> dict[str, Format]:
    """All formats by name."""
    for module in iter_modules(__path__):
        if not module.name.startswith("_"):
            import_module(f"{__name__}.{module.name}")
    return FORMATS


def readers() -> dict[str, Reader]:
    """All readers by format name."""
    formats()
    return READERS


def render(characterisation: Characterisation, to: str) -> Exported:
    """Write a characterisation in another tool's format.

    Parameters
    ----------
    characterisation
        A measured or fitted device.
    to
        The format's name, with ``:dtype`` after it where the format holds a single dtype (``astra-sim:bf16``).

    Raises
    ------
    UsageError
        If the format is unknown, or needs what the characterisation lacks.

    Examples
    --------
    >>> sorted(formats())[:3]
    ['aiconfigurator', 'astra-sim', 'calculon']
    """
    name, _, dtype = to.partition(":")
    known = formats()
    if name not in known:
        raise UsageError(f"unknown export format {name!r}; known: {', '.join(sorted(known))}")
    if dtype and dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r} in --to {to}; known: {', '.join(DTYPES)}")
    characterisation = shown(characterisation)
    exported = known[name].write(Request(characterisation=characterisation, to=name, dtype=dtype or None))
    rows = [ceiling for ceiling in characterisation.ceilings if ceiling.measures == "compute"]
    if rows and all(ceiling.mode == "peak" for ceiling in rows):
        says = (
            "no library or sustained ceiling was measured: rates are those of hand-written loops, and programs reach "
            "less"
        )
        finding = Finding(
            code="export-peaks-only", severity="warning", says=says, remedy="run with the torch extra installed"
        )
        return Exported(text=exported.text, findings=(*exported.findings, finding))
    return exported
