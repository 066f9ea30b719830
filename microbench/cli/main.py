"""The command line: options and arguments of every command; what the commands do is elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import rich_click as click
from click.core import ParameterSource

from microbench import __version__
from microbench.cli import config, exits, stored, streams
from microbench.cli.examples import EXAMPLES
from microbench.cli.options import (
    PATH,
    columns_option,
    command_line,
    data_options,
    device_option,
    duration,
    label,
    words,
)
from microbench.errors import UsageError
from microbench.runs import signals

if TYPE_CHECKING:
    from microbench.runs.saving import Request


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="microbench")
@click.option("-v", "--verbose", is_flag=True, help="Say more on stderr.")
@click.pass_context
def cli(context: click.Context, verbose: bool) -> None:
    """Measure what a CPU or GPU really sustains, fit an empirical roofline, predict operator time from it."""
    if not verbose:
        logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it complains of caches that nobody asked for
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s", stream=sys.stderr)
    path = config.apply(context)
    if path is not None:
        logging.getLogger(__name__).info("defaults of options are those of %s", path)


for _each in stored.COMMANDS:
    cli.add_command(_each)


@cli.command(epilog=EXAMPLES["run"])
@device_option()
@click.option("--quick", is_flag=True, help="A first look, within 30 s; without it within 150 s (GPU: 240 s).")
@click.option("--thorough", is_flag=True, help="Within 15 minutes: more rounds, every variant.")
@click.option(
    "--only",
    multiple=True,
    metavar="GLOB",
    callback=words,
    help="Kernels or cases whose name matches, such as 'fma.f32.*'.",
)
@click.option("--dtype", multiple=True, metavar="D,...", callback=words, help="These dtypes only, such as f32,bf16.")
@click.option(
    "--level", multiple=True, metavar="L,...", callback=words, help="These memory levels only, such as L1,DRAM."
)
@click.option("--time-limit", callback=duration, metavar="90s", help="End the whole run within so long.")
@click.option(
    "--repeat",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="So many runs, each in a fresh process.",
)
@click.option("--repeat-of", default="", hidden=True)
@click.option("--label", default="", callback=label, metavar="TEXT", help="Your own word for the run, kept with it.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the order inside a round.")
@click.option("--resume", type=PATH, help="Go on with the journal (.partial) of an interrupted run.")
@click.option("--dry-run", is_flag=True, help="Print the plan and measure nothing.")
@click.option("--out", type=PATH, default=Path("results"), show_default=True, help="Folder for results.")
@data_options
@click.pass_context
def run(context: click.Context, /, **options: Any) -> None:
    """Measure this machine: ceilings, costs, memory levels, roofline."""
    from microbench.cli.commands import dry_run, repeat, run_once

    _check_exclusive(context)
    _command_line_wins(context, options)
    request = _request(options, context.obj)
    if options["dry_run"]:
        dry_run(request, options["json_path"], options["csv_path"])
        return
    if options["repeat"] > 1 and not options["repeat_of"]:
        context.exit(repeat(options["repeat"]))
    context.exit(exits.INTERRUPTED if run_once(request, options["json_path"], options["csv_path"]) else 0)


# For an option: what it does, and the options that would have no effect beside it.
_EXCLUDES = {
    "resume": (
        "goes on with the plan of the interrupted run",
        ("device", "quick", "thorough", "only", "dtype", "level", "time_limit", "repeat", "seed", "label", "dry_run"),
    ),
    "repeat": ("leaves the files of each run below --out", ("json_path", "csv_path", "dry_run")),
}


def _check_exclusive(context: click.Context) -> None:
    """Refuse options that contradict each other: silence would let the user believe in both."""
    given = [name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    for name, (does, others) in _EXCLUDES.items():
        beside = [other for other in others if other in given]
        if name in given and beside and (name != "repeat" or context.params["repeat"] > 1):
            says = f"--{beside[0].removesuffix('_path').replace('_', '-')}"
            raise UsageError(f"--{name} {does}, so that {says} has no place beside it; leave one of them out")


def _command_line_wins(context: click.Context, options: dict[str, Any]) -> None:
    """Of two budgets the one on the command line counts, and not that of a configuration."""
    given = {name: context.get_parameter_source(name) for name in ("quick", "thorough") if options[name]}
    if ParameterSource.COMMANDLINE in given.values():
        options |= {name: source is ParameterSource.COMMANDLINE for name, source in given.items()}


def _request(options: dict[str, Any], started: float | None) -> Request:
    from microbench.measure.plan import Selection
    from microbench.runs.saving import Request

    if options["quick"] and options["thorough"]:
        raise UsageError("--quick and --thorough exclude each other; give one of them")
    return Request(
        device=options["device"],
        budget="quick" if options["quick"] else "thorough" if options["thorough"] else "default",
        selection=Selection(only=options["only"], dtypes=options["dtype"], levels=options["level"]),
        time_limit_s=options["time_limit"],
        seed=options["seed"],
        resume=options["resume"],
        out=options["out"],
        page=True,
        started=started,
        label=options["label"],
        repeat=options["repeat_of"],
    )


@cli.command("list", epilog=EXAMPLES["list"])
@click.argument("what", type=click.Choice(["devices", "kernels", "operators", "results"]))
@device_option()
@click.option("--arch", metavar="sm_90a", help="Kernels for a compute target, GPU or no GPU.")
@click.option("--out", type=PATH, default=Path("results"), show_default=True, help="Folder of results.")
@data_options
def list_(what: str, **options: Any) -> None:
    """List devices, kernels, operators or stored results."""
    from microbench.cli import listing
    from microbench.cli.output import emit

    listed: dict[str, Callable[[], list[Any]]] = {
        "devices": listing.devices,
        "kernels": lambda: listing.kernels(options["device"], options["arch"]),
        "operators": listing.operators,
        "results": lambda: listing.results(options["out"]),
    }
    rows = listed[what]()
    shown = listing.shown(what, rows)
    emit(rows, listing.title(what, rows), options["json_path"], options["csv_path"], shown=shown)


@cli.command(epilog=EXAMPLES["doctor"])
@device_option()
@data_options
@click.pass_context
def doctor(context: click.Context, device: str, json_path: str | None, csv_path: str | None) -> None:
    """Check what could spoil a measurement or keep one from running."""
    from microbench.cli.commands import doctor as examine

    context.exit(examine(device, json_path, csv_path))


@cli.command(epilog=EXAMPLES["check"])
@device_option()
@click.option("--only", multiple=True, metavar="GLOB", callback=words, help="Kernels whose name matches.")
@click.option("--backend", multiple=True, metavar="B,...", callback=words, help="Only cuda, triton, torch or native.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes at a time; 1 on a CPU, at most 4 on a GPU.")
@click.option(
    "--kernel-limit", callback=duration, metavar="60s", help="A kernel that takes longer hangs, and is ended."
)
@click.option("--time-limit", callback=duration, metavar="90s", help="End the whole check within so long.")
@click.option(
    "--under", callback=command_line, metavar="COMMAND", help="Start each process by this, say a memory checker."
)
@data_options
@click.pass_context
def check(context: click.Context, /, **options: Any) -> None:
    """Check every kernel's value, each in a process that may hang or die alone; 1 where one is not right."""
    from microbench.cli.check import check as examine

    context.exit(examine(options))


@cli.command(epilog=EXAMPLES["nominal"])
@click.argument("name", required=False)
@data_options
def nominal(name: str | None, json_path: str | None, csv_path: str | None) -> None:
    """Compute a device's peaks from units, width and clock, with the formula's terms."""
    from microbench.cli.commands import nominal as compute

    compute(name, json_path, csv_path)


@cli.command(epilog=EXAMPLES["predict"])
@click.option(
    "--op", "expressions", multiple=True, metavar="EXPR", help="For example matmul:m=1024,n=512,k=64,dtype=f32."
)
@click.option("--ops", type=PATH, metavar="FILE.csv", help="A table: op,dtype,params[,launch][,cache][,pass].")
@columns_option
@click.option("--model", metavar="MODULE:CALLABLE", help="Something that makes a PyTorch model, or is a function.")
@click.option("--hf", metavar="CONFIG", help="A transformers model by its config.json or its name in the cache.")
@click.option(
    "--input", "inputs", multiple=True, metavar="[NAME=]SPEC", help="An input, for example 8x3x224x224:f32, mask=none."
)
@click.option("--train", is_flag=True, help="With backward pass and optimiser step.")
@click.option(
    "--launch",
    type=click.Choice(["eager", "graph", "kernel"]),
    help="How operators or a model run: called one by one (the default), replayed as a graph, or kernels alone.",
)
@click.option("--dtype", metavar="D", help="Turn the model's parameters and inputs into this dtype.")
@click.option("--compiled", is_flag=True, help="The kernels that torch.compile fuses, in place of eager operators.")
@click.option("--weights", metavar="i4|i8|f8|f4", help="Store the weights of products so, activations as they are.")
@click.option(
    "--scale-channels",
    type=float,
    metavar="FACTOR",
    help="What if every inner width were multiplied (pruning), for example 0.5.",
)
@click.option("--groups", type=int, metavar="N", help="What if the model's dense convolutions had N groups.")
@click.option(
    "--tree",
    type=click.IntRange(min=0),
    is_flag=False,
    flag_value=3,
    metavar="[DEPTH]",
    help="The model by its modules, three levels deep or DEPTH.",
)
@click.option(
    "--calibration",
    "calibrations",
    type=PATH,
    multiple=True,
    metavar="FILE|NAME",
    help="A characterisation, or the name of shipped fits; several with --on. By default the newest below results/, "
    "else the shipped fits.",
)
@click.option(
    "--on",
    metavar="FILE|NAME",
    help="Predict for this device: a characterisation with ceilings, a TOML file of figures, or a GPU's name.",
)
@data_options
@click.pass_context
def predict(context: click.Context, /, **options: Any) -> None:
    """Predict how long operators, tables of them or whole models take, and what limits them."""
    from microbench.cli import predict, predict_models

    subjects = [name for name in ("expressions", "ops", "model", "hf") if options[name]]
    if len(subjects) != 1:
        raise UsageError("give one of --op EXPR, --ops FILE.csv, --model MODULE:CALLABLE and --hf CONFIG")
    of_models = [
        name
        for name in ("inputs", "train", "dtype", "scale_channels", "groups", "tree", "weights", "compiled")
        if options[name] not in (None, False, ())
    ]
    if of_models and not (options["model"] or options["hf"]):
        spelling = "input" if of_models[0] == "inputs" else of_models[0].replace("_", "-")
        raise UsageError(f"--{spelling} is about a --model; leave it out")
    if options["launch"] and options["ops"]:
        raise UsageError("--launch is a column of the table that --ops reads; leave it out")
    if options["columns"] and not options["ops"]:
        raise UsageError("--columns is about the table that --ops reads; leave it out")
    paths = (options["json_path"], options["csv_path"])
    asked = predict.Asked(calibrations=options["calibrations"], on=options["on"])
    if options["expressions"]:
        predict.predict_op(options["expressions"], asked, paths, options["launch"])
    elif options["ops"]:
        context.exit(predict.predict_ops(options["ops"], options["columns"], asked, paths))
    else:
        names = ("hf", "train", "launch", "dtype", "scale_channels", "groups", "tree", "weights", "compiled")
        how = {name: options[name] for name in names} | {"asked": asked}
        predict_models.predict_model_spec(options["model"] or options["hf"], options["inputs"], how, paths)


@cli.command(epilog=EXAMPLES["fit"])
@click.argument("rows", type=PATH)
@click.option("--nominal", metavar="NAME", help="A GPU of the nominal table as prior.")
@click.option(
    "--ceiling", "ceilings", multiple=True, metavar="dtype=TFLOP/s", help="A printed or measured peak as prior."
)
@click.option("--bandwidth", type=float, metavar="GB/s", help="A printed or measured bandwidth as prior.")
@click.option(
    "--like",
    type=PATH,
    multiple=True,
    metavar="FILE|NAME",
    help="Another device's characterisation, or shipped fits by name, as prior; several are pooled.",
)
@click.option(
    "--on", metavar="FILE|NAME", help="The device of the rows: a characterisation, a TOML file, a GPU's name."
)
@columns_option
@click.option("-o", "--output", metavar="PATH|-", type=PATH, required=True, help="Where to write the characterisation.")
def fit(rows: Path, output: Path, **options: Any) -> None:
    """Fit a device from operator rows that somebody measured (CSV with a column of seconds)."""
    from microbench.cli import predict

    nominal = predict.nominal_from(options["nominal"], options["ceilings"], options["bandwidth"])
    asked = predict.Asked(calibrations=options["like"], on=options["on"])
    predict.fit_file(rows, options["columns"], (nominal, asked), output)


@cli.command(epilog=EXAMPLES["validate"])
@device_option()
@click.option("--calibration", type=PATH, metavar="FILE", help="Grade this characterisation; otherwise calibrate now.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the fresh shapes.")
@click.option(
    "--time-limit", callback=duration, metavar="90s", help="Measure for so long, but four rounds: a minute or more."
)
@click.option("--png", type=PATH, help="Write the calibration plot.")
@data_options
def validate(**options: Any) -> None:
    """Measure fresh shapes and real models now, and hold the predictions against them."""
    from microbench.cli.commands import check_outputs
    from microbench.cli.commands import validate as grade

    check_outputs(options["json_path"], options["csv_path"], options["png"])
    grade(options)


def main(started: float | None = None) -> NoReturn:
    """Run the command line; every refusal is one sentence and an exit code.

    ``started`` is when the process began, by the monotonic clock.
    """
    signals.listen()
    streams.open_streams()
    sys.exit(exits.flush_output(exits.run_command(lambda: cli(standalone_mode=False, obj=started))))
