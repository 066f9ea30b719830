"""What the documentation site takes from the code: the result file's fields, the command line, formats, project files.

A page says where: ``<!-- made: schema -->``. mkdocs calls the ``on_`` functions, because mkdocs.yml names this file as
a hook.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from inspect import cleandoc
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
MARK = re.compile(r"^<!-- made: ([\w.]+) -->$", re.MULTILINE)
UNITS = {"_s": "s", "_ns": "ns", "_hz": "Hz", "_bytes": "byte", "_w": "W", "_j": "J", "_us": "µs"}
# Fields whose unit their name does not end with.
UNIT_OF = {
    "Samples.ns": "ns",
    "Cost.seconds": "s",
    "OperatorTiming.seconds": "s",
    "Environment.seconds": "s",
    "Ceiling.rate": "FLOP/s, OP/s or byte/s",
    "Ceiling.typical": "FLOP/s, OP/s or byte/s",
    "Ceiling.nominal": "FLOP/s, OP/s or byte/s",
    "Ceiling.advertised": "FLOP/s, OP/s or byte/s",
    "Ceiling.per_clock": "FLOP, OP or byte a cycle",
    "RooflineFit.peak": "FLOP/s",
    "RooflineFit.bandwidth": "byte/s",
    "RooflineFit.ridge": "FLOP/byte",
    "RoofPoint.intensity": "FLOP/byte",
    "RoofPoint.rate": "FLOP/s",
    "RoofPoint.fitted": "FLOP/s",
    "LevelSeen.value": "byte/s or s",
    "MemoryLevel.bus_rate": "byte/s",
    "Sheet.cycles": "cycles",
    "Work.flop": "FLOP",
    "Work.bytes_read": "byte",
    "Work.bytes_written": "byte",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the picture of a stored result."""
    picture = min((ROOT / "results").glob("*/*.png"))
    files.append(File.generated(config, "assets/roofline.png", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put what is made in the place of its mark."""
    del page, config, files
    return MARK.sub(lambda match: MADE[match[1]](), markdown)


def schema() -> str:
    """Every record of a characterisation, from the outermost in: one section each, one row a field."""
    from microbench.records import Characterisation

    return "\n\n".join(_section(record) for record in _reachable(Characterisation))


def _reachable(first: type[Any]) -> list[type[Any]]:
    """The records that a record holds, directly or not, in the order of their fields."""
    found: list[type[Any]] = []
    waiting = [first]
    while waiting:
        record = waiting.pop(0)
        if record not in found:
            found.append(record)
            waiting += [inner for hint in _hints(record).values() for inner in _records_in(hint)]
    return found


def _hints(record: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(record)
    return {field.name: hints[field.name] for field in fields(record)}


def _records_in(hint: Any) -> Iterator[type[Any]]:
    if is_dataclass(hint) and isinstance(hint, type):
        yield hint
    for inner in typing.get_args(hint):
        yield from _records_in(inner)


def _section(record: type[Any]) -> str:
    stored = _stored_names(record)
    intro, said = _told(record)
    rows = ["| key | type | default | |", "| --- | --- | --- | --- |"]
    for field, hint in zip(fields(record), _hints(record).values(), strict=True):
        key = stored.get(field.name, field.name)
        means = said.get(field.name, "")
        if key != field.name:
            means = f"`{field.name}` in Python. {means}"
        unit = _unit(record, field.name)
        cells = (f"`{key}`", f"{_type(hint)}, in {unit}" if unit else _type(hint), _default(field), means)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return f"## {record.__name__}\n\n{intro}\n\n" + "\n".join(rows)


def _stored_names(record: type[Any]) -> Mapping[str, str]:
    """The keys that differ from the record's names: those that files of schema 1 have always had."""
    from microbench.records import Samples, Sheet
    from microbench.storage import encoding

    renamed = {Sheet: "_STORED_SHEET", Samples: "_STORED_SAMPLES"}.get(record)
    names: dict[str, str] = getattr(encoding, renamed) if renamed else {}
    return names


def _told(record: type[Any]) -> tuple[str, dict[str, str]]:
    """The docstring in two parts: what it says of the record, and of each field that it names."""
    names = {field.name for field in fields(record)}
    intro: list[str] = []
    said: dict[str, list[str]] = {}
    for sentence in re.split(r"(?<=[.)])\s+(?=[A-Z`])", " ".join(cleandoc(record.__doc__ or "").split())):
        for clause in _clauses(sentence):
            named = [name.replace(" ", "_") for name in re.findall(r"``([\w ]+)``", clause)]
            about = [name for name in dict.fromkeys(named) if name in names]
            for name in about:
                said.setdefault(name, []).append(clause.strip(" ,;"))
            if not about:
                intro.append(clause)
    texts = {
        name: _literal("; ".join(clause.rstrip(".") for clause in clauses) + ".") for name, clauses in said.items()
    }
    return _literal(" ".join(intro)), texts


def _clauses(sentence: str) -> Iterator[str]:
    """Cut an enumeration of fields into one clause a field, where each has words of its own."""
    held = ""
    for part in re.split(r"(?<=[,;]) (?=(?:and )?``\w+``)", sentence):
        held = f"{held} {part}" if held else part
        if re.sub(r"``.*?``|\W|\band\b", "", held):
            yield held
            held = ""
    if held:
        yield held


def _literal(text: str) -> str:
    return text.replace("``", "`")


def _type(hint: Any) -> str:
    """A Python type as what JSON holds."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " ".join(f"`{word}`" for word in inside)
    if origin in (typing.Union, types.UnionType):
        known = [_type(each) for each in inside if each is not type(None)]
        return " or ".join(dict.fromkeys([*known, *(["null"] if type(None) in inside else [])]))
    if origin is tuple:
        return f"list of {_type(inside[0])}"
    if origin is dict:
        return f"object of {_type(inside[1])}"
    if is_dataclass(hint) and isinstance(hint, type):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    return {str: "string", int: "integer", float: "number", bool: "boolean"}[hint]


def _unit(record: type[Any], name: str) -> str:
    given = UNIT_OF.get(f"{record.__name__}.{name}")
    return given or next((unit for suffix, unit in UNITS.items() if name.endswith(suffix)), "")


def _default(field: Field[Any]) -> str:
    if field.default is not MISSING:
        return f"`{json.dumps(field.default, default=list)}`"
    if field.default_factory is MISSING:
        return "required"
    made = field.default_factory()
    return "`{}`" if made == {} else "its defaults"


def commands() -> str:
    """Every command: usage, what it does, its options, examples."""
    from microbench.cli.main import cli

    root = click.Context(cli, info_name="microbench")
    parts = [_command(cli, root)]
    for name in cli.list_commands(root):
        command = cli.get_command(root, name)
        if command is not None:
            own = click.Context(command, info_name=name, parent=root)
            parts.append(_command(command, own))
            within = command.commands.items() if isinstance(command, click.Group) else ()
            parts += [_command(each, click.Context(each, info_name=word, parent=own)) for word, each in within]
    return "\n\n".join(parts)


def _command(command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    text = [f"## {context.command_path}", command.help or "", f"```text\n{usage}\n```"]
    options = [record for each in command.get_params(context) if (record := each.get_help_record(context))]
    if options:
        rows = [f"| `{names.strip()}` | {' '.join(says.split())} |" for names, says in options]
        text.append(
            "\n".join(
                [
                    "| option | |",
                    "| --- | --- |",
                    *(row.replace("auto|cpu", "auto\\|cpu").replace("PATH|-", "PATH\\|-") for row in rows),
                ]
            )
        )
    examples = [line for line in (command.epilog or "").splitlines() if line.startswith("microbench")]
    if examples:
        text.append("```sh\n" + "\n".join(examples) + "\n```")
    return "\n\n".join(text)


def formats() -> str:
    """Every export format, who reads it, and whether it can be read back."""
    from microbench import interop

    rows = ["| `--to` | for | file | checked against | read by `audit` |", "| --- | --- | --- | --- | --- |"]
    for name, form in sorted(interop.formats().items()):
        back = "yes" if name in interop.readers() else "no"
        rows.append(f"| `{name}` | {form.says} | `{form.suffix}` | {form.checked} | {back} |")
    return "\n".join(rows)


def operators() -> str:
    """Every operator with its keys."""
    from microbench.cli.listing import operators as listed

    rows = ["| operator | family | keys | |", "| --- | --- | --- | --- |"]
    rows += [f"| `{row['operator']}` | {row['family']} | `{row['params']}` | {row['says']} |" for row in listed()]
    return "\n".join(rows)


def example() -> str:
    """One ceiling of a stored result, as the file has it."""
    stored = json.loads(min((ROOT / "results").glob("*/*.json")).read_text(encoding="utf-8"))
    one = next(each for each in stored["ceilings"] if each["measures"] == "compute" and each["converged"])
    return "```json\n" + json.dumps(one, indent=2) + "\n```"


def project_file(name: str) -> Callable[[], str]:
    """A file of the repository's root as a page: its links into docs/ become the site's own."""

    def text() -> str:
        return (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")

    return text


MADE: dict[str, Callable[[], str]] = {
    "schema": schema,
    "commands": commands,
    "formats": formats,
    "operators": operators,
    "example": example,
    "CONTRIBUTING.md": project_file("CONTRIBUTING.md"),
    "CHANGELOG.md": project_file("CHANGELOG.md"),
}
