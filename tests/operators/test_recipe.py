"""What CONTRIBUTING shows of an operator is the code of that operator."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def without_comments(text: str) -> str:
    return "\n".join(re.sub(r"  # .*", "", line).strip() for line in text.splitlines())


def test_the_recipe_of_an_operator_shows_the_operator_as_it_is() -> None:
    page, code = ROOT / "CONTRIBUTING.md", ROOT / "microbench" / "operators" / "normalisation.py"
    if not (page.exists() and code.exists()):
        pytest.skip("there is no checkout around the tests")
    recipe = page.read_text().partition("## Recipe: an operator")[2].partition("## Recipe")[0]
    (shown,) = re.findall(r"```python\n(.*?)```", recipe, re.DOTALL)
    assert without_comments(shown).strip() in without_comments(code.read_text())
