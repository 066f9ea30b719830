"""What the commands do, once their arguments are read."""

from __future__ import annotations

import math
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microbench.analysis.frames import ceiling_rows
from microbench.cli.output import as_csv, as_json, check_stdout, emit, finding_line
from microbench.errors import UsageError
from microbench.hardware import probe
from microbench.records import Characterisation, Row, units
from microbench.report import check as check_report
from microbench.report import markdown, terminal
from microbench.report import write as write_report
from microbench.report.progress import progress
from microbench.report.sweeps import plural
from microbench.runs.recorder import resume_hint
from microbench.runs.saving import Outcome, Request
from microbench.runs.session import carry_out, plan_for
from microbench.runs.signals import Interrupted
from microbench.storage import store
from microbench.storage.files import write_new
from microbench.text import one_line, visible

if TYPE_CHECKING:
    from microbench.hardware.nominal_rates import NominalDevice
    from microbench.interop.audit import Checked

# Rows of a table, and findings, that anybody reads.
_LISTED = 500
# `doctor` prints "fine" where a run would print "info".
_SEVERITY = {"info": "fine", "warning": "warning", "error": "error"}


def dry_run(request: Request, json_path: str | None, csv_path: str | None) -> None:
    """Print the plan and measure nothing."""
    device, kernels, plan, no_time = plan_for(request)
    rows: list[Row] = [
        {
            "case": case.key,
            "measures": kernels[case.kernel].sheet.measures,
            "licence": kernels[case.kernel].sheet.frequency_license,
        }
        for case in plan.cases
    ]
    limit, rounds = units.seconds(plan.budget.time_limit_s), plan.budget.min_rounds
    left = f" ({len(no_time)} more do not fit)" if no_time else ""
    title = f"{device.name}: {len(plan.cases)} cases{left}, the whole run at most {limit}, {rounds} rounds planned"
    emit(rows, title, json_path, csv_path)


def run_once(request: Request, json_path: str | None, csv_path: str | None) -> bool:
    """Measure, show, leave JSON, PNG and HTML; tell whether the run was interrupted."""
    check_outputs(json_path, csv_path)
    try:
        outcome = carry_out(request, progress())
    except KeyboardInterrupt as stop:
        raise Interrupted(str(stop) or "interrupted before anything was measured") from None
    try:
        try:
            _show(outcome.characterisation, json_path, csv_path)
        finally:  # a closed pipe or a full disk behind stdout costs no file
            _write_reports(outcome)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; the result is in {outcome.path}, and 'microbench report' shows it") from None
    if outcome.journal is not None:
        sys.stderr.write(f"microbench: interrupted; {resume_hint(outcome.journal)}\n")
    return outcome.interrupted


def check_outputs(json_path: str | None, csv_path: str | None, *others: Path | None) -> None:
    """Make sure that data can be written where the user wants it: before measuring, not after.

    Raises
    ------
    UsageError
        If a place cannot be used, or two outputs claim the same.
    """
    check_stdout(json_path, csv_path)
    check_report(*(path for path in (json_path, csv_path) if path != "-"), *others)


def repeat(times: int) -> int:
    """Run the same command line several times, each in a fresh process: runs differ more than rounds within one.

    The files have a word in common, by which `compare` pools them.
    """
    together = ("--repeat-of", secrets.token_hex(4))
    arguments = [sys.executable, "-P", "-m", "microbench", *without_repeat(sys.argv[1:]), *together]
    for _ in range(times):
        code = _run_child(arguments)
        if code:
            return code
    return 0


def _run_child(arguments: Sequence[str]) -> int:
    """Run a command to its end, and pass on to it each signal that should end this process.

    It has a process group of its own, so that a Ctrl-C from the terminal reaches it once, through us, and not twice.
    """
    with subprocess.Popen(arguments, process_group=0) as child:  # noqa: S603 - our own command line again
        while True:
            try:
                code = child.wait()
            except KeyboardInterrupt:
                child.send_signal(signal.SIGINT)
            else:
                return code if code >= 0 else 128 - code


def without_repeat(arguments: Sequence[str]) -> list[str]:
    """Leave --repeat out of a command line."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == "--repeat":
            skip = True
        elif not argument.startswith("--repeat="):
            kept.append(argument)
    return kept


def _show(characterisation: Characterisation, json_path: str | None, csv_path: str | None) -> None:
    if json_path == "-":
        sys.stdout.write(store.dumps(characterisation).decode() + "\n")
    elif json_path is not None:
        write_new(Path(json_path), store.dumps(characterisation))
    if csv_path == "-":
        sys.stdout.write(as_csv(list(ceiling_rows(characterisation.ceilings))))
    elif csv_path is not None:
        write_new(Path(csv_path), as_csv(list(ceiling_rows(characterisation.ceilings))).encode())
    if "-" not in (json_path, csv_path):
        terminal.show(characterisation)


def _write_reports(outcome: Outcome) -> None:
    """Write the picture and the page beside the JSON, and name all files on stderr."""
    if outcome.path is None:
        return
    if not outcome.page:
        sys.stderr.write(f"{visible(str(outcome.path))}\n")
        return
    written = [outcome.path]
    try:
        if outcome.characterisation.ceilings:
            page, picture = outcome.path.with_suffix(".html"), outcome.path.with_suffix(".png")
            written += write_report(outcome.characterisation, html=page, png=picture)
    finally:
        sys.stderr.writelines(f"{visible(str(path))}\n" for path in written)


def export(file: Path, to: str, output: str) -> None:
    """Write a characterisation in another tool's format, and on stderr what the writer had to assume."""
    from microbench.interop import render

    exported = render(store.load(file), to)
    if output == "-":
        sys.stdout.write(exported.text)
    else:
        write_new(Path(output), exported.text.encode())
    for finding in exported.findings:
        sys.stderr.write(finding_line(finding))


def audit(file: Path, against: str | None, json_path: str | None, csv_path: str | None) -> int:
    """List every number of a file: checked, not checked and why, or wrong and how; 1 where one is a fault."""
    from microbench.interop.audit import audit as examine

    reference = store.load(Path(against)) if against and Path(against).is_file() else against
    checked = examine(file, reference)
    rows: list[Row] = [_audited(each) for each in checked if each.count]
    findings = [each.finding for each in checked if each.finding]
    faults = sum(finding.severity == "error" for finding in findings)
    counts = Counter[str]()
    for each in checked:
        counts[each.status] += each.count
    compared = counts["checked"] + counts["doubtful"] + counts["fault"]
    left = counts["not checked"]
    title = f"{file.name}: {plural(compared, 'number')} checked, {plural(faults, 'fault')}, {left} not checked"
    shown = [{name: cell for name, cell in row.items() if name not in ("declared", "severity")} for row in rows]
    emit(rows, title, json_path, csv_path, shown=shown[:_LISTED])
    if len(shown) > _LISTED and "-" not in (json_path, csv_path):
        sys.stderr.write(f"{len(shown) - _LISTED} more numbers; --csv PATH has all\n")
    for finding in findings[:_LISTED]:
        sys.stderr.write(finding_line(finding))
    if len(findings) > _LISTED:
        sys.stderr.write(f"{len(findings) - _LISTED} more findings; --csv PATH has all\n")
    return 1 if faults else 0


def _audited(each: Checked) -> Row:
    """One number of an audited file as a row."""
    known, finding, value = each.reference, each.finding, each.declared.value
    return {
        "device": each.declared.device or None,
        "where": each.declared.where,
        "stated": each.declared.stated,
        "declared": value if math.isfinite(value) else None,
        "known": known.value if known else None,
        "source": known.source if known else each.why or None,
        "status": each.status,
        "finding": finding.code if finding else None,
        "severity": finding.severity if finding else None,
    }


def doctor(device: str, json_path: str | None, csv_path: str | None) -> int:
    """List what is fine and what is not; 1 where something is wrong."""
    from microbench.runs.doctor import examine

    findings = examine(device)
    rows: list[Row] = [
        {"check": each.code, "severity": _SEVERITY[each.severity], "says": each.says, "remedy": each.remedy or None}
        for each in findings
    ]
    faults = sum(finding.severity == "error" for finding in findings)
    warnings = sum(finding.severity == "warning" for finding in findings)
    emit(rows, f"{device}: {plural(faults, 'fault')}, {plural(warnings, 'warning')}", json_path, csv_path)
    return 1 if faults else 0


def nominal(name: str | None, json_path: str | None, csv_path: str | None) -> None:
    """Print computed rates with the terms of each, and the facts behind them on stderr."""
    from microbench.hardware.nominal import described, named
    from microbench.hardware.tables import gpus

    matches = () if name is None or gpus.find(name) else gpus.matching(name)
    if len(matches) > 1:
        title = f"{len(matches)} cards match {name!r}; one name alone shows its terms"
        emit([_card(named(gpu.name)) for gpu in matches], title, json_path, csv_path)
        return
    found = described(probe()) if name is None else named(matches[0].name if matches else name)
    rows: list[Row] = [
        {
            "what": row.name,
            "rate": units.rate(row.rate, row.unit) if row.rate is not None else None,
            "value": row.rate,
            "unit": row.unit,
            "per_cycle": row.per_cycle,
            "formula": row.formula,
            "source": row.source,
        }
        for row in found.rows
    ]
    facts = ", ".join(f"{key} {value}" for key, value in found.facts.items())
    shown = [{name: cell for name, cell in row.items() if name not in ("value", "unit")} for row in rows]
    emit(rows, f"{found.name}: {facts}", json_path, csv_path, shown=shown)
    for note in found.notes:
        sys.stderr.write(f"note: {one_line(note)}\n")


def _card(card: NominalDevice) -> Row:
    """One card among several that a part of a name stands for."""
    facts = ("SMs", "boost clock", "memory", "memory bandwidth", "power limit", "compute target", "launched")
    rates = {row.name: units.rate(row.rate, row.unit) for row in card.rows if row.rate is not None}
    wanted = {"f32": "vector f32", "f16 matrix": "matrix f16 (f32 accumulator)"}
    return {
        "name": card.name,
        **{short: rates.get(long) for short, long in wanted.items()},
        **{fact: card.facts[fact] for fact in facts},
    }


def report(file: Path, targets: dict[str, Any]) -> None:
    """Show a stored characterisation, or write it in the forms asked for; ``-`` is stdout."""
    characterisation = store.load(file)
    if all(path is None for path in targets.values()):
        terminal.show(characterisation)
        return
    piped = [name for name in ("md", "json_path", "csv_path") if targets[name] == "-"]
    if len(piped) > 1:
        names = " and ".join(f"--{name.removesuffix('_path')} -" for name in piped)
        raise UsageError(f"{names} both claim stdout; write one of them to a file")
    paths = {name: path for name, path in targets.items() if path is not None and path != "-"}
    check_report(*paths.values())
    rows = list(ceiling_rows(characterisation.ceilings))
    for name, text in (("json_path", as_json), ("csv_path", as_csv)):
        if name in piped:
            sys.stdout.write(text(rows))
        elif name in paths:
            write_new(Path(paths.pop(name)), text(rows).encode())
    if "md" in piped:
        sys.stdout.write(markdown.render(characterisation))
    if paths:
        write_report(characterisation, **paths)


def validate(options: dict[str, Any]) -> None:
    """Measure fresh shapes and real models, grade the predictions, show and write what came out."""
    from microbench.cli.predict import print_findings
    from microbench.hardware.torch_import import import_torch
    from microbench.report.progress import shown_progress
    from microbench.runs import validate as runs

    import_torch()
    calibration = store.load(options["calibration"]) if options["calibration"] else None
    started = time.monotonic()
    limit_s = options["time_limit"] or 60.0
    with shown_progress(progress(), limit_s) as on_progress:
        found = runs.validate(probe(options["device"]), calibration, options["seed"], limit_s, on_progress)
    if options["png"] is not None:
        from microbench.report.calibration import draw_calibration

        kinds = [runs.kind_of(op) for op in found.rows.operators]
        draw_calibration(found.rows.measured, found.rows.predicted, kinds, options["png"])
    title = f"eager, {found.rounds} rounds, {time.monotonic() - started:.0f} s"
    emit(runs.error_rows(found), f"predicted against measured: {title}", options["json_path"], options["csv_path"])
    if "-" not in (options["json_path"], options["csv_path"]):
        emit(runs.model_rows(found.models), "whole models")
        emit(runs.worst_rows(found), "largest errors")
    print_findings(found.findings)
