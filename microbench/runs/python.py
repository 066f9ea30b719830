"""The commands as Python functions, for those that are no function of one stage: `microbench` offers them by name."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from microbench.errors import UsageError, expect
from microbench.records import Characterisation, units
from microbench.records.framed import Rows
from microbench.storage import store
from microbench.storage.folders import read_folder

if TYPE_CHECKING:
    from microbench.hardware.nominal_rates import NominalDevice
    from microbench.interop import Exported
    from microbench.runs.validate import Validation

Source = Characterisation | str | Path


def _held(source: Source) -> Characterisation:
    return source if isinstance(source, Characterisation) else store.load(source)


def _read(folder: str | Path) -> list[tuple[str, Characterisation]]:
    expect("the folder", folder, (str, PathLike), "the path of a folder that holds results")
    return read_folder(Path(folder))[0]


def report(source: Source, **paths: str | Path) -> tuple[Path, ...]:
    """Print a characterisation as tables, or write it.

    Parameters
    ----------
    source
        The characterisation or its file.
    **paths
        Where to write: ``html``, ``png``, ``svg``, ``md``; nothing is overwritten. Without any it is printed.

    Returns
    -------
    tuple of Path
        What was written.

    Raises
    ------
    UsageError
        If a path cannot be used, or a form is unknown.
    """
    from microbench.report import terminal, write

    unknown = paths.keys() - {"html", "png", "svg", "md"}
    if unknown:
        raise UsageError(f"report writes html, png, svg and md, and not {', '.join(sorted(unknown))}")
    for form, path in paths.items():
        expect(form, path, (str, PathLike), "a path to write to")
    if not paths:
        terminal.show(_held(source))
        return ()
    return write(_held(source), **paths)


def export(source: Source, to: str) -> Exported:
    """Another tool's text (``.text``) of a characterisation, and what its reader should know (``.findings``).

    Raises
    ------
    UsageError
        If the format is unknown; the sentence lists all.
    """
    from microbench.interop import render

    expect("the format", to, str, "the name of a format, such as 'pytorch'")
    return render(_held(source), to)


def audit(path: str | Path, against: Source | None = None) -> Rows:
    """Declared hardware numbers of a file, each with what it was held against and what is wrong with it.

    ``against`` is a characterisation, its file, or the name of a GPU of the nominal table.

    Raises
    ------
    UsageError
        If a file cannot be read, or nothing is known by that name.
    """
    from microbench.interop.audit import audit as examine

    expect("the file", path, (str, PathLike), "the path of a file of declared numbers")
    named = isinstance(against, str) and not Path(against).is_file()
    return Rows(examine(path, against if against is None or named else _held(against)))  # type: ignore[arg-type]


def nominal(name: str | None = None) -> NominalDevice:
    """The computed peaks of a known device, with the formula's terms; of the one here without a name."""
    from microbench.hardware import probe
    from microbench.hardware.nominal import described, named

    expect("the name", name, (str, type(None)), "the name of a GPU of 'microbench nominal'")
    return described(probe()) if name is None else named(name)


def doctor(device: str = "auto") -> Rows:
    """What could spoil a measurement or keep one from running, a finding each."""
    from microbench.runs.doctor import examine

    return Rows(examine(device))


def validate(
    device: str = "auto", calibration: Source | None = None, *, seed: int = 0, time_limit: float = 60.0
) -> Validation:
    """Measure fresh shapes and real models now, and hold predictions against them.

    Parameters
    ----------
    device
        ``auto``, ``cpu`` or ``cuda:N``.
    calibration
        What predicts; calibrated now by default.
    seed
        Of the fresh shapes.
    time_limit
        Seconds for measuring.

    Raises
    ------
    UsageError
        If a choice is impossible.
    CannotRun
        If the device or PyTorch is not here.
    """
    from microbench.hardware import probe
    from microbench.runs.validate import validate as grade

    expect("seed", seed, int, "a whole number, at least 0")
    expect("time_limit", time_limit, (int, float), "a positive number of seconds")
    if not 0 < time_limit <= units.LONGEST_S or seed < 0:
        raise UsageError(f"time_limit is {time_limit} and seed {seed}; give positive seconds, and a seed of at least 0")
    return grade(probe(device), None if calibration is None else _held(calibration), seed, time_limit)


def history(folder: str | Path) -> Rows:
    """Every ceiling and cost of every device below a folder over time, with the points at which its level changed."""
    from microbench.analysis.history import history as series

    return Rows(series(_read(folder)))


def population(folder: str | Path) -> Rows:
    """What is usual for each ceiling and cost among the devices below a folder, with every member's place."""
    from microbench.analysis.population import population as standings

    return Rows(standings(_read(folder)))
