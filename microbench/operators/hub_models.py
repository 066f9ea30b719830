"""Models of the `transformers` library from a configuration: no weights are read, nothing is fetched."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from microbench.errors import CannotRun, UsageError

# Tokens of a text, and those that a decoder has been given, where nobody says how many.
_TOKENS, _DECODED = 128, 16


def hub_model(named: str) -> tuple[Callable[[], Any], list[str], str]:
    """Find a configuration and say how its model is made.

    Parameters
    ----------
    named
        A ``config.json``, a folder with one, or the name of a model in the library's cache.

    Returns
    -------
    tuple
        What makes the model, specs of inputs that it takes, and its class.

    Raises
    ------
    CannotRun
        If transformers is not installed.
    UsageError
        If there is no such configuration, or none of a model.
    """
    try:
        transformers = import_module("transformers")
    except ImportError:
        raise CannotRun("--hf needs transformers; pip install transformers") from None
    try:
        config = _config(transformers, named)
    except (OSError, ValueError, KeyError, TypeError) as error:
        first = (str(error).splitlines() or [""])[0][:160]
        raise UsageError(
            f"{named[:80]} is no configuration ({first}); give a config.json, its folder, or a name in the cache"
        ) from None
    found = next((each for each in config.architectures or () if hasattr(transformers, each)), None)
    kind = getattr(transformers, found) if found else transformers.AutoModel
    if found:
        return lambda: kind._from_config(config), inputs_of(kind, config), found  # noqa: SLF001 - what from_config calls
    return lambda: kind.from_config(config), inputs_of(kind, config), type(config).__name__.removesuffix("Config")


def _config(transformers: Any, named: str) -> Any:
    path = Path(named)
    path = path / "config.json" if path.is_dir() else path
    if path.suffix == ".json":
        read = json.loads(path.read_text(encoding="utf-8"))
        return transformers.AutoConfig.for_model(read.pop("model_type"), **read)
    return transformers.AutoConfig.from_pretrained(named, local_files_only=True)


def inputs_of(kind: Any, config: Any) -> list[str]:
    """Inputs by the name of the main one: text, an image, a spectrogram or a wave, and what a decoder was given."""
    name = getattr(kind, "main_input_name", "input_ids")
    vision = getattr(config, "vision_config", config)
    side = getattr(vision, "image_size", 224)
    high, wide = side if isinstance(side, list | tuple) else (side, side)
    pixels = f"pixel_values=1x{getattr(vision, 'num_channels', 3)}x{high}x{wide}:f32"
    length = getattr(getattr(config, "text_config", config), "max_position_embeddings", None) or _TOKENS
    text = f"input_ids=1x{min(_TOKENS, length)}:i64"
    frames = 2 * getattr(config, "max_source_positions", _TOKENS)
    known = {
        "pixel_values": [pixels],
        "input_features": [f"input_features=1x{getattr(config, 'num_mel_bins', 80)}x{frames}:f32"],
        "input_values": ["input_values=1x16000:f32"],
    }
    found = known.get(name, [text])
    if hasattr(config, "vision_config") and hasattr(config, "text_config") and name == "input_ids":
        found = [text, pixels]
    return [*found, f"decoder_input_ids=1x{_DECODED}:i64"] if getattr(config, "is_encoder_decoder", False) else found
