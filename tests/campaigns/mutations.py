"""Files with a fault in them, drawn at random from good ones: the same number and seed give the same file."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

# Values that somebody, or some program, writes where a number or a word should be.
NASTY: tuple[Any, ...] = (
    None,
    True,
    False,
    "",
    "x",
    "1",
    [],
    {},
    [[]],
    {"a": 1},
    0,
    -1,
    1,
    0.5,
    -0.5,
    2,
    1e-320,
    5e-324,
    1e-30,
    1e30,
    1e300,
    1.7e308,
    -1e300,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    10**30,
    10**400,
    1.0000001,
    1e9,
    1e15,
    "NaN",
    "inf",
    "-1",
    "\x1b]52;c;AAAA\x07",
    "\u202e",
    "::error::x",
    "##[error]x",
    "@all",
    "=1+1",
    "x" * 5000,
    "\n",
    "../../etc/passwd",
    "L9",
    "f13",
    "sustained",
    "cuda",
    "a;b=c]@9",
)
TOKENS = (
    "NaN",
    "inf",
    "-inf",
    "1e400",
    "1e-400",
    "-1",
    "0",
    "true",
    "null",
    "~",
    "''",
    '"',
    "'",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    ";",
    "=",
    "#",
    "&a",
    "*a",
    "<<",
    "!!int",
    "!!python/object:os.system",
    "1:30:15",
    "0x10",
    "1_000",
    "9" * 5000,
    "\t",
    "\r",
    "\0",
    "\x1b[2J",
    "\u202e",
    "\ud800",
    "é",
    "🦜",
    "\n",
    "\n\n",
    " ",
    "- ",
    "...",
    "---",
    "@x",
    "=cmd()",
    "1,5",
    "1;5",
)
Draw = Callable[[random.Random, bytes], bytes]


def _flip(draw: random.Random, data: bytes) -> bytes:
    made = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
        made[draw.randrange(len(made))] = draw.randrange(256)
    return bytes(made)


def _cut(draw: random.Random, data: bytes) -> bytes:
    start = draw.randrange(len(data))
    return data[:start] + data[start + draw.choice((1, 3, 20, len(data))) :]


def _twice(draw: random.Random, data: bytes) -> bytes:
    start = draw.randrange(len(data))
    piece = data[start : start + draw.choice((1, 10, 100, 2000))]
    return data[:start] + piece * draw.choice((2, 2, 3, 50)) + data[start + len(piece) :]


def _token(draw: random.Random, data: bytes) -> bytes:
    start = draw.randrange(len(data))
    token = draw.choice(TOKENS).encode("utf-8", "surrogatepass")
    return data[:start] + token + data[start + draw.choice((0, 0, 1, len(token))) :]


def _lines(draw: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    match draw.randrange(3):
        case 0:
            lines[one], lines[other] = lines[other], lines[one]
        case 1:
            lines.insert(one, lines[other])
        case _:
            del lines[one]
    return b"\n".join(lines)


def _number(draw: random.Random, data: bytes) -> bytes:
    """Put something else in the place of one number of a text."""
    places = [at for at in range(1, len(data)) if data[at : at + 1].isdigit() and not data[at - 1 : at].isalnum()]
    if not places:
        return _token(draw, data)
    start = draw.choice(places)
    end = start
    while end < len(data) and data[end : end + 1] in b"0123456789.eE+-":
        end += 1
    value = draw.choice((*TOKENS[:7], "1e300", "5e-324", "1e30", "-5", "999999999999999999999", "1.5", "0.0", "1e-12"))
    return data[:start] + value.encode() + data[end:]


def _paths(node: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    found = [path] if path else []
    for key, value in inner:
        found += _paths(value, (*path, key))
    return found


def _tree(draw: random.Random, data: bytes) -> bytes:
    """Change one value of a JSON document (of one line of a journal), or several."""
    lines = data.split(b"\n")
    at = draw.randrange(len(lines)) if draw.random() < 0.7 else 0
    try:
        root = json.loads(lines[at])
    except ValueError:
        return _token(draw, data)
    paths = _paths(root)
    for _ in range(draw.choice((1, 1, 1, 3))):
        path = draw.choice(paths or [()])
        if path:
            _change(draw, root, path)
    lines[at] = json.dumps(root).encode()
    return b"\n".join(lines)


def _change(draw: random.Random, root: Any, path: tuple[Any, ...]) -> None:
    node = root
    try:
        for step in path[:-1]:
            node = node[step]
        old = node[path[-1]]
    except (KeyError, IndexError, TypeError):  # an earlier change took the place away
        return
    if not isinstance(node, (dict, list)):
        return
    scaled = isinstance(old, (int, float)) and not isinstance(old, bool)
    match draw.randrange(6):
        case 0 if isinstance(node, dict):
            del node[path[-1]]
        case 1 if isinstance(old, list) and old:
            node[path[-1]] = old * draw.choice((0, 2, 100)) if len(old) < 200 else old[:1]
        case 2 if scaled:
            node[path[-1]] = old * draw.choice((0, -1, 1e-12, 1e3, 1e6, 1e12, 1e300))
        case 3 if isinstance(node, dict):
            node[str(draw.choice(NASTY))] = node.pop(path[-1])
        case _:
            node[path[-1]] = copy.deepcopy(draw.choice(NASTY))  # or a later change would reach into the list


def _key_twice(draw: random.Random, data: bytes) -> bytes:
    """Write one pair of a JSON object twice."""
    start = data.find(b',"', draw.randrange(len(data)))
    end = data.find(b',"', start + 2)
    return data[:end] + data[start:end] + data[end:] if 0 <= start < end else _twice(draw, data)


_TEXT: tuple[Draw, ...] = (_flip, _cut, _twice, _token, _token, _lines, _number, _number, _number)
_JSON: tuple[Draw, ...] = (_tree, _tree, _tree, _tree, _number, _flip, _cut, _key_twice, _token)


def mutated(data: bytes, number: int, seed: int, *, is_json: bool) -> bytes:
    """One faulty file: drawn by its number and the campaign's seed, from a good file that is not empty."""
    draw = random.Random(f"{seed} {number}")
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        data = draw.choice(_JSON if is_json else _TEXT)(draw, data) or b" "
    return data
