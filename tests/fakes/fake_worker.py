"""A FAKE of a process that does items under watch: each argument ``NAME=HOW`` is an item and what becomes of it.

``right`` and ``wrong`` are told; ``hang`` and ``stuck`` never answer (``stuck`` ignores SIGTERM too), ``die`` is killed
by a signal, ``quit`` ends with 7 and a line on standard error, ``lost`` is told and ends the process, ``late`` is right
and the process dies at its end, ``chatty`` prints what is no outcome.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time

from microbench.runs.isolation import Channel


def do(channel: Channel, name: str, how: str) -> bool:
    """One item; whether the process goes on."""
    channel.start(name)
    if how in ("hang", "stuck"):
        if how == "stuck":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(1000)
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "quit":
        sys.stderr.write("ran out of luck\n")
        sys.exit(7)
    if how == "chatty":
        sys.stdout.write('{"done": "another", "status": "wrong"}\n')
        sys.stdout.flush()
        os.write(1, b"not a line of ours\n")
    told = "right" if how in ("chatty", "late") else how
    channel.done(name, told, f"{name} is {how}" if how == "wrong" else None, pid=os.getpid())
    return how != "lost"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("items", nargs="*")
    parser.add_argument("--skip", default="")
    parser.add_argument("--refuse", action="store_true")
    options = parser.parse_args()
    if options.refuse:
        sys.stderr.write("no such device\n")
        return 3
    skip = options.skip.split(",")
    items = [each.split("=") for each in options.items if each.partition("=")[0] not in skip]
    channel = Channel()
    channel.ready([name for name, _ in items])
    for name, how in items:
        if not do(channel, name, how):
            return 3
    if any(how == "late" for _, how in items):
        os.kill(os.getpid(), signal.SIGSEGV)
    return 0


if __name__ == "__main__":
    sys.exit(main())
