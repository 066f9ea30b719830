"""Where the tests and what they examine lie, whatever folder a test stands in."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parent
DATA = TESTS / "data"
FAKES = TESTS / "fakes"
ROOT = TESTS.parent
SOURCES = ROOT / "csrc"
