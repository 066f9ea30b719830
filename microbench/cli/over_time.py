"""Commands over many stored results: baselines, histories, populations."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from microbench.analysis import compare_limits
from microbench.analysis.compare import compare
from microbench.analysis.history import Rule, Series, superfluous
from microbench.analysis.history import history as over_time
from microbench.analysis.population import LEAST_DEVICES, Standing, kind_of
from microbench.analysis.population import population as standings_of
from microbench.cli.compare import Runs, runs_of, show, sides, started
from microbench.cli.output import emit
from microbench.errors import CannotRun, UsageError
from microbench.records import Characterisation, Row, units
from microbench.records.dtypes import DTYPES
from microbench.report.sweeps import plural
from microbench.storage import store
from microbench.storage.files import write_new
from microbench.storage.folders import read_folder
from microbench.text import visible

# What a check is held to where the user names no limits.
_LIMITS = {"compute": 0.05, "memory": 0.1}
_RESULTS = Path("results")


def save_baseline(paths: Iterable[Path], folder: Path, *, add: bool) -> None:
    """Copy results below a baseline's folder, one folder a device; what is there is never replaced."""
    runs = [run for path in paths for run in runs_of(path)]
    devices = {run.device.id: run.device for run in runs}
    for device in devices.values():
        held = list((folder / _place(device.id)).glob("*.json"))
        if held and not add:
            raise UsageError(
                f"{folder} has a baseline of {device.name} ({device.id[:8]}) already, of {plural(len(held), 'run')}: "
                "--add pools these with it, --name keeps another beside it, or remove its folder"
            )
    for run in runs:
        target = folder / _place(run.device.id)
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotRun(f"{target} cannot be created: {error.strerror}; choose another --dir") from None
        name = store.stem(run.device, started(run) or None).rpartition("/")[2]
        sys.stdout.write(f"{visible(str(write_new(target / f'{name}.json', store.dumps(run))))}\n")


def _place(device: str) -> str:
    return "".join(letter for letter in device if letter.isalnum())[:16] or "device"


def check_baseline(options: Mapping[str, Any]) -> int:
    """Hold results against the baseline of their device; the exit code is that of compare with limits."""
    folder: Path = options["folder"] / options["name"]
    held = _baselines(folder)
    paths = options["files"] or (_newest(_RESULTS),)
    made = [compare(_baseline_of(side, held, folder), side) for side in sides(paths)]
    limits = compare_limits.parse_limits(options["fail_if"])
    if not limits:
        kinds = {change.group for each in made for change in each.changes}
        limits = {kind: limit for kind, limit in _LIMITS.items() if kind in kinds}
    return show(made, limits, options["form"])


def _baselines(folder: Path) -> dict[str, Runs]:
    if not folder.is_dir():
        raise UsageError(f"there is no baseline {folder}; 'microbench baseline save FILE' makes one")
    found: dict[str, list[Characterisation]] = {}
    for path in sorted(folder.glob("*/*.json")):
        run = store.load(path)
        found.setdefault(run.device.id, []).append(run)
    return {device: tuple(sorted(runs, key=started)) for device, runs in found.items()}


def _baseline_of(side: Runs, held: Mapping[str, Runs], folder: Path) -> Runs:
    """The runs kept of the very device; else of the only one of its model, which the comparison will say."""
    device = side[-1].device
    if device.id in held:
        return held[device.id]
    alike = [runs for runs in held.values() if kind_of(runs[-1]) == kind_of(side[-1])]
    if len(alike) == 1:
        return alike[0]
    raise UsageError(
        f"{folder} has {plural(len(alike), 'device')} like {device.name} ({device.id[:8]}) and not this one; "
        "'microbench baseline save FILE' keeps a run of it"
    )


def _newest(folder: Path) -> Path:
    found = [path for path in folder.glob("*/*.json") if path.is_file()]
    if not found:
        raise UsageError(f"there is no result below {folder} to check; 'microbench run' makes one, or name a file")
    return max(found, key=lambda path: path.stat().st_mtime)


def _read(folder: Path) -> list[tuple[str, Characterisation]]:
    found, refused = read_folder(folder)
    sys.stderr.writelines(f"warning: left out: {sentence}\n" for sentence in refused)
    return found


def history(folder: Path, options: Mapping[str, Any]) -> None:
    """Show series with their changes; with a rule, list or delete what it gives up."""
    runs = _read(folder)
    series = over_time(runs)
    chosen = [each for each in series if _chosen(each.row, options["only"], headline=each.headline)]
    names = {run.device.id: run.device.name for _, run in runs}
    points: list[Row] = [_point_row(each, number) for each in chosen for number in range(len(each.points))]
    title = f"{folder}: {plural(len(runs), 'run')} of {plural(len(names), 'device')}"
    shown = [_series_row(each, names) for each in chosen]
    emit(points, title, options["json_path"], options["csv_path"], shown=shown)
    if options["keep_last"] is None and options["keep_days"] is None:
        if options["delete"]:
            raise UsageError("--delete needs a rule of what to keep: --keep-last N or --keep-days D")
        return
    rule = Rule(last=options["keep_last"], days=options["keep_days"])
    _prune(superfluous(runs, series, rule, datetime.now(UTC)), delete=options["delete"])


def _chosen(row: str, globs: Sequence[str], *, headline: bool) -> bool:
    names = (row, row.partition(" ")[0])
    return any(fnmatchcase(name, glob) for name in names for glob in globs) if globs else headline


def _prune(names: Sequence[str], *, delete: bool) -> None:
    """Name the files that a rule gives up with what was drawn of them; remove them where asked."""
    for name in names:
        path = Path(name)
        for each in (path, path.with_suffix(".html"), path.with_suffix(".png")):
            if each.is_file():
                if delete:
                    each.unlink()
                sys.stderr.write(f"{'deleted' if delete else 'superfluous'}: {visible(str(each))}\n")
    if names and not delete:
        sys.stderr.write(f"{plural(len(names), 'run')} would go; --delete removes them\n")


def _point_row(series: Series, number: int) -> Row:
    point = series.points[number]
    return {
        "device": series.device,
        "row": series.row,
        "measures": series.group,
        "started": point.started,
        "label": point.label or None,
        "value": point.value,
        "low": point.low,
        "high": point.high,
        "converged": point.converged,
        "step": point.step if point.step != 1.0 else None,
        "file": point.name,
    }


def _series_row(series: Series, names: Mapping[str, str]) -> Row:
    first, last = series.points[0].value, series.points[-1].value
    changes = "; ".join(f"{point.started[:16]} {100 * (point.step - 1):+.1f} %" for point in series.changes)
    return {
        "device": f"{names[series.device][:28]} {series.device[:8]}",
        "row": series.row,
        "runs": len(series.points),
        "last": quantity(series.row, series.group, last),
        "since the first, %": f"{100 * (last / first - 1):+.1f}",
        "changes": changes or "none",
    }


def quantity(row: str, group: str, value: float) -> str:
    """A value of a row in its unit."""
    if group == "cost":
        return units.seconds(value)
    whole = any(word in DTYPES and DTYPES[word].kind == "int" for word in row.replace(" ", ".").split("."))
    return units.rate(value, "byte/s" if group != "compute" else "OP/s" if whole else "FLOP/s")


def population(path: Path, options: Mapping[str, Any]) -> None:
    """Show what is usual in a folder, or where the device of a file lies."""
    if path.is_dir():
        runs, mine = _read(path), None
        if options["among"] is not None:
            raise UsageError("--among goes with a FILE; a folder is a population already")
    else:
        mine = replace(store.load(path), samples=())
        if options["among"] is None:
            _among_published(mine, path, options)
            return
        runs = [(name, run) for name, run in _read(options["among"]) if kind_of(run) == kind_of(mine)]
        runs = [(name, run) for name, run in runs if run.device.id != mine.device.id] + [(str(path), mine)]
    chosen = [each for each in standings_of(runs) if _chosen(each.row, options["only"], headline=each.headline)]
    rows = [_standing_row(each, mine) for each in chosen]
    devices = {run.device.id for _, run in runs}
    title = f"{options['among'] or path}: {plural(len(runs), 'run')} of {plural(len(devices), 'device')}"
    emit(_member_rows(chosen), title, options["json_path"], options["csv_path"], shown=rows)
    if len(devices) < LEAST_DEVICES:
        sys.stderr.write(f"note: {plural(len(devices), 'device')}; what is usual is told from {LEAST_DEVICES} on\n")


def _standing_row(standing: Standing, mine: Characterisation | None) -> Row:
    def told(value: float) -> str:
        return quantity(standing.row, standing.group, value)

    row: dict[str, str | int | None] = {
        "kind": standing.kind[:24],
        "row": standing.row,
        "devices": len(standing.members),
        "median": told(standing.middle),
        "usual": f"{told(standing.low)} to {told(standing.high)}" if len(standing.members) >= LEAST_DEVICES else None,
    }
    if mine is None:
        outside = [f"{each.device[:8]} {100 * (each.ratio - 1):+.1f} % ({each.name})" for each in standing.outliers]
        return row | {"outliers": "; ".join(outside) or "none"}
    here = next((each for each in standing.members if each.device == mine.device.id), None)
    if here is None:
        return row | {"this one": None, "place": None, "verdict": "not measured"}
    return row | {"this one": told(here.value), "faster than, %": round(100 * here.place), "verdict": here.word}


def _member_rows(standings: Sequence[Standing]) -> list[Row]:
    return [
        {
            "kind": each.kind,
            "row": each.row,
            "measures": each.group,
            "median": each.middle,
            "low": each.low,
            "high": each.high,
            "device": member.device,
            "value": member.value,
            "ratio": member.ratio,
            "place": member.place,
            "verdict": member.word,
            "file": member.name,
        }
        for each in standings
        for member in each.members
    ]


def _among_published(mine: Characterisation, path: Path, options: Mapping[str, Any]) -> None:
    """Hold one file against the figures that others published of such a device."""
    from microbench.report.side import side_rows

    found = [row for row in side_rows(mine) if row.ratio]
    if not found:
        raise UsageError(
            f"nobody's published figures of {mine.device.name} are shipped; give a folder of results with --among"
        )
    names = ("title", "burst", "sustained", "library", "highest", "normal", "verdict", "sources")
    rows: list[Row] = [{name: getattr(row, name) for name in names} for row in found]
    emit(rows, f"{path.name}: {mine.device.name} beside published figures", options["json_path"], options["csv_path"])
