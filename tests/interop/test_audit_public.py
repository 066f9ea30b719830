"""The system files of five public tools, as they were in November 2026 (numbers alone): no false error, all listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from places import DATA

from microbench.interop.audit import Checked, audit
from microbench.interop.declared import numbers_in
from microbench.interop.references import candidates

PUBLIC: dict[str, dict[str, Any]] = json.loads((DATA / "audit" / "public.json").read_text(encoding="utf-8"))
FILES = [(tool, name) for tool, files in PUBLIC.items() for name in files]

# What is wrong in them, each looked up on the vendor's sheet; everything else is right, or a warning at most.
FAULTS = {
    ("aiconfigurator-core 0.12.0", "rtx_pro_6000_server", "gpu.mem_bw"),  # 1597 GB/s; 1792 is the workstation card's
    ("calculon caa4b11", "a100_80e", "mem1.GiB"),  # 80 billion GiB: a memory without end, to study what it would bring
    ("llm-analysis d841e40", "v100-sxm-16gb", "mem_per_GPU_in_GB"),  # 32
    ("GenZ 091bdd0", "system_configs", "system_configs.GH200_GPU.Flops"),  # with sparsity
    ("GenZ 091bdd0", "system_configs", "system_configs.B100.Flops"),
    ("GenZ 091bdd0", "system_configs", "system_configs.GB200.Flops"),
}


def audited(tmp_path: Path, tool: str, name: str) -> list[Checked]:
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(PUBLIC[tool][name]), encoding="utf-8")
    return audit(path)


@pytest.mark.parametrize(("tool", "name"), FILES)
def test_a_public_system_file_has_no_false_error(tmp_path: Path, tool: str, name: str) -> None:
    wrong = {(tool, name, each.declared.where) for each in audited(tmp_path, tool, name) if each.status == "fault"}
    assert wrong == {fault for fault in FAULTS if fault[:2] == (tool, name)}


@pytest.mark.parametrize(("tool", "name"), FILES)
def test_every_number_of_a_public_system_file_is_listed(tmp_path: Path, tool: str, name: str) -> None:
    found = audited(tmp_path, tool, name)
    assert sum(each.count for each in found) == sum(count for _, _, count in numbers_in(PUBLIC[tool][name]))
    assert all(each.reference is not None or each.why for each in found if each.count)


@pytest.mark.parametrize(
    ("tool", "name", "where"),
    [
        ("aiconfigurator-core 0.12.0", "h100_sxm", {"node.intra_node_bw", "node.pcie_bw", "gpu.fp8_tc_flops"}),
        ("aiconfigurator-core 0.12.0", "a100_pcie", {"node.intra_node_bw", "node.pcie_bw", "gpu.int8_tc_flops"}),
        ("calculon caa4b11", "a100_80g", {"networks.0.bandwidth", "matrix.float16.tflops", "vector.float16.tflops"}),
        ("llm-analysis d841e40", "v100-pcie-16gb", {"intra_node_bandwidth_in_GB_per_sec", "peak_fp16_TFLOPS"}),
        ("llm-analysis d841e40", "a6000-48gb", {"intra_node_bandwidth_in_GB_per_sec"}),
    ],
)
def test_links_and_rates_of_a_known_card_are_checked(tmp_path: Path, tool: str, name: str, where: set[str]) -> None:
    assert where <= {each.declared.where for each in audited(tmp_path, tool, name) if each.status == "checked"}


def aiconfigurator(tmp_path: Path, **changed: float) -> dict[str, tuple[str, str | None]]:
    document = {
        "data_dir": "data/h100_sxm",
        "gpu": {"mem_bw": 3350e9, "bfloat16_tc_flops": 989e12, **{k: v for k, v in changed.items() if "_bw" not in k}},
        "node": {key: value for key, value in changed.items() if "_bw" in key},
    }
    path = tmp_path / "x.json"
    path.write_text(json.dumps(document))
    return {
        each.declared.where: (each.status, each.finding.code if each.finding else None)
        for each in audit(path)
        if each.count
    }


@pytest.mark.parametrize(
    ("key", "value", "status", "code"),
    [
        ("intra_node_bw", 450e9, "checked", None),  # NVLink, one direction
        ("intra_node_bw", 900e9, "fault", "declared-both-ways"),
        ("intra_node_bw", 64e9, "checked", None),  # without NVLink
        ("intra_node_bw", 3600e9, "fault", "declared-unit"),  # Gbit/s
        ("intra_node_bw", 450, "fault", "declared-unit"),
        ("intra_node_bw", 200e9, "doubtful", "declared-off"),  # fewer links than the card has: a machine may
        ("pcie_bw", 64e9, "checked", None),
        ("pcie_bw", 128e9, "fault", "declared-both-ways"),
        ("pcie_bw", 16e9, "doubtful", "declared-off"),
        ("inter_node_bw", 50e9, "not checked", None),  # the network of a cluster
        ("float16_tc_flops", 989e12, "checked", None),
        ("float16_tc_flops", 1979e12, "fault", "declared-sparse"),
        ("mystery_tc_flops", 1e15, "not checked", None),
    ],
)
def test_links_are_held_against_one_direction_and_keys_of_real_files_are_known(
    tmp_path: Path, key: str, value: float, status: str, code: str | None
) -> None:
    found = aiconfigurator(tmp_path, **{key: value})
    where = f"{'node' if '_bw' in key else 'gpu'}.{key}"
    assert found[where] == (status, code)


def names(name: str, capacity: float | None = None) -> list[str]:
    return [gpu.name for gpu in candidates(name, capacity)]


def test_a_family_means_all_its_members() -> None:
    assert names("A100") == ["A100 SXM4 40GB", "A100 SXM4 80GB", "A100 PCIe 40GB", "A100 PCIe 80GB"]
    assert names("A100 80GB") == ["A100 SXM4 80GB", "A100 PCIe 80GB"]
    assert names("A100", 80e9) == ["A100 SXM4 80GB", "A100 PCIe 80GB"]
    assert names("V100 PCIe") == ["V100 PCIe 16GB", "V100 PCIe 32GB"]
    assert len(names("nvidia_V100")) == 4
    assert names("NVIDIA H100 80GB HBM3") == ["H100 SXM5 80GB"]
    assert names("H100-PCIE-80GB") == ["H100 PCIe"]


@pytest.mark.parametrize(
    ("name", "bandwidth", "f16"),
    [
        ("A100", 1555, 312),
        ("A100", 2039, 312),
        ("A100", 1935, 312),
        ("V100", 900, 112),
        ("V100", 900, 125),
        ("H100", 3938, 835),
    ],
)
def test_figures_of_any_member_are_right_for_the_family(
    tmp_path: Path, name: str, bandwidth: float, f16: float
) -> None:
    path = tmp_path / "x.toml"
    path.write_text(f'[[device]]\nname = "{name}"\nbandwidth = "{bandwidth} GB/s"\ncompute.f16 = "{f16} TFLOP/s"\n')
    assert [each.finding for each in audit(path) if each.finding] == []


@pytest.mark.parametrize("rate", [362, 724])
def test_both_rates_that_two_sheets_print_of_one_card_are_accepted(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "x.toml"
    path.write_text(
        f'[[device]]\nname = "L40"\nbandwidth = "864 GB/s"\ncompute.i8 = "{rate} TOPS"\n'.replace("TOPS", "TOP/s")
    )
    assert [each.finding for each in audit(path) if each.finding] == []


def test_another_card_s_figure_needs_a_related_name_a_second_one_or_its_entry_in_the_file(tmp_path: Path) -> None:
    def code(text: str) -> dict[str, str]:
        path = tmp_path / "x.toml"
        path.write_text(text)
        return {each.declared.where: each.finding.code for each in audit(path) if each.finding}

    lone = '[[device]]\nname = "NVIDIA L4"\nbandwidth = "448 GB/s"\ncompute.bf16 = "121 TFLOP/s"\n'
    assert code(lone) == {"NVIDIA L4.bandwidth": "declared-off"}  # an RTX 5060 has that, among others
    two = '[[device]]\nname = "NVIDIA L4"\nbandwidth = "3350 GB/s"\ncompute.bf16 = "989 TFLOP/s"\n'
    assert set(code(two).values()) == {"declared-other-product"}
    beside = lone + '[[device]]\nname = "RTX 5060"\nbandwidth = "448 GB/s"\ncompute.f32 = "19.2 TFLOP/s"\n'
    assert code(beside)["NVIDIA L4.bandwidth"] == "declared-other-product"


def test_an_unknown_device_is_held_against_what_any_has(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('[[device]]\nname = "Foo 9000"\nbandwidth = "300 EB/s"\ncompute.f32 = "1e25 FLOP/s"\n')
    assert [each.status for each in audit(path)] == ["fault", "fault"]
