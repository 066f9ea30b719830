"""Keep what a schema of result files is: the fields of its records, and one file. For tests/storage/test_schema.py.

Run as ``python tests/make_schema.py`` after raising ``SCHEMA``; ``--unreleased`` keeps the schema anew that no
release has written yet.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import types
import typing
from pathlib import Path

TESTS = Path(__file__).resolve().parent
FOLDER = TESTS / "data" / "schema"
FIELDS = FOLDER / "fields.json"


def fields_now() -> dict[str, list[str]]:
    """The fields of every record that a file holds, by the record's name."""
    from microbench.records import Characterisation

    found: dict[str, list[str]] = {}

    def walk(kind: object) -> None:
        for inner in typing.get_args(kind):
            walk(inner)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__name__ not in found:
            hints = typing.get_type_hints(kind, include_extras=False)
            found[kind.__name__] = sorted(field.name for field in dataclasses.fields(kind))
            for field in dataclasses.fields(kind):
                walk(hints[field.name])
        elif isinstance(kind, types.UnionType):
            for inner in kind.__args__:
                walk(inner)

    walk(Characterisation)
    return dict(sorted(found.items()))


def kept() -> dict[str, dict[str, list[str]]]:
    """The fields of every schema, by its number."""
    found: dict[str, dict[str, list[str]]] = json.loads(FIELDS.read_text(encoding="utf-8")) if FIELDS.exists() else {}
    return found


def main() -> int:
    sys.path.insert(0, str(TESTS / "fakes"))
    from fake_characterisation import characterisation

    from microbench.storage import store

    known = kept()
    if store.SCHEMA in known and "--unreleased" not in sys.argv:
        sys.stderr.write(f"schema {store.SCHEMA} is kept; raise SCHEMA in microbench/storage/encoding.py first\n")
        return 1
    FIELDS.write_text(json.dumps(known | {store.SCHEMA: fields_now()}, indent=1) + "\n", encoding="utf-8")
    (FOLDER / f"{store.SCHEMA}.json").write_bytes(store.dumps(characterisation()) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
