"""Defaults of options from a file: microbench.toml, or the table [tool.microbench] of pyproject.toml.

One table a command, keys spelled as the options are; the command line wins. The nearest file counts, from the working
folder upwards; MICROBENCH_CONFIG names another, or none where it is empty.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rich_click as click

from microbench.errors import UsageError

VARIABLE = "MICROBENCH_CONFIG"
NAME = "microbench.toml"


def find() -> tuple[Path, Mapping[str, Any]] | None:
    """The file that counts and its tables; ``None`` where there is none.

    Raises
    ------
    UsageError
        If a file that is named is not there, or one is no TOML.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        return (Path(named), _tables(Path(named))) if named else None
    try:
        here = Path.cwd()
    except OSError:  # the working folder was removed
        return None
    for folder in (here, *here.parents):
        for name in (NAME, "pyproject.toml"):
            if (folder / name).is_file() and (tables := _tables(folder / name)) is not None:
                return folder / name, tables
    return None


def _tables(path: Path) -> Any:
    """The tables of a file: of a pyproject.toml ours, ``None`` where it has none."""
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the configuration {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        if path.name == "pyproject.toml":
            return None  # another tool's business
        raise UsageError(f"the configuration {path} is no TOML: {error}") from None
    return read.get("tool", {}).get("microbench") if path.name == "pyproject.toml" else read


def defaults(command: click.Command, tables: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Tables as click's map of defaults: options by the names of their parameters, commands by theirs.

    Raises
    ------
    UsageError
        If a command or an option is unknown; the sentence names those that there are.
    """
    known = {
        spelling.removeprefix("--"): each
        for each in command.params
        if isinstance(each, click.Option) and not each.hidden
        for spelling in each.opts
        if spelling.startswith("--")
    }
    inner: Mapping[str, click.Command] = command.commands if isinstance(command, click.Group) else {}
    found: dict[str, Any] = {}
    for key, value in tables.items():
        if key in inner and isinstance(value, dict):
            found[key] = defaults(inner[key], value, f"{where} [{key}]")
        elif key in known:
            found[str(known[key].name)] = [value] if known[key].multiple and not isinstance(value, list) else value
        else:
            there = ", ".join(sorted({*known, *inner} - {"help", "version"}))
            raise UsageError(f"{where} has {key!r}, which is no option or command there; it may have {there}")
    return found


def apply(context: click.Context) -> Path | None:
    """Put the defaults of the file that counts into a context; return the file."""
    found = find()
    if found is None:
        return None
    path, tables = found
    context.default_map = defaults(context.command, tables, str(path))
    return path
