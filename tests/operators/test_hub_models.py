"""Models of transformers from a configuration; where the library is not installed, only what is said then."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from microbench.errors import CannotRun, UsageError
from microbench.operators.hub_models import hub_model

pytest.importorskip("torch")

from microbench.operators.capture import capture

_SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
_HALVES = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
_WHISPER = {"d_model": 64, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "vocab_size": 200, "pad_token_id": 0}
CONFIGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "bert": ("BertModel", _SMALL, "input_ids=1x128:i64"),
    "vit": ("ViTModel", _SMALL, "pixel_values=1x3x224x224:f32"),
    "t5": (
        "T5ForConditionalGeneration",
        {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 200},
        "input_ids=1x128:i64 decoder_input_ids=1x16:i64",
    ),
    "whisper": (
        "WhisperForConditionalGeneration",
        _WHISPER | _HALVES | {"max_source_positions": 100},
        "input_features=1x80x200:f32 decoder_input_ids=1x16:i64",
    ),
    "mixtral": (
        "MixtralForCausalLM",
        _SMALL | {"num_key_value_heads": 2, "head_dim": 16, "num_local_experts": 4, "vocab_size": 200},
        "input_ids=1x128:i64",
    ),
}


def _written(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "config.json"
    kind, sizes, _ = CONFIGS[name]
    path.write_text(json.dumps({"model_type": name, "architectures": [kind], **sizes}))
    return path


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_is_captured_with_inputs_of_its_kind(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    path = _written(tmp_path, name)
    for named in (path, path.parent):
        make, inputs, kind = hub_model(str(named))
        assert (kind, " ".join(inputs)) == (CONFIGS[name][0], CONFIGS[name][2])
    graph = capture(make, inputs, name=kind)
    assert not graph.unknown
    assert graph.parameters == sum(weight.numel() for weight in make().parameters())


def test_experts_share_the_rows_whatever_the_format(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    make, inputs, _ = hub_model(str(_written(tmp_path, "mixtral")))
    graphs = [capture(make, inputs, dtype=dtype) for dtype in ("f32", "bf16")]
    wide, narrow = ([step.op.work.flop for step in graph.steps if step.op.row.gemm] for graph in graphs)
    assert sum(wide) == sum(narrow)
    assert all("equally shared" in graph.notes[0] for graph in graphs)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model_type": "no-such"}'])
def test_what_is_no_configuration_is_one_sentence(text: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="is no configuration"):
        hub_model(str(path))


def test_without_transformers_the_command_to_install_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(CannotRun, match="pip install transformers"):
        hub_model("gpt2")
