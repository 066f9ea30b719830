"""Declared values that are wrong are caught with their cause, and correct files raise nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import DATA

from microbench.errors import UsageError
from microbench.interop import formats, readers, render
from microbench.interop.audit import audit, check, recognise
from microbench.interop.documents import parse
from microbench.interop.references import candidates, words
from microbench.records import Ceiling, Characterisation, Device, Estimate

TABLES = DATA / "audit"


def found(path: Path, against: Characterisation | str | None = None) -> dict[str, str]:
    """Code of each finding by the place of the number."""
    return {each.declared.where: each.finding.code for each in audit(path, against) if each.finding}


# The faults of declared values and units in the tables of popular tools (one of the rows names two faults of one
# entry).
FAULTS = [
    ("torch_device_info.py", "NVIDIA L4.dram_bw_gbs", "declared-other-product"),
    ("torch_device_info.py", "NVIDIA L4.tops.bfloat16", "declared-sparse"),
    ("torch_device_info.py", "NVIDIA L4.tops.int8", "declared-sparse"),
    ("torch_device_info.py", "NVIDIA H100.tops.float32", "declared-half"),
    ("typed_in.toml", "NVIDIA H100 80GB HBM3.compute.bf16", "declared-half"),
    ("genz_system_configs.py", "system_configs.GH200_GPU.Flops", "declared-sparse"),
    ("genz_system_configs.py", "system_configs.GB200.Flops", "declared-sparse"),
    ("onnx_tool_device.py", "Devices.H100-PCIe.FP16", "declared-sparse"),
    ("onnx_tool_device.py", "Devices.A100-40GB-PCIe.Bandwidth", "declared-other-product"),
    ("onnx_tool_device.py", "Devices.RTX-5090.INT8", "declared-sparse"),
    ("typed_in.toml", "H200 SXM.compute.bf16", "declared-sparse"),
    ("typed_in.toml", "B200.compute.bf16", "declared-sparse"),
    ("typed_in.toml", "RTX 4090 Laptop.bandwidth", "declared-other-product"),
]


@pytest.mark.parametrize(("name", "where", "code"), FAULTS)
def test_a_fault_of_a_popular_table_is_caught(name: str, where: str, code: str) -> None:
    assert found(TABLES / name)[where] == code


def test_a_bandwidth_in_bytes_where_gigabytes_are_read_is_a_wrong_unit() -> None:
    assert found(TABLES / "astra_bytes.json", "H100") == {"local-mem-bw": "declared-unit"}


def test_correct_files_raise_nothing() -> None:
    assert found(TABLES / "correct.toml") == {}
    assert found(TABLES / "correct_calculon.json", "A100 80GB") == {}


def test_a_correct_entry_beside_wrong_ones_raises_nothing() -> None:
    assert not [where for where in found(TABLES / "torch_device_info.py") if where.startswith("NVIDIA A100")]


@pytest.mark.parametrize(
    ("bandwidth", "code"),
    [
        ("300 MB/s", "declared-unit"),
        ("300 TB/s", "declared-unit"),
        ("300 Gbit/s", "declared-unit"),
        ("2400 GB/s", "declared-unit"),
        ("300 GiB/s", "declared-unit"),
        ("500 GB/s", "declared-off"),
        ("270 GB/s", "declared-off"),
        ("305 GB/s", None),
    ],
)
def test_units_of_bandwidth_are_told_apart(tmp_path: Path, bandwidth: str, code: str | None) -> None:
    path = tmp_path / "x.toml"
    path.write_text(
        f'[[device]]\nname = "NVIDIA L4"\nbandwidth = "{bandwidth}"\ncompute = {{ bf16 = "121 TFLOP/s" }}\n'
    )
    assert found(path) == ({"NVIDIA L4.bandwidth": code} if code else {})


def test_a_rate_is_another_cards_only_where_the_name_is_related(tmp_path: Path) -> None:
    # 51 TFLOP/s are printed for an H100 PCIe and an H800 PCIe, and an RTX PRO 4500 comes within a percent of it.
    path = tmp_path / "x.toml"
    path.write_text(
        '[[device]]\nname = "NVIDIA L4"\nbandwidth = "300 GB/s"\ncompute = { f32 = "51 TFLOP/s" }\n'
        '[[device]]\nname = "H100 SXM5 80GB"\nbandwidth = "3350 GB/s"\ncompute = { f32 = "51 TFLOP/s" }\n'
    )
    says = found(path)
    assert says["NVIDIA L4.compute.f32"] == "declared-off"
    assert says["H100 SXM5 80GB.compute.f32"] == "declared-other-product"


def test_a_missing_entry_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('[[device]]\nname = "NVIDIA L4"\nbandwidth = "300 GB/s"\n')
    findings = [each.finding for each in audit(path) if each.finding]
    assert [(finding.code, finding.says) for finding in findings] == [
        ("declared-missing", "NVIDIA L4 declares no compute")
    ]


def test_a_dtype_that_torch_s_table_lacks_is_named() -> None:
    says = [
        each.finding.says
        for each in audit(TABLES / "torch_device_info.py")
        if each.finding and each.finding.code == "declared-missing"
    ]
    assert "NVIDIA H100 has no entry for f8e4m3, which H100 SXM5 80GB can do" in says


def test_an_unknown_device_is_said_to_be_unchecked(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('[[device]]\nname = "Foo 9000"\nbandwidth = "300 GB/s"\n')
    assert set(found(path).values()) == {"declared-unknown"}


def measured(**facts: Any) -> Characterisation:
    """A fake device that reaches 90 TFLOP/s by an instruction loop, 80 by a library, and streams 250 GB/s."""

    def row(name: str, rate: float, **more: Any) -> Ceiling:
        estimate = Estimate(value=rate, low=rate, high=rate, basis="fake")
        defaults: dict[str, Any] = {
            "measures": "compute",
            "backend": "cuda",
            "scope": "device",
            "case": name,
            "dtype": "bf16",
        }
        return Ceiling(name=name, rate=estimate, **{**defaults, **more})

    ceilings = (
        row("mma", 90e12, unit="matrix"),
        row("matmul", 80e12, mode="library", backend="torch"),
        row("read", 250e9, measures="memory", level="DRAM", access="read", dtype="f32"),
    )
    device = Device(id="1", kind="cuda", name="Fake", arch="sm_00", memory_bytes=24 * 2**30)
    return replace(
        Characterisation(schema="1.0", device=device, environment=None, plan=None, ceilings=ceilings), **facts
    )


@pytest.mark.parametrize(
    ("bandwidth", "bf16", "codes"),
    [
        ("300 GB/s", "100 TFLOP/s", set()),
        ("260 GB/s", "92 TFLOP/s", set()),
        ("300 GB/s", "200 TFLOP/s", {"declared-sparse"}),
        ("300 GB/s", "50 TFLOP/s", {"declared-half"}),
        ("300 MB/s", "100 GFLOP/s", {"declared-unit"}),
        ("576 GB/s", "100 TFLOP/s", {"declared-off"}),
        ("200 GB/s", "100 TFLOP/s", {"declared-off"}),
    ],
)
def test_a_characterisation_bounds_what_can_be_declared(
    tmp_path: Path, bandwidth: str, bf16: str, codes: set[str]
) -> None:
    path = tmp_path / "x.toml"
    path.write_text(f'[[device]]\nname = "Fake"\nbandwidth = "{bandwidth}"\ncompute = {{ bf16 = "{bf16}" }}\n')
    assert set(found(path, measured()).values()) == codes


@pytest.mark.parametrize(
    "name", ["pytorch", "aiconfigurator", "calculon", "llm-viewer", "genz", "servcalc", "astra-sim", "llm-analysis"]
)
def test_what_is_exported_agrees_with_its_own_characterisation(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{formats()[name].suffix}"
    path.write_text(render(measured(), name).text)
    assert {code for code in found(path, measured()).values() if code != "declared-missing"} == set()


def test_names_of_one_card_are_recognised_and_relatives_are_not_confused() -> None:
    assert [gpu.name for gpu in candidates("nvidia_A100_80G", None)] == ["A100 SXM4 80GB", "A100 PCIe 80GB"]
    assert [gpu.name for gpu in candidates("a100_pcie", 80 * 2**30)] == ["A100 PCIe 80GB"]
    assert [gpu.name for gpu in candidates("NVIDIA GeForce RTX 4090 Laptop GPU", None)] == ["RTX 4090 Laptop"]
    assert candidates("RTX 5075", None) == []
    assert [gpu.name for gpu in candidates("RTX 5070", None)] == ["RTX 5070"]
    assert candidates("RTX 4090 Mobile", None) == []
    assert candidates("", None) == []
    assert words("H100-SXM5-80GB") == {"h100", "sxm", "80gb"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", "{"),
        ("a.json", '{"peak-perf": 1, "peak-perf": 2, "local-mem-bw": 1}'),
        ("a.json", '{"peak-perf": NaN, "local-mem-bw": 1}'),
        ("a.json", '{"peak-perf": 1e400, "local-mem-bw": 1}'),
        ("a.json", '{"peak-perf": -1, "local-mem-bw": 1}'),
        ("a.json", '{"peak-perf": true, "local-mem-bw": 1}'),
        ("a.json", '{"peak-perf": ' + "9" * 400 + ', "local-mem-bw": 1}'),
        ("a.json", "[" * 100_000),
        ("a.yaml", "gpu: [1"),
        ("a.yaml", "gpu: {mem_bw: 'fast'}"),
        ("a.yaml", "gpu: !!python/object:os.system {mem_bw: 1}"),
        ("a.toml", "device = 3"),
        ("a.toml", '[[device]]\nname = "x"\nbandwidth = "300 GB"\n'),
        ("a.toml", '[[device]]\nname = "x"\nbandwidth = 300\n'),
        ("a.toml", '[[device]]\nname = "x"\nbandwith = "300 GB/s"\n'),
        ("a.toml", '[[device]]\nname = "x"\ncompute = { bf15 = "1 TFLOP/s" }\n'),
        ("a.toml", '[[device]]\nname = ""\nbandwidth = "300 GB/s"\n'),
        ("a.py", "import os"),
        ("a.py", "Devices = {'x': 3}"),
        ("a.py", "Devices = {'x': {'FP32': 9**9**9}}"),
        ("a.py", "Devices = "),
        ("a.txt", ""),
        ("a.txt", "hello"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_sentence(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UsageError) as refusal:
        audit(path)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 600


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x00" * 10, None])
def test_bytes_that_are_no_text_and_missing_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError):
        audit(path)


def test_a_folder_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        audit(tmp_path)
    (tmp_path / "x.json").write_text(" " * 5_000_000)
    with pytest.raises(UsageError, match="has at most"):
        audit(tmp_path / "x.json")


def test_python_files_are_read_and_never_run(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("raise SystemExit(7)\nDevices = {'T4': {'FP32': 8100, 'FP16': 65 * 10**3, 'Bandwidth': 640 / 2}}\n")
    assert found(path) == {}


@contextmanager
def only_sentences() -> Iterator[None]:
    try:
        yield
    except UsageError as refusal:
        says = str(refusal)
    else:
        return
    assert "\n" not in says


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(), children, max_size=4)
    ),
    max_leaves=12,
)
KEYS = {
    "pytorch": ["_device_mapping", "TFLOPS", "DRAM_GBPS", "DRAM_GB", "NAME"],
    "aiconfigurator": ["gpu", "data_dir"],
    "calculon": ["matrix", "mem1", "processing_mode"],
    "llm-analysis": ["name", "peak_fp16_TFLOPS", "peak_i8_TFLOPS", "hbm_bandwidth_in_GB_per_sec", "mem_per_GPU_in_GB"],
    "llm-viewer": ["hardware_params"],
    "genz": ["system_configs"],
    "onnx-tool": ["Devices"],
    "servcalc": ["GPU", "SPECS"],
    "astra-sim": ["peak-perf", "local-mem-bw"],
    "toml": ["device"],
}
INNER = [
    "tops",
    "dram_bw_gbs",
    "dram_gb",
    "mem_bw",
    "mem_capacity",
    "bfloat16_tc_flops",
    "tflops",
    "GBps",
    "GiB",
    "FP16",
    "bandwidth",
    "name",
]


@pytest.mark.parametrize("form", sorted(KEYS))
@given(data=st.data())
def test_readers_answer_any_document_with_rows_or_a_sentence(form: str, data: st.DataObject) -> None:
    inner = st.dictionaries(st.sampled_from(INNER) | st.text(max_size=4), values, max_size=4)
    document = {
        key: data.draw(values | inner | st.dictionaries(st.text(max_size=4), inner, max_size=2)) for key in KEYS[form]
    }
    with only_sentences():
        rows = readers()[form](document)
        check(rows or [], form, None, "x")


@given(st.text(max_size=200), st.sampled_from([".json", ".yaml", ".toml", ".py", ""]))
def test_any_text_parses_or_is_refused_in_a_sentence(content: str, suffix: str) -> None:
    with only_sentences():
        recognise(parse(content, suffix, "x"), "x")


@given(st.data())
def test_mutilated_exports_parse_or_are_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(set(formats()) - {"pytorch-trace", "onnx-tool"})))
    content = list(render(measured(), name).text)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 30))] = data.draw(st.text(max_size=3))
        content = content or [" "]
    with only_sentences():
        form, rows = recognise(parse("".join(content), formats()[name].suffix, "x"), "x")
        check(rows, form, None, "x")


def test_json_fixture_is_what_the_simulator_reads() -> None:
    assert json.loads((TABLES / "astra_bytes.json").read_text())["roofline-enabled"] == 1


def test_a_measured_file_is_what_declarations_are_held_against() -> None:
    with pytest.raises(UsageError, match=r"--against here\.json"):
        recognise({"schema": "1.0", "device": {}, "ceilings": []}, "here.json")
