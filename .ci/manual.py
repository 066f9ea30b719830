"""Manual pages and completion scripts, made from the command line itself: share/, which an installation takes over.

    python .ci/manual.py

One page for `microbench` and one for each command, in the macros of man(7). `python .ci/golden.py manual` writes them
too, and a test holds the files to what this makes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import get_completion_class

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = "microbench"
SCRIPTS = {
    "bash": "bash-completion/completions/microbench",
    "zsh": "zsh/site-functions/_microbench",
    "fish": "fish/vendor_completions.d/microbench.fish",
}
EXITS = {
    "0": "fine",
    "1": "a check said no, a limit was exceeded or a row is missing",
    "2": "a wrong request",
    "3": "cannot run here; the sentence says why and what to do",
    "4": "a headline row that a limit is about is unresolved",
    "130": "interrupted; what was measured is kept",
}


def files() -> dict[str, str]:
    """Every file below share/ with its text."""
    from microbench.cli.main import cli

    made = {f"share/man/man1/{name.replace(' ', '-')}.1": text for name, text in pages(cli)}
    for shell, path in SCRIPTS.items():
        kind = get_completion_class(shell)
        assert kind is not None
        made[f"share/{path}"] = kind(cli, {}, PROGRAM, "_MICROBENCH_COMPLETE").source().strip() + "\n"
    return made


def pages(cli: click.Group) -> Iterator[tuple[str, str]]:
    """The page of the program and of each command, by the command's full name."""
    root = click.Context(cli, info_name=PROGRAM, help_option_names=["-h", "--help"])
    yield PROGRAM, page(cli, root)
    for name in cli.list_commands(root):
        command = cli.get_command(root, name)
        assert command is not None
        own = click.Context(command, info_name=name, parent=root)
        yield own.command_path, page(command, own)
        for word, each in command.commands.items() if isinstance(command, click.Group) else ():
            inner = click.Context(each, info_name=word, parent=own)
            yield inner.command_path, page(each, inner)


def page(command: click.Command, context: click.Context) -> str:
    """One page."""
    name = context.command_path.replace(" ", "-")
    says = " ".join((command.help or "").split())
    first = says.partition(". ")[0]
    lines = [f'.TH "{name.upper()}" "1" "" "{PROGRAM}" "User Commands"', ".SH NAME"]
    lines += [f"{escape(name)} \\- {escape(first.rstrip('.')[:1].lower() + first.rstrip('.')[1:])}", ".SH SYNOPSIS"]
    lines += [f".B {escape(context.command_path)}", escape(" ".join(command.collect_usage_pieces(context)))]
    lines += [".SH DESCRIPTION", escape(says)]
    options = [
        record for each in command.get_params(context) if (record := each.get_help_record(context)) and record[1]
    ]
    lines += [".SH OPTIONS"] if options else []
    for names, meaning in options:
        lines += [".TP", f".B {escape(names.strip())}", escape(" ".join(meaning.split()))]
    lines += [*_commands(command, context), *_examples(command)]
    lines += [".SH EXIT STATUS"]
    for code, meaning in EXITS.items():
        lines += [".TP", f".B {code}", escape(meaning)]
    return "\n".join(lines) + "\n"


def _commands(command: click.Command, context: click.Context) -> Iterator[str]:
    if isinstance(command, click.Group):
        yield ".SH COMMANDS"
        for name in sorted(command.commands):
            full = f"{context.command_path} {name}".replace(" ", "-")
            yield from (".TP", f".BR {escape(full)} (1)", escape(command.commands[name].get_short_help_str(200)))


def _examples(command: click.Command) -> Iterator[str]:
    examples = [line for line in (command.epilog or "").splitlines() if line.startswith(PROGRAM)]
    if examples:
        yield from (".SH EXAMPLES", ".nf", *(escape(line) for line in examples), ".fi")


def escape(text: str) -> str:
    """Keep what troff would take for its own: backslashes, hyphens, and control characters at the start of a line."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text)


def write() -> None:
    """Write every file, and remove those of commands that are gone."""
    made = files()
    for path in (ROOT / "share").rglob("*"):
        if path.is_file() and str(path.relative_to(ROOT)) not in made:
            path.unlink()
    for name, text in made.items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    write()
