"""Imported first, it makes PyTorch seem not installed: one with CUDA asks a fake driver for what it has not."""

from __future__ import annotations

import sys

sys.modules["torch"] = None  # type: ignore[assignment]
