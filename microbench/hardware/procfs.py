"""The pseudo files in which a Linux system describes itself (/proc, /sys), read without trust.

`Machine` takes the root of the file system, so that recorded machines can be examined like the one at hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    """The pseudo files of a running system, or of a recorded one."""

    root: Path = field(default_factory=lambda: Path("/"))

    def text(self, path: str) -> str | None:
        """Read a small file without its line end; ``None`` where it is missing, unreadable or empty."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip() or None
        except OSError:
            return None

    def number(self, path: str) -> int | None:
        """Read a file that holds one integer; ``None`` otherwise."""
        text = self.text(path)
        return int(text) if text is not None and re.fullmatch(r"-?\d{1,18}", text) else None

    def texts(self, pattern: str) -> list[str]:
        """Read all files of a pattern, in order of their names."""
        try:
            paths = sorted(self.root.glob(pattern))
        except OSError:
            return []
        return [text for path in paths if (text := self.text(str(path.relative_to(self.root)))) is not None]

    def entry(self, path: str, key: str) -> str | None:
        """Read the value of the first line ``key: value`` of a file."""
        for line in (self.text(path) or "").splitlines():
            name, colon, value = line.partition(":")
            if colon and name.strip() == key:
                return value.strip() or None
        return None

    def kibibytes(self, key: str) -> int | None:
        """Read an entry of /proc/meminfo, in bytes."""
        match = re.fullmatch(r"(\d{1,15}) kB", self.entry("proc/meminfo", key) or "")
        return int(match[1]) * 1024 if match else None


def cpu_list(text: str) -> list[int]:
    """Expand the kernel's list of CPUs.

    Examples
    --------
    >>> cpu_list("0-2,7")
    [0, 1, 2, 7]
    """
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:-(\d{1,6}))?\s*", part)
        if match:
            found.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    return found


def cpu_text(numbers: Iterable[int]) -> str:
    """Spell CPUs as the kernel does.

    Examples
    --------
    >>> cpu_text([7, 0, 1, 2])
    '0-2,7'
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def cpu_groups(machine: Machine) -> list[str]:
    """Folders of the control groups that may bound this process's time on CPUs, below the root of the file system."""
    found: list[str] = []
    for line in (machine.text("proc/self/cgroup") or "").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        base, group = ("sys/fs/cgroup/cpu" if controllers else "sys/fs/cgroup"), path.strip("/")
        # Inside a container the path is the host's: the mount shows the group itself as its root.
        parents = [str(parent) for parent in Path(group).parents] if group else []
        found += [f"{base}/{folder}".removesuffix("/.").rstrip("/") for folder in (group, *parents, "")]
    return list(dict.fromkeys(found))


def allowed(machine: Machine) -> list[int]:
    """CPUs that this process may run on."""
    return cpu_list(machine.entry("proc/self/status", "Cpus_allowed_list") or "")
