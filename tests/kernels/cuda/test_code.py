"""Which machine code a device gets: a cubin without a kernel's symbol is told before anything is measured."""

from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from microbench.cli import listing
from microbench.errors import UsageError
from microbench.hardware.cuda import imagined
from microbench.kernels.cuda import code, cubin
from microbench.kernels.cuda.registry import sheets_for
from microbench.kernels.cuda.rows import rows_for

PLAIN = tuple(row.symbol for row in rows_for("sm_90a") if row.family == "plain")


def elf(*symbols: str) -> bytes:
    """A 64-bit ELF file with one section of code for each symbol, and nothing in them."""
    names = b"\0.shstrtab\0" + b"".join(f".text.{symbol}\0".encode() for symbol in symbols)
    sections = [(0, 0, 0, 0), (1, 3, 64, len(names))]
    sections += [(names.index(f".text.{symbol}\0".encode()), 1, 64, 0) for symbol in symbols]
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", at, kind, 0, 0, start, size, 0, 0, 1, 0) for at, kind, start, size in sections
    )
    header = struct.pack("<HHIQQQIHHHHHH", 2, 190, 1, 0, 0, 64 + len(names), 0, 64, 0, 0, 64, len(sections), 1)
    return b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + header + names + table


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose cubins this test writes, under a driver that takes them and no NVRTC."""
    monkeypatch.setattr(code, "installed", lambda: tmp_path)
    monkeypatch.setattr(code.Library, "cubins_loadable", True)
    monkeypatch.setattr(code.nvrtc, "libraries", list)
    # Whatever the package at hand was built with.
    built = {"why_no_cubins": "", "nvcc": "13.0"}
    monkeypatch.setattr(code.extensions, "cuda", lambda: SimpleNamespace(build_info=lambda: built))
    (tmp_path / "plain.sm_90a.cubin").write_bytes(elf(*PLAIN))
    return tmp_path


def unavailable(name: str) -> str | None:
    return next(sheet.unavailable for sheet in sheets_for("sm_90a") if sheet.name == name)


def test_a_cubin_names_its_kernels() -> None:
    assert cubin.symbols(elf("fma_f32", "mad_i32")) == ("fma_f32", "mad_i32")


@pytest.mark.parametrize("image", [b"", b"no machine code", elf("fma_f32")[:100], elf("fma_f32")[:-40]])
def test_half_a_cubin_is_refused(image: bytes) -> None:
    with pytest.raises(UsageError):
        cubin.symbols(image)


def test_a_kernel_that_the_installed_cubin_holds_is_available(installed: Path) -> None:
    assert {unavailable(row.name) for row in rows_for("sm_90a") if row.family == "plain"} == {None}


def test_a_kernel_that_the_installed_cubin_lacks_is_not_available_and_the_remedy_is_told(installed: Path) -> None:
    (installed / "plain.sm_90a.cubin").write_bytes(elf(*(symbol for symbol in PLAIN if symbol != "fma_f32")))
    assert unavailable("fma.f32") == (
        "the installed plain.sm_90a.cubin has no fma_f32, it was built from older sources; pip install . again"
    )
    assert unavailable("fma.f64") is None
    told = {str(row["kernel"]): str(row["available"]) for row in listing.kernels("cuda:0", "sm_90a")}
    assert told["fma.f32"].startswith("no: the installed plain.sm_90a.cubin has no fma_f32")
    assert told["fma.f64"].startswith("yes")


def test_a_cubin_that_cannot_be_read_makes_its_kernels_unavailable_and_nothing_fails(installed: Path) -> None:
    (installed / "plain.sm_90a.cubin").write_bytes(b"\x7fELF\x02\x01 and then the disk was full")
    said = str(unavailable("fma.f32"))
    assert "plain.sm_90a.cubin cannot be read" in said
    assert "pip install . again" in said


def test_a_family_without_machine_code_says_what_to_install(installed: Path) -> None:
    assert "no NVRTC that this driver supports was found" in str(unavailable("read.i32.u4"))


def test_one_of_several_targets_in_the_package_says_which_it_has(installed: Path) -> None:
    (installed / "plain.sm_80.cubin").write_bytes(elf(*PLAIN))
    (installed / "plain.sm_90a.cubin").unlink()
    assert "no machine code of plain for sm_90a (it has that for sm_80)" in str(unavailable("fma.f32"))


@pytest.mark.usefixtures("installed")
def test_machine_code_can_be_forced_to_come_from_nvrtc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    library = code.Library(imagined("sm_90a"), 13000)
    monkeypatch.setenv(code.FORCE, "nvrtc")
    assert not library.cubins_loadable
    monkeypatch.setattr(code.nvrtc, "libraries", lambda: [code.nvrtc.Library(major=13, path=Path("libnvrtc.so.13"))])
    assert library.origin("plain") == "NVRTC 13 at run time"
    monkeypatch.setattr(code.nvrtc, "libraries", list)
    library.__dict__.pop("cubins_loadable", None)
    if library.shipped("plain"):
        said = str(library.reason(next(row for row in rows_for("sm_90a") if row.name == "fma.f32")))
        assert said.startswith("MICROBENCH_CUDA_CODE=nvrtc leaves the package's machine code out, and no NVRTC")


def test_machine_code_can_be_forced_to_come_from_cubins(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(code.FORCE, "cubin")
    monkeypatch.setattr(code.nvrtc, "libraries", lambda: [code.nvrtc.Library(major=13, path=Path("libnvrtc.so.13"))])
    assert unavailable("fma.f32") is None
    assert str(unavailable("read.i32.u4")).endswith("and MICROBENCH_CUDA_CODE=cubin leaves NVRTC out; unset it")
    (installed / "plain.sm_90a.cubin").unlink()
    assert "MICROBENCH_CUDA_CODE=cubin leaves NVRTC out" in str(unavailable("fma.f32"))


def test_a_wrong_word_for_the_origin_of_code_is_refused(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(code.FORCE, "ptx")
    with pytest.raises(UsageError, match="MICROBENCH_CUDA_CODE is 'ptx'; it can be cubin or nvrtc"):
        sheets_for("sm_90a")
