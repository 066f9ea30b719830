"""A small file of declared numbers costs little, whatever is in it: aliases, nesting, digits, keys, devices.

Each is read in a process with a limit of processor time and of memory, which a busy machine does not change.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from microbench.errors import UsageError
from microbench.interop.audit import audit
from microbench.interop.declared import numbers_in
from microbench.interop.documents import MAX_BYTES, parse

CPU_S = 10
MEMORY_BYTES = 1_000_000_000
GPU = "gpu: {mem_bw: 1}\n"


def aliased(opening: str, closing: str) -> str:
    rows = [f"a0: &a0 {opening}{','.join('xyzuvwabc')}{closing}" if opening == "[" else "a0: &a0 {k: 1}"]
    for level in range(1, 9):
        nine = ", ".join([f"*a{level - 1}"] * 9)
        rows.append(
            f"a{level}: &a{level} {opening}{nine}{closing}"
            if opening == "["
            else f"a{level}: &a{level} {{<<: [{nine}]}}"
        )
    return GPU + "\n".join(rows) + "\n"


BOMBS: dict[str, tuple[str, Callable[[], str]]] = {
    "aliases of aliases": (".yaml", lambda: aliased("[", "]")),
    "merges of merges": (".yaml", lambda: aliased("{", "}")),
    "a value in itself": (".yaml", lambda: "gpu: &a {mem_bw: 1, x: *a}\n"),
    "a chain of aliases": (
        ".yaml",
        lambda: "\n".join(f"a{n}: &a{n} {{x: {f'*a{n - 1}' if n else 1}}}" for n in range(15000)),
    ),
    "digits to base 60": (".yaml", lambda: "gpu:\n  mem_bw: " + ":".join(["59"] * 100_000) + "\n"),
    "digits to base 60 by a tag": (".yaml", lambda: "gpu:\n  mem_bw: !!int '" + ":".join(["59"] * 100_000) + "'\n"),
    "a long number": (".yaml", lambda: f"gpu: {{mem_bw: 0x{'f' * 400_000}}}\n"),
    "many values": (".yaml", lambda: GPU + "x: [" + "1," * 240_000 + "1]\n"),
    "brackets": (".yaml", lambda: "[" * 400_000),
    "dashes": (".yaml", lambda: "- " * 200_000 + "x"),
    "a dotted key": (".toml", lambda: "a" + ".a" * 200_000 + " = 1\n"),
    "a dotted table": (".toml", lambda: "[" + ".".join(["a"] * 200_000) + "]\n"),
    "dotted keys": (".toml", lambda: "\n".join("a" + ".a" * 30 + f"{n} = 1" for n in range(6000))),
    "arrays in arrays": (".toml", lambda: "a = " + "[" * 400_000),
    "brackets of JSON": (".json", lambda: "[" * 400_000),
    "parentheses": (".py", lambda: "x = " + "(" * 400_000),
    "signs": (".py", lambda: "x = " + "-" * 400_000 + "1"),
    "a sum": (".py", lambda: "x = " + "1+" * 240_000 + "1"),
    "a product": (".py", lambda: "Devices = {'x': {'FP32': " + "10**12*" * 60_000 + "1}}"),
    "a list of Python": (".py", lambda: "Devices = {'x': [" + "1," * 230_000 + "1]}"),
    "12,000 devices": (
        ".json",
        lambda: json.dumps({"hardware_params": {f"d{n}": {"FP16": 1e12} for n in range(12_000)}}),
    ),
    "9,000 wrong figures": (
        ".json",
        lambda: json.dumps({"hardware_params": {f"A100 {n} 80GB": {"bandwidth": 335e10} for n in range(9_000)}}),
    ),
    "one device 900 times": (
        ".json",
        lambda: json.dumps({"hardware_params": {" " * n + "A100": {"bandwidth": 335e10} for n in range(900)}}),
    ),
}


def _outcome(path: Path) -> str:
    """What an audit says, in a process of its own that the system ends at its limits."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of a library; the child calls none
        child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        try:
            says = f"{len(audit(path))} numbers"
        except UsageError as error:
            says = f"refused: {error}"
        except BaseException as error:  # noqa: BLE001 - told to the parent
            says = f"{type(error).__name__}: {error}"
        os.write(writing, says.encode()[:2000])
        os._exit(0 if 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < MEMORY_BYTES else 1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        says = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return says if status == 0 else f"ended with {status}: {says}"


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_answered_within_its_limits(name: str, tmp_path: Path) -> None:
    suffix, content = BOMBS[name]
    path = tmp_path / f"x{suffix}"
    path.write_text(content())
    assert path.stat().st_size <= MAX_BYTES
    says = _outcome(path)
    assert says.startswith("refused: ") or says.endswith(" numbers"), says


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".yaml", "gpu: {mem_bw: 1, mem_bw: 2}\n"),
        (".json", '{"gpu": {"mem_bw": 1, "mem_bw": 2}}'),
        (".toml", "a = 1\na = 2\n"),
    ],
)
def test_a_key_that_stands_twice_is_refused(suffix: str, content: str) -> None:
    with pytest.raises(UsageError, match=r"twice|overwrite"):
        parse(content, suffix, "x")


def test_aliases_and_merges_of_an_ordinary_file_are_followed() -> None:
    content = "base: &base {mem_bw: 1, mem_capacity: 2}\ngpu: {<<: *base, mem_capacity: 3}\nagain: *base\n"
    assert parse(content, ".yaml", "x") == {
        "base": {"mem_bw": 1, "mem_capacity": 2},
        "gpu": {"mem_bw": 1, "mem_capacity": 3},
        "again": {"mem_bw": 1, "mem_capacity": 2},
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [("1:30", "1:30"), ("0x10", 16), ("1e3", "1e3"), ("1.0e+3", 1000.0), ("2026-11-01", "2026-11-01"), ("yes", True)],
)
def test_numbers_of_yaml_are_those_of_its_users_but_for_base_60_and_dates(text: str, value: object) -> None:
    assert parse(f"x: {text}\n", ".yaml", "x") == {"x": value}


def test_every_number_of_a_document_is_found_once() -> None:
    document = {"a": 1, "b": {"c": 2.5, "d": [1, [2, 3]], "e": True, "f": None}, "g": [{"h": 4}, {"h": 5}], "i": "6"}
    assert list(numbers_in(document)) == [
        (("a",), 1, 1),
        (("b", "c"), 2.5, 1),
        (("b", "d"), None, 3),
        (("g", "0", "h"), 4, 1),
        (("g", "1", "h"), 5, 1),
    ]


def test_python_s_own_limit_of_recursion_is_left_alone() -> None:
    before = sys.getrecursionlimit()
    with pytest.raises(UsageError):
        parse("[" * 400_000, "", "x")
    assert sys.getrecursionlimit() == before
