"""Commands about stored results: options and arguments; what the commands do is elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from microbench.cli.examples import EXAMPLES
from microbench.cli.options import PATH, Command, data_options, limit_options, words
from microbench.errors import UsageError


@click.command(epilog=EXAMPLES["report"])
@click.argument("file", type=PATH)
@click.option("--html", type=PATH, help="Write a page that works offline.")
@click.option("--png", type=PATH, help="Write the roofline picture.")
@click.option("--svg", type=PATH, help="Write the roofline as SVG.")
@click.option("--md", metavar="PATH|-", help="Write Markdown.")
@data_options
def report(file: Path, **targets: Any) -> None:
    """Show a stored characterisation, or write it as a page, picture, Markdown or rows."""
    from microbench.cli.commands import report as write

    write(file, targets)


@click.command(epilog=EXAMPLES["compare"])
@click.argument("files", type=PATH, nargs=-1, required=True, metavar="OLD NEW...")
@limit_options
@click.pass_context
def compare(context: click.Context, files: tuple[Path, ...], fail_if: tuple[str, ...], form: str) -> None:
    """Say whether characterisations are slower than an older one, beyond the noise between runs, or nobody knows.

    A folder is pooled, and so are runs of one --repeat. Exit: 1 a limit is exceeded or a row missing, 4 unresolved.
    """
    from microbench.cli.compare import compare as against

    context.exit(against(files, fail_if, form))


@click.group(epilog=EXAMPLES["baseline"])
def baseline() -> None:
    """Keep runs to hold later ones against: save, then check."""


def _baseline_options(command: Command) -> Command:
    command = click.option(
        "--dir", "folder", type=PATH, default=Path("baselines"), show_default=True, help="Folder of baselines."
    )(command)
    return click.option("--name", default="default", show_default=True, help="Which baseline.")(command)


@baseline.command("save", epilog=EXAMPLES["baseline"])
@click.argument("files", type=PATH, nargs=-1, required=True)
@_baseline_options
@click.option("--add", is_flag=True, help="Pool them with what the baseline has of this device.")
def baseline_save(files: tuple[Path, ...], name: str, folder: Path, add: bool) -> None:
    """Keep files, or folders of runs, as the baseline of their device."""
    from microbench.cli.over_time import save_baseline

    save_baseline(files, folder / name, add=add)


@baseline.command("check", epilog=EXAMPLES["baseline"])
@click.argument("files", type=PATH, nargs=-1)
@_baseline_options
@limit_options
@click.pass_context
def baseline_check(context: click.Context, /, **options: Any) -> None:
    """Hold files (the newest result by default) against the baseline of their device; exits as compare --fail-if does.

    Without --fail-if the limits are compute:5% and memory:10%, of what the baseline has.
    """
    from microbench.cli.over_time import check_baseline

    context.exit(check_baseline(options))


@click.command(epilog=EXAMPLES["history"])
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("--only", multiple=True, metavar="GLOB", callback=words, help="Rows of such names, not the headline.")
@click.option("--keep-last", type=click.IntRange(1), metavar="N", help="A rule: keep the last N files of a device.")
@click.option("--keep-days", type=click.FloatRange(0), metavar="D", help="A rule: keep the files of the last D days.")
@click.option("--delete", is_flag=True, help="Delete what the rules give up; without it they are listed.")
@data_options
def history(folder: Path, **options: Any) -> None:
    """Show each ceiling over time, with the moments at which its level changed.

    The first file of a device and those at which a headline row changed are kept under any rule.
    """
    from microbench.cli.over_time import history as show

    show(folder, options)


@click.command(epilog=EXAMPLES["population"])
@click.argument("path", type=PATH, metavar="DIR|FILE")
@click.option("--among", type=PATH, metavar="DIR", help="The population that FILE is held against.")
@click.option("--only", multiple=True, metavar="GLOB", callback=words, help="Rows of such names, not the headline.")
@data_options
def population(path: Path, **options: Any) -> None:
    """Show what is usual among devices, and which lie outside.

    DIR: all devices in it. FILE: where this one lies, among those of --among, or after published figures that are
    shipped.
    """
    from microbench.cli.over_time import population as show

    show(path, options)


@click.command(epilog=EXAMPLES["audit"])
@click.argument("file", type=PATH)
@click.option(
    "--against",
    metavar="FILE|NAME",
    help="A characterisation or a GPU of the nominal table, for files that name no device.",
)
@data_options
@click.pass_context
def audit(context: click.Context, file: Path, against: str | None, json_path: str | None, csv_path: str | None) -> None:
    """Check declared hardware numbers for wrong units, sparse figures and other products."""
    from microbench.cli.commands import audit as examine

    context.exit(examine(file, against, json_path, csv_path))


@click.command(epilog=EXAMPLES["completion"])
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands and options in a shell."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise UsageError(f"completion for {shell} is unknown to the installed click; choose bash, zsh or fish")
    click.echo(found(context.find_root().command, {}, "microbench", "_MICROBENCH_COMPLETE").source())


@click.command(epilog=EXAMPLES["export"])
@click.argument("file", type=PATH)
@click.option(
    "--to",
    required=True,
    metavar="FORMAT[:DTYPE]",
    help="pytorch, aiconfigurator, calculon, ...; an unknown one lists all.",
)
@click.option(
    "-o", "--output", metavar="PATH|-", default="-", show_default=True, help="Where to write; nothing is overwritten."
)
def export(file: Path, to: str, output: str) -> None:
    """Write a characterisation in the format of another tool."""
    from microbench.cli.commands import export as write

    write(file, to, output)


COMMANDS = (report, compare, baseline, history, population, completion, audit, export)
