"""What a characterisation looks like: terminal, page, pictures, Markdown. Reads files, measures nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from microbench.errors import CannotRun, UsageError
from microbench.storage.files import put_new

if TYPE_CHECKING:
    from microbench.records import Characterisation


def check(*paths: Path | str | None) -> None:
    """Make sure that every path can be written and nothing is there yet: before measuring, not after.

    Raises
    ------
    UsageError
        If a folder is missing or may not be written, or if something exists under that name.
    """
    named = [Path(path) for path in paths if path is not None]
    for path in named:
        _check_one(path)
    twice = next((path for path in named if named.count(path) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is named for two outputs; give each its own path")


def _check_one(path: Path) -> None:
    folder = path.parent
    if not path.name:
        raise UsageError(f"cannot write {str(path)!r}: it names no file; give a path such as report.html")
    if not folder.is_dir():
        raise UsageError(f"cannot write {path}: there is no folder {folder}; create it with 'mkdir -p {folder}'")
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder; name a file in it")
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} exists and is not overwritten; choose another name or remove it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write {path}: no permission to write in {folder}; choose another folder")


def write(
    characterisation: Characterisation,
    *,
    html: Path | str | None = None,
    png: Path | str | None = None,
    svg: Path | str | None = None,
    md: Path | str | None = None,
) -> tuple[Path, ...]:
    """Write the page, the roofline as PNG or SVG, and the Markdown, each where a path is given.

    Nothing is overwritten, and all paths are checked before the first is written. A file that could not be written
    whole is removed.

    Parameters
    ----------
    characterisation
        What was measured.
    html, png, svg, md
        Where to write; ``None`` leaves that output out.

    Returns
    -------
    tuple of Path
        What was written.

    Raises
    ------
    UsageError
        If a path cannot be used.
    CannotRun
        If the disk is full or the folder vanished meanwhile.
    """
    check(html, png, svg, md)
    written = []
    for path, make in ((html, _html), (png, _png), (svg, _svg), (md, _md)):
        if path is not None:
            _save(Path(path), make(characterisation))
            written.append(Path(path))
    return tuple(written)


def _html(characterisation: Characterisation) -> bytes:
    from microbench.report import html

    return html.render(characterisation).encode()


def _md(characterisation: Characterisation) -> bytes:
    from microbench.report import markdown

    return markdown.render(characterisation).encode()


def _png(characterisation: Characterisation) -> bytes:
    from microbench.report import plots

    return plots.png("roofline", characterisation) or b""


def _svg(characterisation: Characterisation) -> bytes:
    from microbench.report import plots

    return (plots.svg("roofline", characterisation) or "").encode()


def _save(path: Path, content: bytes) -> None:
    try:
        put_new(path, content)
    except FileExistsError:
        raise UsageError(f"{path} exists and is not overwritten; choose another name or remove it") from None
    except OSError as error:
        raise CannotRun(
            f"cannot write {path}: {(error.strerror or str(error)).lower()}; free some space or choose another folder"
        ) from None
