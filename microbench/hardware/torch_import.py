"""PyTorch, imported at the last moment: it takes seconds, may be absent, and may be broken in any way."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from microbench.errors import CannotRun

ABSENT = "torch is not installed; pip install 'microbench-roofline[torch]'"


def import_torch() -> Any:
    """Import PyTorch.

    Raises
    ------
    CannotRun
        If it is absent or broken; the sentence says which.
    """
    if find_spec("torch") is None:
        raise CannotRun(ABSENT)
    try:
        import torch
    except Exception as error:  # a missing library, another ABI, a half-removed package: each raises something else
        why = (str(error).splitlines() or [""])[0][:200]
        raise CannotRun(
            f"torch is installed but cannot be imported ({type(error).__name__}: {why}); install it again, or remove "
            "it to do without"
        ) from error
    if not hasattr(torch, "Tensor"):
        where = getattr(torch, "__file__", None) or next(iter(getattr(torch, "__path__", [])), "an empty folder")
        raise CannotRun(f"what is imported as torch is not PyTorch but {where}; remove that, or install torch again")
    return torch
