"""Compiling on the user's machine: which NVRTC is taken, what is kept, and that its code passes the same proof."""

from __future__ import annotations

from pathlib import Path

import pytest
from places import SOURCES

from microbench.errors import CannotRun
from microbench.kernels.cuda import nvrtc
from microbench.kernels.cuda.rows import FAMILIES, TARGETS, rows_for
from microbench.proof import cuda

KERNELS = SOURCES / "cuda" / "kernels"
NEWEST = nvrtc.usable(99_000)
needs_nvrtc = pytest.mark.skipif(NEWEST is None, reason="no NVRTC here: pip install 'microbench-roofline[nvrtc]'")


class Invented:
    """A compiler that counts what it is asked for."""

    version = "13.0"

    def __init__(self) -> None:
        self.asked = 0

    def image(self, source: str, name: str, target: str) -> bytes:
        del source, name
        self.asked += 1
        return b"code for " + target.encode()


def library_at(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()


def test_the_newest_nvrtc_whose_major_the_driver_supports_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library_at(tmp_path / "new", "libnvrtc.so.13")
    library_at(tmp_path / "old", "libnvrtc.so.12")
    monkeypatch.setattr(nvrtc, "_folders", lambda: iter([tmp_path / "old", tmp_path / "none", tmp_path / "new"]))
    chosen = [nvrtc.usable(version) for version in (11080, 12020, 12080, 13000)]
    assert [library.major if library else None for library in chosen] == [None, 12, 12, 13]


def test_code_is_compiled_once_and_kept_by_text_target_and_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "plain.cu"
    source.write_text("one")
    compiler = Invented()
    asked = [nvrtc.compiled(compiler, source, target) for target in ("sm_90a", "sm_90a", "sm_80")]  # type: ignore[arg-type]
    assert asked == [b"code for sm_90a", b"code for sm_90a", b"code for sm_80"]
    assert compiler.asked == 2
    source.write_text("two")
    nvrtc.compiled(compiler, source, "sm_90a")  # type: ignore[arg-type]
    assert compiler.asked == 3
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".cubin"]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    source = tmp_path / "plain.cu"
    source.write_text("one")
    assert nvrtc.compiled(Invented(), source, "sm_90a") == b"code for sm_90a"  # type: ignore[arg-type]


@needs_nvrtc
def test_a_source_that_does_not_compile_gives_the_first_error_in_one_sentence() -> None:
    assert NEWEST is not None
    with pytest.raises(CannotRun, match=r"cannot compile wrong\.cu for sm_90a: .*nonsense") as caught:
        nvrtc.Compiler(NEWEST).image("__global__ void k() { nonsense; }", "wrong.cu", "sm_90a")
    assert "\n" not in str(caught.value)


@needs_nvrtc
@pytest.mark.parametrize("target", TARGETS)
def test_every_source_compiles_with_an_empty_include_path_and_passes_the_same_proof(
    tmp_path: Path, target: str
) -> None:
    assert NEWEST is not None
    compiler = nvrtc.Compiler(NEWEST)
    for family, targets in FAMILIES.items():
        if target not in targets:
            continue
        path = tmp_path / f"{family}.{target}.cubin"
        path.write_bytes(compiler.image(nvrtc.whole_text(KERNELS / f"{family}.cu"), f"{family}.cu", target))
        rows = tuple(row for row in rows_for(target) if row.family == family and row.limiter != "none")
        if not rows:
            continue
        try:
            found = cuda.examine_all(path, target, rows)
        except CannotRun as error:
            pytest.skip(str(error))
        assert [says for row in rows for says in cuda.complaints(row, found[row.symbol])] == []
