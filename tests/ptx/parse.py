"""PTX text to kernels: statements with their guards, labels, parameters and shared variables."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Statement:
    """One instruction; ``negated`` belongs to the guard."""

    opcode: str
    operands: tuple[str, ...]
    guard: str | None = None
    negated: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.opcode.split("."))


@dataclass
class Kernel:
    """One entry: parameters as (name, bytes), shared variables as (bytes, alignment), code and where labels point."""

    name: str
    parameters: list[tuple[str, int]] = field(default_factory=list)
    shared: dict[str, tuple[int, int]] = field(default_factory=dict)
    code: list[Statement] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)


_SIZES = {
    "b8": 1,
    "u8": 1,
    "u16": 2,
    "b16": 2,
    "u32": 4,
    "b32": 4,
    "s32": 4,
    "f32": 4,
    "u64": 8,
    "b64": 8,
    "s64": 8,
    "f64": 8,
}
_VARIABLE = re.compile(r"\.shared\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d*)\])?\s*;")


def kernels(text: str) -> dict[str, Kernel]:
    """Every entry of a module by name."""
    text = re.sub(r"//[^\n]*", "", text)
    entries = []
    outside, at = "", 0
    for match in re.finditer(r"\.entry\s+([\w$]+)\s*\(([^)]*)\)[^{]*", text):
        end = _closing(text, match.end())
        outside += text[at : match.start()]
        at = end + 1
        entries.append((match[1], match[2], text[match.end() + 1 : end]))
    common = _variables(outside + text[at:])
    found = {}
    for name, parameters, body in entries:
        kernel = Kernel(name, shared=common | _variables(body))
        for declared in filter(None, (part.strip() for part in parameters.split(","))):
            words = declared.split()
            kernel.parameters.append((words[-1], _SIZES[words[1].removeprefix(".")]))
        _read(kernel, body)
        found[name] = kernel
    return found


def _variables(text: str) -> dict[str, tuple[int, int]]:
    found = {}
    for align, kind, name, count in _VARIABLE.findall(text):
        found[name] = (_SIZES[kind] * int(count or "1"), int(align or _SIZES[kind]))
    return found


def _read(kernel: Kernel, body: str) -> None:
    at, scopes, made = 0, [{}], 0
    while at < len(body):
        if body[at].isspace():
            at += 1
        elif body[at] == "{":
            made += 1
            names = {}
            end = _closing(body, at)
            for declared in re.findall(r"\.reg\s+\.\w+\s+%?([\w$]+)\s*;", body[at:end]):
                names[declared] = names["%" + declared] = f"{declared}@{made}"
            names |= {
                label: f"{label}@{made}" for label in re.findall(r"(?:^|[\s{;])([A-Za-z_]\w*):(?!:)", body[at:end])
            }
            scopes.append(names)
            at += 1
        elif body[at] == "}":
            scopes.pop()
            at += 1
        elif label := re.match(r"([$\w]+):(?!:)", body[at:]):
            kernel.labels[_renamed(label[1], scopes)] = len(kernel.code)
            at += label.end()
        else:
            end = body.index(";", at)
            statement = body[at:end].strip()
            at = end + 1
            if statement and not statement.startswith("."):
                kernel.code.append(_statement(statement, scopes))


def _closing(body: str, at: int) -> int:
    depth = 0
    for index in range(at, len(body)):
        depth += (body[index] == "{") - (body[index] == "}")
        if depth == 0:
            return index
    raise ValueError("a brace never closes")


def _renamed(word: str, scopes: list[dict[str, str]]) -> str:
    return next((names[word] for names in reversed(scopes) if word in names), word)


def _statement(text: str, scopes: list[dict[str, str]]) -> Statement:
    text = " ".join(text.split())
    text = re.sub(r"%?[A-Za-z_$][\w$]*", lambda word: _renamed(word[0], scopes), text) if len(scopes) > 1 else text
    guard = re.match(r"@(!?)(%?[\w$@]+)\s+", text)
    if guard:
        text = text[guard.end() :]
    opcode, _, rest = text.partition(" ")
    operands = tuple(part.strip() for part in re.split(r",(?![^{\[]*[}\]])", rest)) if rest.strip() else ()
    return Statement(opcode, operands, guard[2] if guard else None, bool(guard and guard[1]))
