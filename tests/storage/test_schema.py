"""The schema of result files: new fields make a new minor version, and files of every version are read."""

from __future__ import annotations

import io
import json

import make_schema
import pytest
from rich.console import Console

from microbench.analysis.compare import compare
from microbench.report import markdown, terminal
from microbench.storage import store

FILES = sorted(make_schema.FOLDER.glob("[0-9]*.json"))
VERSIONS = [path.stem for path in FILES]
MINOR = int(store.SCHEMA.partition(".")[2])


def test_a_file_of_every_version_is_kept() -> None:
    assert [f"1.{minor}" for minor in range(MINOR + 1)] == VERSIONS
    assert list(make_schema.kept()) == VERSIONS


def test_new_fields_make_a_new_minor_version() -> None:
    now, known = make_schema.fields_now(), make_schema.kept()[store.SCHEMA]
    changed = {name for name in now.keys() | known.keys() if now.get(name) != known.get(name)}
    assert not changed, (
        f"{', '.join(sorted(changed))} changed: raise SCHEMA in microbench/storage/encoding.py to 1.{MINOR + 1}, then "
        "python tests/make_schema.py (--unreleased where no release has written the schema yet)"
    )


# What no file had a value of, or what the reader renames.
GONE = {("Sheet", "companion"), ("Sheet", "licence"), ("Samples", "companion_iterations"), ("Samples", "companion_ns")}


def test_no_version_gives_a_field_up() -> None:
    versions = list(make_schema.kept().values())
    for old, new in zip(versions, versions[1:], strict=False):
        for name, fields in old.items():
            gone = {(name, field) for field in fields if field not in new.get(name, ())}
            assert gone <= GONE, gone


@pytest.mark.parametrize("path", FILES, ids=VERSIONS)
def test_a_file_of_every_version_is_read_shown_compared_and_written(path: object) -> None:
    raw = path.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    read = store.load(path)  # type: ignore[arg-type]
    assert json.loads(raw)["schema"] == read.schema
    file = io.StringIO()
    terminal.show(read, Console(file=file, width=120))
    assert read.device.name in " ".join(file.getvalue().split()) or read.device.name in file.getvalue()
    assert markdown.render(read)
    assert len(read.ceilings) == len(json.loads(raw)["ceilings"])
    assert all(change.verdict in ("same", "unresolved") for change in compare(read, read).changes)
    again = store.loads(store.dumps(read))
    assert again.schema == store.SCHEMA
    assert (again.device, again.ceilings, again.samples, again.fits) == (
        read.device,
        read.ceilings,
        read.samples,
        read.fits,
    )
