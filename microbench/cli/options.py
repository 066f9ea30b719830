"""Options and readers of their values that several commands share."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich_click as click

from microbench.errors import UsageError

Command = Callable[..., Any]
# click does not check that a file can be read: the reader does, with a sentence that names a remedy.
PATH = click.Path(path_type=Path, readable=False)
_LONGEST_LABEL = 80


def duration(_context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Read a time such as ``90s``, in seconds."""
    from microbench.records.units import parse_seconds

    if value is None:
        return None
    try:
        return parse_seconds(value)
    except ValueError as error:
        raise UsageError(f"--{str(parameter.name).replace('_', '-')}: {error}") from error


def command_line(_context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Split a command line as a shell does."""
    try:
        return tuple(shlex.split(value or ""))
    except ValueError as error:
        raise UsageError(f"--{parameter.name}: {error}") from error


def words(_context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Split values at commas."""
    return tuple(word for text in value for word in text.split(",") if word)


def label(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Check a label."""
    if len(value) > _LONGEST_LABEL or not value.isprintable():
        raise UsageError(f"--label has at most {_LONGEST_LABEL} characters, all of them printable; give a shorter word")
    return value


def device_option(default: str = "auto") -> Command:
    """The option --device, the same for every command."""
    return click.option(
        "--device", default=default, show_default=True, metavar="auto|cpu|cuda:N", help="What to look at."
    )


def data_options(command: Command) -> Command:
    """The options --json and --csv of every command that prints rows; ``-`` is stdout, in place of the table."""
    command = click.option("--csv", "csv_path", metavar="PATH|-", help="Write the rows as CSV.")(command)
    return click.option("--json", "json_path", metavar="PATH|-", help="Write the data as JSON.")(command)


def limit_options(command: Command) -> Command:
    """The options --fail-if and --format of every command that compares."""
    command = click.option(
        "--format",
        "form",
        type=click.Choice(["text", "json", "github"]),
        default="text",
        show_default=True,
        help="How to say it.",
    )(command)
    return click.option(
        "--fail-if",
        multiple=True,
        metavar="KIND:PERCENT",
        help="Exit 1 where compute, memory, link or cost surely lost more than so much, or a row is missing.",
    )(command)


def columns_option(command: Command) -> Command:
    """The option --columns of commands that read rows of operators."""
    says = "Which column is which key, in tables of other tools, such as m=M,n=N,k=K,seconds=time_ms:ms."
    return click.option("--columns", multiple=True, metavar="KEY=COLUMN[:UNIT],...", help=says)(command)
