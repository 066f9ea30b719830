"""What a cubin says about its kernels besides their code: names, parameters, registers, stack, from the ELF notes.

The attribute numbers and the packing of a parameter record are those of the CUDA toolkit's own note format; the driver
checks nothing of this at launch, so the proof does.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from microbench.errors import UsageError

_CODE = ".text."  # begins the name of a kernel's section
_VALUE_FOLLOWS = 4
_PARAMETER, _REGISTERS, _FRAME = 0x17, 0x2F, 0x11


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """One kernel: (offset, size) of each parameter in order, registers a thread, stack bytes, static shared bytes."""

    parameters: tuple[tuple[int, int], ...]
    registers: int
    stack_bytes: int
    shared_bytes: int


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    kind: int
    link: int
    data: bytes
    size: int


def symbols(cubin: bytes) -> tuple[str, ...]:
    """Names of the kernels in a cubin.

    Raises
    ------
    UsageError
        If the bytes are no 64-bit little-endian ELF file.
    """
    try:
        names = [section.name for section in _sections(cubin)]
    except (struct.error, ValueError, IndexError) as error:
        raise UsageError(f"this cubin is cut off ({error})") from error
    return tuple(name.removeprefix(_CODE) for name in names if name.startswith(_CODE))


def code(cubin: bytes) -> dict[str, bytes]:
    """Machine code of every kernel in a cubin, by symbol.

    Raises
    ------
    UsageError
        If the bytes are no 64-bit little-endian ELF file.
    """
    return {
        section.name.removeprefix(_CODE): section.data for section in _sections(cubin) if section.name.startswith(_CODE)
    }


def resources(cubin: bytes) -> dict[str, Resources]:
    """Parameters, registers, stack and shared memory of every kernel in a cubin, by symbol.

    Raises
    ------
    UsageError
        If the bytes are no 64-bit little-endian ELF file.
    """
    sections = _sections(cubin)
    by_name = {section.name: section for section in sections}
    symbols = _symbols(sections)
    registers: dict[str, int] = {}
    stack: dict[str, int] = {}
    for number, value in _attributes(by_name[".nv.info"].data if ".nv.info" in by_name else b""):
        if number in (_REGISTERS, _FRAME):
            index, count = struct.unpack_from("<II", value)
            (registers if number == _REGISTERS else stack)[symbols[index]] = count
    found = {}
    for name in (section.name.removeprefix(_CODE) for section in sections if section.name.startswith(_CODE)):
        parameters = []
        for number, value in _attributes(by_name[f".nv.info.{name}"].data if f".nv.info.{name}" in by_name else b""):
            if number == _PARAMETER:
                _, ordinal, offset, packed = struct.unpack_from("<IHHI", value)
                parameters.append((ordinal, offset, packed >> 18))
        shared = by_name.get(f".nv.shared.{name}")
        found[name] = Resources(
            parameters=tuple((offset, size) for _, offset, size in sorted(parameters)),
            registers=registers.get(name, 0),
            stack_bytes=stack.get(name, 0),
            shared_bytes=shared.size if shared else 0,
        )
    return found


def _sections(cubin: bytes) -> list[_Section]:
    if cubin[:6] != b"\x7fELF\x02\x01":
        raise UsageError(
            "these bytes are no cubin (no 64-bit little-endian ELF header); pass a file made by nvcc -cubin or NVRTC"
        )
    offset = struct.unpack_from("<Q", cubin, 0x28)[0]
    entry, count, names = struct.unpack_from("<HHH", cubin, 0x3A)
    raw = [struct.unpack_from("<IIQQQQIIQQ", cubin, offset + index * entry) for index in range(count)]
    table = cubin[raw[names][4] : raw[names][4] + raw[names][5]]
    return [
        _Section(
            name=_text(table, header[0]),
            kind=header[1],
            link=header[6],
            data=b"" if header[1] == 8 else cubin[header[4] : header[4] + header[5]],
            size=header[5],
        )
        for header in raw
    ]


def _text(table: bytes, at: int) -> str:
    return table[at : table.index(b"\0", at)].decode()


def _symbols(sections: list[_Section]) -> list[str]:
    table = next(section for section in sections if section.kind == 2)
    strings = sections[table.link].data
    return [_text(strings, struct.unpack_from("<I", table.data, at)[0]) for at in range(0, len(table.data), 24)]


def _attributes(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    at = 0
    while at + 4 <= len(data):
        form, number, size = struct.unpack_from("<BBH", data, at)
        length = size if form == _VALUE_FOLLOWS else 0
        found.append((number, data[at + 4 : at + 4 + length]))
        at += 4 + length
    return found
