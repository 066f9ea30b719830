"""Where results go: folders, names, files that are never overwritten; and a lock that keeps two runs off one device."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import stat
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from microbench.errors import CannotRun, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from microbench.records import Device

JOURNAL_SUFFIX = ".partial"
_SPACE_NEEDED_BYTES = 32_000_000  # the journal of a thorough run plus the pictures and the page


def slug(device: Device) -> str:
    """Name the folder of a device: its name in lower case, words joined by '-'.

    Examples
    --------
    >>> from microbench.records import Device
    >>> slug(Device(id="1", kind="cuda", name="NVIDIA H100 80GB HBM3", arch="sm_90a"))
    'nvidia-h100-80gb-hbm3'
    """
    words = re.findall(r"[a-z0-9]+", re.sub(r"\((?:r|tm|c)\)", " ", device.name.lower()))
    return "-".join(words)[:60].strip("-") or device.kind


def stem(device: Device, started: str | None = None) -> str:
    """Path and name of the files of one run without suffix: ``<device>/<UTC time>-<id>-<random>``.

    ``started`` is ISO 8601; the default is now. Two nodes that share a folder and start in one second differ in id, two
    runs of one node in the random part.
    """
    when = datetime.now(UTC)
    with contextlib.suppress(ValueError, TypeError):
        when = datetime.fromisoformat(started or "").astimezone(UTC)
    name = re.sub(r"[^a-z0-9]", "", device.id.lower())[:8] or device.kind
    return f"{slug(device)}/{when:%Y%m%dT%H%M%SZ}-{name}-{secrets.token_hex(2)}"


def check_writable(folder: str | Path) -> Path:
    """Make sure, before anything is measured, that results can be written to a folder; it is created where missing.

    Raises
    ------
    CannotRun
        If something is in the way, writing is not allowed, or the disk is full; the sentence says which.
    """
    folder = Path(folder)
    remedy = "choose another folder with --out"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            os.posix_fallocate(probe.fileno(), 0, _SPACE_NEEDED_BYTES)
    except (FileExistsError, NotADirectoryError):
        raise CannotRun(f"results cannot go to {folder}: a file is in the way; {remedy}") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CannotRun(f"results cannot go to {folder}: {why[:1].lower()}{why[1:]}; {remedy}") from None
    return folder


def write_new(path: str | Path, data: bytes) -> Path:
    """Write a file that did not exist, whole or not at all.

    Raises
    ------
    UsageError
        If the name is taken: nothing is ever overwritten.
    CannotRun
        If the folder cannot be written to.
    """
    path = Path(path)
    if not path.name:
        raise UsageError(f"{str(path)!r} names no file; give a path such as results.json")
    try:
        put_new(path, data)
    except FileExistsError:
        raise UsageError(
            f"{path} exists already, and nothing is overwritten: choose another name or remove it"
        ) from None
    except (OSError, ValueError) as error:
        raise CannotRun(
            f"{path} cannot be written: {getattr(error, 'strerror', None) or error}; choose another folder"
        ) from None
    return path


def put_new(path: Path, data: bytes) -> None:
    """Write a file that did not exist, whole or not at all; even a killed process leaves nothing else behind.

    Raises
    ------
    OSError
        `FileExistsError` if the name is taken; otherwise what the system says.
    """
    try:
        unnamed = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, 0o666)
    except OSError:  # a file system without unnamed files; any other reason comes again
        _put_named(path, data)
        return
    with os.fdopen(unnamed, "wb", buffering=0) as file:
        _fill(file.fileno(), data)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # Naming a folder by its descriptor makes this the call that follows the link to the unnamed file.
            os.link(f"/proc/self/fd/{file.fileno()}", path.name, dst_dir_fd=folder)
        except FileExistsError:
            raise
        except OSError:  # no hard links here, or no /proc
            _put_named(path, data)
        finally:
            os.close(folder)


def _put_named(path: Path, data: bytes) -> None:
    """Write by way of a hidden file, which stays behind only if the process is killed while it is written."""
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:
            _fill(file.fileno(), data)
        _rename_new(temporary, path)
    finally:
        with contextlib.suppress(OSError, ValueError):
            temporary.unlink()


def _fill(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fsync(descriptor)


def _rename_new(temporary: Path, path: Path) -> None:
    """Give a finished file its name in one step, unless the name is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links: reserve the name first, then move over our own empty file.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        temporary.replace(path)


# Where all users and processes of a machine can lock, whatever their TMPDIR is.
_LOCK_FOLDERS = ("/run/lock", "/tmp", "/var/tmp")  # noqa: S108 - shared on purpose


def lock_folder() -> Path | None:
    """The folder of lock files: MICROBENCH_LOCKS, else the first that everybody may write to; ``None`` without one."""
    named = os.environ.get("MICROBENCH_LOCKS")
    if named:
        return Path(named)
    for folder in map(Path, _LOCK_FOLDERS):
        with contextlib.suppress(OSError):
            mode = folder.stat().st_mode
            if stat.S_ISDIR(mode) and mode & stat.S_IWOTH:
                return folder
    return None


@contextlib.contextmanager
def only_run(device: Device) -> Iterator[None]:
    """Lock a device for this process: two runs at once would measure each other.

    The system releases the lock when the process ends, however it ends.

    Raises
    ------
    CannotRun
        If another process holds it, or something else than a file has its name.
    """
    name = "cpu" if device.kind == "cpu" else f"cuda-{_gpu(device)}"
    folder = lock_folder()
    descriptor = None if folder is None else _open_lock(folder / f"microbench-{name}.lock")
    try:
        if descriptor is not None:
            _lock(descriptor, "cpu" if device.kind == "cpu" else f"cuda:{device.index}")
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _gpu(device: Device) -> str:
    """A GPU by what all users call alike, which their own salts of its id are not, nor its number among those shown."""
    from microbench.hardware import cuda

    try:
        return hashlib.sha256(b"microbench lock " + cuda.raw(device.index)["uuid"]).hexdigest()[:16]
    except CannotRun:
        return re.sub(r"[^A-Za-z0-9]", "", device.id)[:16]


def _lock(descriptor: int, where: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        who = f" (process {holder})" if holder.isdigit() else ""
        why = "two at once would measure each other"
        raise CannotRun(f"another microbench run{who} is using {where}: wait for it to end, {why}") from None
    except OSError:  # a file system without locks
        return
    with contextlib.suppress(OSError):  # another user's lock file: readable, so lockable, but not ours to write
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _open_lock(path: Path) -> int | None:
    """Open the lock file, whoever made it; ``None`` where none can be made (then nothing is locked).

    Opening waits for nobody: a pipe, on which it would, is no lock file.
    """
    for flags in (os.O_RDWR, os.O_RDONLY, os.O_RDWR | os.O_CREAT):
        try:
            descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        except OSError:
            continue
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise CannotRun(f"{path} keeps two runs apart and is no file: remove it, or set MICROBENCH_LOCKS to a folder")
    return None
