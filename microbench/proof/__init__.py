"""Whether the loop that runs is the loop that the sheet describes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from microbench.errors import CannotRun
from microbench.hardware import extensions
from microbench.records import Device, Proof, Sheet


def prove(sheets: Sequence[Sheet], device: Device | None = None) -> dict[str, Proof]:
    """Proof by kernel name; a loop that cannot be examined here is ``unproven`` with the reason.

    Parameters
    ----------
    sheets
        Native sheets are proven in the built extension, CUDA sheets in the very code that the device loads.
    device
        Where they ran; needed for CUDA sheets.
    """
    found = {sheet.name: Proof(status="unproven", source=sheet.source, reason="not examined") for sheet in sheets}
    native = [sheet for sheet in sheets if sheet.backend == "native"]
    cuda = [sheet for sheet in sheets if sheet.backend == "cuda"]
    if native:
        found |= _native(native)
    if cuda and device is not None and device.kind == "cuda":
        found |= _cuda(cuda, device)
    return found


def _native(sheets: Sequence[Sheet]) -> dict[str, Proof]:
    from microbench.proof import objdump

    try:
        from microbench import _cpu
    except ImportError:
        return {}
    return objdump.prove_binary(sheets, Path(str(_cpu.__file__)))


def _cuda(sheets: Sequence[Sheet], device: Device) -> dict[str, Proof]:
    """Prove each kernel in the code of its family, shipped or compiled here; a family is read once."""
    from microbench.kernels.cuda.code import Code, Library, rows_and_reasons
    from microbench.proof import golden

    library = Library(device, extensions.cuda().driver_version())
    rows = {row.symbol: row for row, reason in rows_and_reasons(library) if reason is None}
    codes: dict[str, Code | str] = {}
    found = {}
    for sheet in sheets:
        row = rows.get(sheet.symbol or "")
        if row is None:
            continue
        if row.family not in codes:
            try:
                codes[row.family] = library.code(row.family)
            except CannotRun as error:
                codes[row.family] = str(error)
        code = codes[row.family]
        if isinstance(code, str):
            found[sheet.name] = Proof(status="unproven", source=sheet.source, reason=code)
        else:
            found[sheet.name] = golden.proof(row, code.target, code.image, code.source)
    return found
