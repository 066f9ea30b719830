"""The locks with hashes and the list of licences hold what pyproject.toml and constraints.txt ask for."""

from __future__ import annotations

import re
import sys
import tomllib

import pytest
from places import ROOT

sys.path.insert(0, str(ROOT / ".ci"))
try:
    from lock import LOCKS, pins
finally:
    sys.path.remove(str(ROOT / ".ci"))

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = pins((ROOT / "constraints.txt").read_text())


EXTRAS = PROJECT["optional-dependencies"]
NAME = re.compile(r"[A-Za-z0-9._-]+")


def named(requirements: list[str]) -> set[str]:
    return {re.sub(r"[-_.]+", "-", NAME.findall(each)[0]).lower() for each in requirements}


@pytest.mark.parametrize(("name", "extras"), LOCKS.items())
def test_a_lock_pins_every_dependency_at_the_version_that_is_tested(name: str, extras: tuple[str, ...]) -> None:
    locked = pins((ROOT / name).read_text())
    wanted = named([*PROJECT["dependencies"], *(each for extra in extras for each in EXTRAS[extra])])
    assert wanted <= set(locked)
    assert {package: CONSTRAINTS[package] for package in locked if package in CONSTRAINTS} == {
        package: version for package, version in locked.items() if package in CONSTRAINTS
    }
    assert "microbench" not in locked


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_a_lock_has_hashes_and_no_place(name: str) -> None:
    text = (ROOT / name).read_text()
    entries = re.split(r"^(?=[a-z0-9])", text.partition("\n\n")[0], flags=re.MULTILINE | re.IGNORECASE)[1:]
    assert len(entries) == len(pins(text))
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    assert "://" not in text


def test_every_package_has_a_licence_in_the_documentation() -> None:
    text = (ROOT / "docs" / "licences.md").read_text()
    listed = dict(re.findall(r"^\| ([a-z0-9-]+) \| ([^|]+) \|$", text, re.MULTILINE))
    wanted = set(CONSTRAINTS).union(*(pins((ROOT / name).read_text()) for name in LOCKS))
    wanted |= named([*PROJECT["dependencies"], *(each for extra in EXTRAS.values() for each in extra)])
    assert wanted <= set(listed)
    assert "unknown" not in listed.values()
