"""Many results at once: those below a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from microbench.errors import MicrobenchError, UsageError
from microbench.records import Characterisation
from microbench.storage.store import load


def read_folder(folder: Path) -> tuple[list[tuple[str, Characterisation]], list[str]]:
    """Every result below a folder by its path, without samples; and a sentence on each file that cannot be read.

    Raises
    ------
    UsageError
        If there is no folder or no result in it.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give one that holds results")
    found: list[tuple[str, Characterisation]] = []
    refused: list[str] = []
    for path in sorted(folder.rglob("*.json")):
        try:
            found.append((str(path), replace(load(path), samples=())))
        except MicrobenchError as error:
            refused.append(str(error))
    if not found:
        raise UsageError(f"there is no result below {folder}; 'microbench run --out {folder}' makes one")
    return found, refused
