"""Which machine this is, without saying which: a hash that tells nodes apart and that nobody can look up.

Three parts: the identity of the model (`sku`, the same for all nodes that have it), what is unique to the machine
(systemd's machine id, a GPU's UUID), and a salt. The salt is the user's own: of the variable MICROBENCH_SALT where it
is set, which people who pool results of many nodes agree on; else random, made once and kept in the user's state
folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from microbench.hardware.procfs import Machine

SALT = "MICROBENCH_SALT"
_SKU_SALT = b"microbench device 1"
_MACHINE_IDS = ("etc/machine-id", "var/lib/dbus/machine-id")
# What distributions leave in images that have not been started yet.
_NO_ID = ("uninitialized", "")
_BOOT_ID = "proc/sys/kernel/random/boot_id"
_LONGEST = 64  # of a blake2b key


def sku_id(facts: object) -> str:
    """Hash what makes a model: the same on every node that has it, and under any affinity."""
    return hashlib.blake2b(repr(facts).encode(), key=_SKU_SALT, digest_size=8).hexdigest()


def node_id(sku: str, unique: bytes | None = None, machine: Machine | None = None) -> str:
    """Hash one device of one machine.

    Parameters
    ----------
    sku
        The model's identity.
    unique
        What is unique to the device (a GPU's UUID); without it the machine's own id.
    machine
        The system's pseudo files; tests pass a recorded tree.
    """
    own = unique if unique is not None else machine_id(machine or Machine()).encode()
    return hashlib.blake2b(sku.encode() + b"\0" + own, key=salt(), digest_size=8).hexdigest()


def machine_id(machine: Machine) -> str:
    """Machine id of systemd; without one a random id kept in the user's state folder, or else that of this boot."""
    for path in _MACHINE_IDS:
        text = machine.text(path)
        if text and text not in _NO_ID:
            return text
    return _kept("machine") or machine.text(_BOOT_ID) or "unknown"


def salt() -> bytes:
    """The user's salt; constant where none is set and none can be kept."""
    text = os.environ.get(SALT) or _kept("salt") or ""
    if len(text.encode()) > _LONGEST:
        return hashlib.sha256(text.encode()).digest()
    return text.encode()


def state_folder() -> Path:
    """Where the user's own state is kept (XDG_STATE_HOME, else ~/.local/state)."""
    home = os.environ.get("XDG_STATE_HOME")
    with contextlib.suppress(RuntimeError):  # no home folder is known
        return (Path(home) if home and Path(home).is_absolute() else Path.home() / ".local" / "state") / "microbench"
    return Path("/nonexistent/microbench")


def _kept(name: str) -> str | None:
    """A random word of the user's state folder, made at the first call; ``None`` where none can be kept."""
    path = state_folder() / name
    for _ in range(2):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = path.read_text(encoding="ascii").strip()
            if text:
                return text
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(16) + "\n")
    return None
