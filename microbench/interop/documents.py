"""Files of hardware numbers parsed into plain values: JSON, YAML, TOML and Python, in bounded work; no code is run.

A table of hardware numbers is small and flat. What is larger, or would become so when its aliases are written out, is
refused before it is built: the bytes of a file bound neither its size in memory nor the time that it takes.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from microbench.errors import UsageError
from microbench.interop import _literals

# The tables of tools have a few ten kilobytes.
MAX_BYTES = 500_000
# Values in a document, with those that it names by aliases counted as often as they are named; levels of nesting; parts
# of a key of TOML.
_MOST_NODES, _DEEPEST, _MOST_PARTS = 100_000, 100, 32
# What PyYAML's own parser, written in Python, reads in a second or two.
_SLOW_BYTES = 100_000
_KINDS = "give a JSON, YAML, TOML or Python file of hardware numbers"


def read_document(path: str | Path) -> Any:
    """Parse a JSON, YAML, TOML or Python file into plain values; Python is read as literals and never run.

    Raises
    ------
    UsageError
        If the file cannot be read or parsed.
    """
    path = Path(path)
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # it might never end, or never begin
            raise UsageError(f"{path} is not a regular file; {_KINDS}")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(f"{path} is not a regular file; {_KINDS}")
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UsageError(f"{path} has {size} bytes; a file of hardware numbers has at most {MAX_BYTES}")
        content = data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}; give the file of declared numbers") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"{path} is not UTF-8 text: {error}; {_KINDS}") from None
    return parse(content, path.suffix.lower(), str(path))


def parse(content: str, suffix: str, name: str) -> Any:
    """Parse text by its suffix; without a known suffix each format is tried in turn.

    Raises
    ------
    UsageError
        If no parser takes it.
    """
    known = {".json": (_json,), ".yaml": (_yaml,), ".yml": (_yaml,), ".toml": (_toml,), ".py": (_literals.read,)}
    parsers: tuple[Callable[[str], Any], ...] = known.get(suffix, (_json, _toml, _literals.read, _yaml))
    reason = "it is empty"
    for parser in parsers if content.strip() else ():
        try:
            return parser(content)
        except RecursionError:
            reason = "it is nested too deeply"
        except (ValueError, SyntaxError, MemoryError, OverflowError) as error:
            reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
    raise UsageError(f"{name} cannot be read: {reason}; {_KINDS}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:60]!r} stands twice in one table")
        found[key] = value
    return found


def _json(content: str) -> Any:
    return json.loads(content, object_pairs_hook=_unique)


def _toml(content: str) -> Any:
    # Every part of a key is looked up from the root again: the work grows with the square of their number.
    dots = (line.count(".") for line in content.splitlines() if not line.lstrip().startswith("#"))
    if max(dots, default=0) > _MOST_PARTS:
        raise ValueError(f"a line of it has more than {_MOST_PARTS} dots, as no key or number of such a table has")
    return tomllib.loads(content)


def _yaml(content: str) -> Any:
    import yaml

    if not yaml.__with_libyaml__ and len(content) > _SLOW_BYTES:
        raise ValueError(f"it has more than {_SLOW_BYTES} characters, and PyYAML is here without its quick parser")
    loader = _yaml_loader()
    try:
        _flat(loader, content)
        made = loader(content)
        try:
            node = made.get_single_node()
            if node is None:
                return None
            _bounded(node, {}, set())
            return made.construct_document(node)
        finally:
            made.dispose()
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except (AttributeError, TypeError, KeyError, IndexError) as error:  # constructors that trip over odd tags
        raise ValueError(f"the YAML has a value that cannot be built: {error}") from None


@lru_cache(maxsize=1)
def _yaml_loader() -> Any:
    """PyYAML's safe loader as the tools use it, without numbers to base 60 and without dates."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader: Any = type("Loader", (base,), {})
    without = (":[0-5]?[0-9]", "timestamp")
    loader.yaml_implicit_resolvers = {
        first: [(tag, _without_sixties(pattern)) for tag, pattern in rows if not tag.endswith(without[1])]
        for first, rows in base.yaml_implicit_resolvers.items()
    }

    def plain(kind: str) -> Callable[[Any, Any], Any]:
        built = base.yaml_constructors[f"tag:yaml.org,2002:{kind}"]

        def construct(self: Any, node: Any) -> Any:
            if ":" in str(node.value):
                raise ValueError(f"{str(node.value)[:40]!r} is no number")
            return built(self, node)

        return construct

    for kind in ("int", "float"):
        loader.add_constructor(f"tag:yaml.org,2002:{kind}", plain(kind))
    return loader


def _without_sixties(pattern: re.Pattern[str]) -> re.Pattern[str]:
    """The pattern of a number without its alternative to base 60: ``1:30`` is text, as in YAML 1.2."""
    if ":[0-5]?[0-9]" not in pattern.pattern:
        return pattern
    kept = [part for part in pattern.pattern.split("|") if ":[0-5]?[0-9]" not in part]
    joined = "|".join(kept)
    return re.compile(joined if joined.endswith("$") else f"{joined})$", pattern.flags)


def _flat(loader: Any, content: str) -> None:
    """Refuse nesting that the composer, which calls itself, would not survive, and more values than a table has."""
    import yaml

    depth = 0
    for count, event in enumerate(yaml.parse(content, Loader=loader)):
        if count > 2 * _MOST_NODES:  # a collection begins and ends
            raise ValueError(f"it has more than {_MOST_NODES} values")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                raise ValueError("it is nested too deeply")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _bounded(node: Any, counted: dict[int, int], open_: set[int]) -> int:
    """Count the values of a document with its aliases written out, and refuse too many, circles and repeated keys."""
    if id(node) in counted:
        return counted[id(node)]
    if id(node) in open_:
        raise ValueError("a value of it contains itself")
    open_.add(id(node))
    total = 1
    if isinstance(node.value, list):
        pairs = [part for part in node.value if isinstance(part, tuple)]
        _distinct([key for key, _ in pairs])
        for part in node.value:
            for inner in part if isinstance(part, tuple) else (part,):
                total += _bounded(inner, counted, open_)
                if total > _MOST_NODES:
                    raise ValueError(f"with its aliases written out it has more than {_MOST_NODES} values")
    open_.discard(id(node))
    counted[id(node)] = total
    return total


def _distinct(keys: list[Any]) -> None:
    seen: set[tuple[str, str]] = set()
    for key in keys:
        if isinstance(key.value, str):
            if (key.tag, key.value) in seen:
                raise ValueError(f"the key {key.value[:60]!r} stands twice in one table")
            seen.add((key.tag, key.value))
