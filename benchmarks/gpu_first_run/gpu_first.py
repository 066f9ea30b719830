"""What `first_run.sh` runs on a machine with a GPU: facts, every kernel's value, rates, cross-checks, counters, models.

Every subcommand appends JSON lines to a file as it goes, so that a cut-off loses nothing. Nothing here changes the
card's settings. The modules beside this file are found because `first_run.sh` puts its folder on Python's path.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import gpu_counters
import gpu_crosscheck
import gpu_facts
import gpu_models
import gpu_watch

COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "facts": gpu_facts.facts,
    "worker": gpu_watch.worker,
    "watch": gpu_watch.watch,
    "crosscheck": gpu_crosscheck.crosscheck,
    "counters": gpu_counters.counters,
    "counters-run": gpu_counters.counters_run,
    "models": gpu_models.models,
    "predict-one": gpu_models.predict_one,
}


def parser() -> argparse.ArgumentParser:
    """The subcommands and their options."""
    made = argparse.ArgumentParser()
    commands = made.add_subparsers(dest="command", required=True)
    for name, function in COMMANDS.items():
        one = commands.add_parser(name)
        one.set_defaults(function=function)
        one.add_argument("--out")
        one.add_argument("--device", default="cuda:0")
        one.add_argument("--limit", type=float, default=120)
        one.add_argument("--only", default="")
        one.add_argument("--small", action="store_true")
        if name == "worker":
            one.add_argument("--group", required=True)
            one.add_argument("--skip", default="")
        if name == "watch":
            one.add_argument("--groups", default=",".join(gpu_watch.GROUPS))
            one.add_argument("--jobs", type=int, default=1)
            one.add_argument("--kernel-limit", type=float, default=20)
        if name == "counters":
            one.add_argument("--chip", default="gh100")
        if name == "crosscheck":
            one.add_argument("--size", type=int, default=8192)
        if name in ("models", "predict-one"):
            one.add_argument("--calibration")
        if name == "models":
            one.add_argument("--place", default="cuda")
    return made


def main() -> int:
    """Run one subcommand."""
    options = parser().parse_args()
    code: int = options.function(options)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
