"""Foreign text on its way to a person: what a file, a driver, a user or another program wrote, made safe to show.

A device name may hold a sequence that a terminal obeys (OSC 52 writes its clipboard), a path may turn the direction in
which a line is read, a message may begin with a command of the job that prints it. Here such characters are spelled
out, in the escapes of JSON: JSON text stays the same JSON, and everything else can be read.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

T = TypeVar("T")

# Controls of ASCII (C0, DEL) and of Latin 1 (C1); soft hyphen; marks and overrides of direction, other characters that
# have no width; ends of lines and paragraphs; halves of surrogate pairs; tags.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb"
    "\ud800-\udfff\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# What a job takes for a command: `::name` where a line begins (GitHub), `##[name]` and `##vso[name]` anywhere (Azure).
_COMMAND = re.compile(r"(?:^[^\S\n]*:(?=:))|(?:#(?=#\w*\[))", re.MULTILINE)
# A word that is longer than any path and any key of a case, and the most that a sentence has.
_ENDLESS = re.compile(r"\S{400,}")
_LONGEST = 640
_WITHOUT_TEXT = (int, float, bool, type(None))
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_RISKY = re.compile("^[=+@-]|(?!\n)" + _HIDDEN.pattern, re.MULTILINE)


def visible(text: str) -> str:
    r"""Spell out every character that a terminal or an editor would obey instead of showing it, line breaks included.

    Examples
    --------
    >>> print(visible("A100\x1b]52;c;AAAA\x07, read\u202e this\n"))
    A100\u001b]52;c;AAAA\u0007, read\u202e this\n
    """
    return _HIDDEN.sub(_spelled, text)


def _spelled(match: re.Match[str]) -> str:
    character = match[0]
    if character in _SHORT:
        return _SHORT[character]
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))


def visible_lines(text: str) -> str:
    """The same, for text of ours that quotes foreign text: its line breaks stay."""
    return "\n".join(map(visible, text.split("\n")))


def one_line(text: str) -> str:
    """A sentence for people: on one line, whatever it quotes."""
    return visible(" ".join(text.splitlines()))


def sentence(text: str) -> str:
    """A refusal on one line and of bounded length, whatever it quotes: the middle of what is too long is left out.

    Examples
    --------
    >>> len(sentence("x" * 5000)) < 300, len(sentence("x y " * 5000)) < 700
    (True, True)
    """
    short = _ENDLESS.sub(lambda word: f"{word[0][:120]} ... {word[0][-40:]}", one_line(text))
    return short if len(short) <= _LONGEST else f"{short[:400]} ... {short[-200:]}"


def inert(text: str) -> str:
    r"""Break what the log of a job would take for a command; the first character of it is spelled out.

    Examples
    --------
    >>> print(inert("::stop-commands::x and ##[error]y, std::vector"))
    \u003a:stop-commands::x and \u0023#[error]y, std::vector
    """
    return _COMMAND.sub(lambda found: f"{found[0][:-1]}\\u{ord(found[0][-1]):04x}", text)


def cell(text: str) -> str:
    """A cell of CSV that people open in a spreadsheet: one that it would take for a formula begins with a quote.

    Numbers stay.

    Examples
    --------
    >>> cell("=1+1"), cell("-1.5e3"), cell("matmul")
    ("'=1+1", '-1.5e3', 'matmul')
    """
    if text.startswith(_FORMULA):
        try:
            float(text)
        except ValueError:
            text = f"'{text}"
    return visible(text)


def risky(lines: str) -> bool:
    """Whether one of many cells, a line each, is not what `cell` makes of it; quick, and may say yes too often."""
    return _RISKY.search(lines) is not None


def shown(value: T) -> T:
    """A record with every text in it `visible`: the value itself where nothing has to be spelled out."""
    made: Any = _shown(value)
    return made  # type: ignore[no-any-return]


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value) if _HIDDEN.search(value) else value
    if isinstance(value, (tuple, list)):
        if value and isinstance(value[0], (int, float)):  # samples: no text among them
            return value
        parts = type(value)(map(_shown, value))
        return value if all(one is other for one, other in zip(parts, value, strict=True)) else parts
    if isinstance(value, dict):
        entries = {_shown(key): _shown(entry) for key, entry in value.items()}
        return value if all(entries.get(key) is entry for key, entry in value.items()) else entries
    if is_dataclass(value) and not isinstance(value, type):
        changed = {
            field.name: made
            for field in fields(value)
            if type(old := getattr(value, field.name)) not in _WITHOUT_TEXT
            and (made := _shown(old)) is not old
            and field.init
        }
        return replace(value, **changed) if changed else value
    return value
