"""What the parts of the kit share: rows of JSON lines, the output of a command."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def say(path: str | Path | None, row: Row) -> None:
    """Append one row; to stdout where there is no file."""
    text = json.dumps(row, default=str)
    if path is None:
        print(text, flush=True)
        return
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def rows(path: str | Path) -> list[Row]:
    """Rows of a file of JSON lines; a last line that was cut off is left out."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            found.append(row)
    return found


def command_output(*command: str, limit: float = 20) -> str:
    """What a program prints; why it could not be asked, in brackets."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"({command[0]}: {error})"
    return done.stdout + done.stderr


def failure(error: BaseException, most: int = 200) -> str:
    """Kind and first line of an error."""
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:most]}"
