from __future__ import annotations

import dataclasses
import platform
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microbench.errors import UsageError
from microbench.hardware import nominal
from microbench.hardware.tables import gpus, ports, published
from microbench.records import Device, Sheet, Work

TFLOPS = 1e12


def cpu(arch: str, *features: str) -> Device:
    return Device(id="1", kind="cpu", name="CPU", arch=arch, features=features, units_by_kind={"core": 4})


def sheet(ports_word: str, lanes: int, flop_per_lane: int = 2, dtype: str = "f32") -> Sheet:
    return Sheet(
        name="fma.x",
        measures="compute",
        backend="native",
        device_kind="cpu",
        says="",
        dtype=dtype,
        ports=ports_word,
        lanes=lanes,
        flop_per_lane=flop_per_lane,
    )


def memory_sheet(width: int, loads: int, stores: int) -> Sheet:
    work = Work(bytes_read=loads * width // 8, bytes_written=stores * width // 8)
    return Sheet(
        name="copy.x",
        measures="memory",
        backend="native",
        device_kind="cpu",
        says="",
        ports=f"copy.v{width}",
        loads=loads,
        stores=stores,
        work=work,
    )


# --- GPUs
# ----------------------------------------------------------------------------------------------------------------------


def test_an_a100_gives_the_figures_of_its_data_sheet() -> None:
    found = nominal.named("A100")
    rates = {row.name: row.rate for row in found.rows}
    assert rates["vector f32"] == pytest.approx(19.5 * TFLOPS, rel=0.005)
    assert rates["vector f64"] == pytest.approx(9.7 * TFLOPS, rel=0.005)
    assert rates["vector f16"] == pytest.approx(78 * TFLOPS, rel=0.005)
    assert rates["matrix f16 (f32 accumulator)"] == pytest.approx(312 * TFLOPS, rel=0.005)
    expected = {
        "SMs": "108",
        "CUDA cores": "6912",
        "tensor cores": "432",
        "power limit": "400 W",
        "base clock": "1.095 GHz",
        "boost clock": "1.410 GHz",
    }
    assert expected.items() <= found.facts.items()


def test_the_formula_is_the_rate() -> None:
    for gpu in gpus.GPUS:
        for row in nominal.named(gpu.name).rows:
            terms = [float(term) for term in re.findall(r"(?:^|x |/ )([\d.]+)", row.formula)]
            product = terms[0] * terms[1] / 8 if row.name == "memory" else terms[0] * terms[1] * terms[2] * terms[3]
            assert row.rate == pytest.approx(product * 1e9, rel=0.001), (gpu.name, row)


@pytest.mark.parametrize(
    ("driver_says", "name"),
    [
        ("NVIDIA A100-SXM4-40GB", "A100 SXM4 40GB"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "A100 SXM4 40GB"),
        ("NVIDIA A100 80GB PCIe", "A100 PCIe 80GB"),
        ("Tesla V100-SXM2-32GB", "V100 SXM2 32GB"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM5 80GB"),
        ("NVIDIA GH200 480GB", "GH200 96GB"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000 Server"),
        ("NVIDIA RTX PRO 4500 Blackwell", "RTX PRO 4500"),
        ("NVIDIA GB300", "GB300"),
        ("NVIDIA GB10", "GB10"),
        ("NVIDIA B100", "B100"),
        ("NVIDIA H20", "H20 96GB"),
        ("NVIDIA H20-3e", "H20 141GB"),
        ("NVIDIA H800", "H800 SXM5 80GB"),
        ("NVIDIA H800 PCIe", "H800 PCIe 80GB"),
        ("NVIDIA A800-SXM4-80GB", "A800 SXM4 80GB"),
        ("NVIDIA A800 80GB PCIe", "A800 PCIe 80GB"),
        ("NVIDIA L20", "L20"),
        ("NVIDIA A16", "A16"),
        ("NVIDIA RTX 5000 Ada Generation", "RTX 5000 Ada"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "RTX 4070 Ti SUPER"),
        ("NVIDIA GeForce RTX 5070", "RTX 5070"),
    ],
)
def test_gpus_are_found_by_what_the_driver_calls_them(driver_says: str, name: str) -> None:
    gpu = gpus.find(driver_says)
    assert gpu is not None
    assert gpu.name == name


def test_an_unknown_name_gets_close_ones() -> None:
    with pytest.raises(UsageError, match=r"no GPU named 'H1000' .*H100 SXM5"):
        nominal.named("H1000")
    with pytest.raises(UsageError, match="known: "):
        nominal.named("")


def test_a_part_of_a_name_stands_for_every_card_that_has_it() -> None:
    rtx = {gpu.name for gpu in gpus.matching("rtx")}
    assert {"RTX 2080 Ti", "RTX A6000", "RTX 6000 Ada", "RTX 5090", "RTX PRO 6000 Server", "TITAN RTX"} <= rtx
    assert not rtx & {"A100 SXM4 40GB", "L40S", "GB10"}
    assert {gpu.name for gpu in gpus.matching("pro 6000")} == {
        "RTX PRO 6000",
        "RTX PRO 6000 Max-Q",
        "RTX PRO 6000 Server",
    }
    assert {gpu.name for gpu in gpus.matching("h800")} == {"H800 SXM5 80GB", "H800 PCIe 80GB"}
    assert gpus.matching("  ") == gpus.matching("geforce") == gpus.matching("voodoo") == ()
    with pytest.raises(UsageError, match=r"no GPU named 'blackwell pro 6000' .* it could be RTX PRO 6000"):
        nominal.named("blackwell pro 6000")


def test_integer_products_are_held_to_what_data_sheets_print() -> None:
    for name, printed in (("L40", 362e12), ("L20", 239e12), ("L40S", 733e12), ("H20", 296e12), ("A2", 36e12)):
        gpu = gpus.find(name)
        assert gpu is not None
        assert gpu.advertised["matrix", "i8"] == printed
        rates = {row.name: row.rate for row in nominal.named(name).rows}
        assert rates["matrix i8 (i32 accumulator)"] == pytest.approx(printed, rel=0.02)
    l40 = gpus.find("L40")
    assert l40 is not None
    with pytest.raises(ValueError, match="advertised matrix i8"):
        dataclasses.replace(l40, chip=gpus.CHIPS["ad10x"])


def test_a_figure_that_nobody_prints_is_unknown() -> None:
    h20, b100 = gpus.find("H20"), gpus.find("B100")
    assert h20 is not None
    assert b100 is not None
    assert "vector f64" not in {row.name for row in nominal.named("H20").rows}
    assert ("vector", "f32") not in h20.advertised
    assert b100.l2_bytes is None


def test_a_card_cut_down_for_export_does_not_stand_for_an_unknown_one_of_its_target() -> None:
    assert {name: gpus.chip("NVIDIA Next", name).name for name in ("sm_89", "sm_90a", "sm_121a")} == {  # type: ignore[union-attr]
        "sm_89": "ad10x_pro",
        "sm_90a": "gh100",
        "sm_121a": "gb20b",
    }


@given(st.text(max_size=30))
def test_any_name_is_found_or_refused_in_a_sentence(name: str) -> None:
    try:
        assert nominal.named(name).rows
    except UsageError as error:
        assert "in the table" in str(error)  # noqa: PT017


def test_a_wrong_sm_count_in_the_table_is_noticed() -> None:
    with pytest.raises(ValueError, match="advertised"):
        dataclasses.replace(gpus.GPUS[7], sms=gpus.GPUS[7].sms + 4)


def test_an_impossible_memory_is_noticed() -> None:
    with pytest.raises(ValueError, match="bus"):
        dataclasses.replace(gpus.GPUS[0], memory_bandwidth=100e12)


def test_published_figures_beyond_the_chip_are_refused() -> None:
    with pytest.raises(ValueError, match="beyond"):
        published.Published(
            gpu="L4", measures="compute", unit="vector", dtype="f32", value=60e12, mode="peak", source="x"
        )
    with pytest.raises(ValueError, match="beyond"):
        published.Published(
            gpu="L4", measures="memory", level="DRAM", access="read", value=400e9, mode="peak", source="x"
        )


def test_an_a100_and_an_h100_have_published_figures_with_sources() -> None:
    for name in ("A100", "H100"):
        rows = published.published(name)
        assert {"compute", "memory"} <= {row.measures for row in rows}
        assert all(row.source for row in rows)


def test_a_cuda_sheet_is_bounded_by_sms_times_the_chip() -> None:
    device = Device(id="1", kind="cuda", name="NVIDIA A100-SXM4-40GB", arch="sm_80", units_by_kind={"sm": 108})
    matrix = Sheet(
        name="mma.f16.f32",
        measures="compute",
        backend="cuda",
        device_kind="cuda",
        says="",
        unit="matrix",
        dtype="f16",
        accumulator="f32",
    )
    assert nominal.nominal_rate(matrix, device, clock_hz=1.41e9, threads=1) == pytest.approx(312e12, rel=0.005)
    mig = dataclasses.replace(device, name="NVIDIA A100-SXM4-40GB MIG 1g.5gb", units_by_kind={"sm": 14})
    assert nominal.nominal_rate(matrix, mig, clock_hz=1.41e9, threads=1) == pytest.approx(312e12 * 14 / 108, rel=0.005)
    assert nominal.nominal_rate(dataclasses.replace(matrix, dtype="f8e4m3"), device, clock_hz=1.41e9, threads=1) is None


# --- CPUs
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "word", "lanes", "flop_per_cycle"),
    [
        ("haswell", "fma.v256", 8, 32),
        ("cascadelake", "fma.v512", 16, 64),
        ("zen4", "fma.v512", 16, 32),
        ("zen5", "fma.v512", 16, 64),
        ("zen", "fma.v256", 8, 16),
        ("neoverse_v2", "fma.v128", 4, 32),
        ("neoverse_n1", "fma.v128", 4, 16),
    ],
)
def test_fma_rates_are_lanes_times_ports_times_two(arch: str, word: str, lanes: int, flop_per_cycle: float) -> None:
    rate = nominal.nominal_rate(sheet(word, lanes), cpu(arch), clock_hz=3e9, threads=2)
    assert rate == pytest.approx(flop_per_cycle * 3e9 * 2)


def test_int8_dots_and_tiles_count_their_operations() -> None:
    device = cpu("sapphirerapids")
    assert nominal.nominal_rate(sheet("dot_i8.v512", 16, 8, "i8"), device, clock_hz=1e9, threads=1) == pytest.approx(
        256e9
    )
    assert nominal.nominal_rate(sheet("tile.amx", 256, 128, "i8"), device, clock_hz=1e9, threads=1) == pytest.approx(
        2048e9
    )


def test_memory_rates_are_bound_by_loads_or_stores_whichever_take_longer() -> None:
    device = cpu("cascadelake")
    assert nominal.nominal_rate(memory_sheet(512, 16, 0), device, clock_hz=1e9, threads=1) == pytest.approx(128e9)
    assert nominal.nominal_rate(memory_sheet(512, 0, 16), device, clock_hz=1e9, threads=1) == pytest.approx(64e9)
    assert nominal.nominal_rate(memory_sheet(512, 8, 8), device, clock_hz=1e9, threads=1) == pytest.approx(128e9)
    assert nominal.nominal_rate(memory_sheet(512, 16, 8), device, clock_hz=1e9, threads=1) == pytest.approx(192e9)


def mixed(fused: int, beside: dict[str, int], width: str = "v256", lanes: int = 8) -> Sheet:
    return dataclasses.replace(sheet(f"{'fma' if fused else 'mul'}.{width}", lanes), math=fused, beside=beside)


@pytest.mark.parametrize(
    ("arch", "fused", "beside", "flop_per_cycle"),
    [
        ("zen3", 48, {"add": 48}, 48),  # 2 multiply-adds and 2 additions a cycle
        ("zen3", 48, {"add": 24}, 40),  # 2 and 1: the pipes of multiply-adds are full
        ("zen3", 48, {"add": 96}, 32),  # 1 and 2: those of additions are
        ("skylake", 48, {"add": 48}, 24),  # 2 of either together: no gain
        ("skylake", 48, {}, 32),
        ("haswell", 48, {"add": 48}, 24),  # an addition has one port, which multiply-adds share
        ("golden_cove", 48, {"add": 48}, 36),  # 3 together
        ("golden_cove", 48, {"add": 24}, 40),
        ("lion_cove", 48, {"add": 48}, 48),
        ("sandybridge", 0, {"mul": 60, "add": 60}, 16),
        ("core2", 0, {"mul": 60, "add": 60}, None),  # it has no 256 bits
        ("zen2", 48, {"add": 48}, None),  # how many start together is not known
        ("zen2", 48, {}, 32),
    ],
)
def test_a_mix_is_bound_by_each_kind_and_by_all_together(
    arch: str, fused: int, beside: dict[str, int], flop_per_cycle: float | None
) -> None:
    row = dataclasses.replace(mixed(fused, beside), flop_per_lane=2 if fused else 1)
    assert nominal.per_cycle(row, cpu(arch)) == (None if flop_per_cycle is None else pytest.approx(flop_per_cycle))


def test_products_and_sums_of_the_oldest_cores_have_a_nominal_rate() -> None:
    row = mixed(0, {"mul": 60, "add": 60}, "v128", lanes=4)
    assert nominal.per_cycle(row, cpu("nehalem")) == 8


def test_a_sequence_of_bytes_counts_as_one_dot_product() -> None:
    row = dataclasses.replace(sheet("madd_i8.v256", 8, 8, "i8"), math=40, beside={"widen": 80})
    assert nominal.per_cycle(row, cpu("zen3")) == 64
    assert nominal.per_cycle(row, cpu("haswell")) == 32


def test_the_peak_of_multiply_adds_and_additions_is_a_row_of_its_own() -> None:
    rows = {row.name: row for row in nominal.described(cpu("zen3", "sse2", "avx2")).rows}
    assert rows["vector 256 bit f32"].per_cycle == 4 * 32
    assert rows["vector 256 bit f32 FMA + ADD"].per_cycle == 4 * 48
    assert rows["vector 256 bit f32 FMA + ADD"].formula == "4 cores x (2 FMA x 2 + 2 ADD) x 8 lanes x clock FLOP"
    assert not any("ADD" in row.name for row in nominal.described(cpu("skylake", "sse2", "avx2")).rows)
    older = {row.name: row for row in nominal.described(cpu("nehalem", "sse2")).rows}
    assert older["vector 128 bit f32 MUL + ADD"].per_cycle == 4 * 8


@pytest.mark.parametrize(
    ("arch", "loads", "stores"),
    [("zen3", 2, 1), ("zen4", 2, 1), ("zen5", 2, 2), ("skylake", 2, 1), ("golden_cove", 3, 2)],
)
def test_scalars_of_memory_loops_are_those_of_floating_point(arch: str, loads: int, stores: int) -> None:
    # movsd and movaps take the same pipes; that Zen 3 starts three loads a cycle holds for integer registers alone.
    row = ports.PORTS[arch].per_cycle
    assert (row["load.scalar"], row["store.scalar"]) == (loads, stores)


@pytest.mark.parametrize("arch", ["x86_64_v3", "aarch64", "pentium4", ""])
def test_a_chip_that_is_not_in_the_table_has_no_nominal(arch: str) -> None:
    device = cpu(arch)
    assert nominal.nominal_rate(sheet("fma.v256", 8), device, clock_hz=3e9, threads=1) is None
    described = nominal.described(device)
    assert described.rows == ()
    assert "not in the port table" in described.notes[0]


def test_a_word_that_the_row_lacks_has_no_nominal() -> None:
    assert nominal.nominal_rate(sheet("fma.v512", 16), cpu("haswell"), clock_hz=3e9, threads=1) is None


def test_a_hypervisor_that_reports_an_older_model_is_seen_through() -> None:
    masked = cpu("icelake", "sse2", "avx2", "avx512f", "amx_tile", "amx_int8", "amx_bf16")
    row = nominal.ports_of(masked)
    assert row is not None
    assert row.arch == "sapphirerapids"
    assert any("calls itself icelake" in note for note in nominal.described(masked).notes)
    plain = nominal.ports_of(cpu("icelake", "sse2", "avx512f"))
    assert plain is not None
    assert plain.arch == "icelake"


def test_a_cpu_without_a_known_clock_still_gets_its_work_per_cycle() -> None:
    found = nominal.described(cpu("cascadelake", "sse2", "avx2"))
    by_name = {row.name: row for row in found.rows}
    assert by_name["vector 256 bit f32"].per_cycle == 4 * 2 * 8 * 2
    assert by_name["vector 256 bit f32"].rate is None
    assert "vector 512 bit f32" not in by_name, "the feature list has no avx512f"
    assert any("'microbench run' measures it" in note for note in found.notes)
    clocked = nominal.described(dataclasses.replace(cpu("cascadelake"), boost_clock_hz=3e9))
    assert {row.name: row.rate for row in clocked.rows}["vector 512 bit f64"] == pytest.approx(4 * 2 * 8 * 2 * 3e9)


def test_every_row_counts_what_its_instruction_sets_offer() -> None:
    for row in ports.PORTS.values():
        # Every width that has arithmetic has loads and stores too, as far as those are known at all.
        first = "fma" if "fma.v128" in row.per_cycle else "mul"
        widths = [width for width in ("scalar", "v128", "v256", "v512") if f"{first}.{width}" in row.per_cycle]
        assert {"scalar", "v128"} <= set(widths), row.arch
        for kind in ("load", "store"):
            counted = {f"{kind}.{width}" for width in widths}
            assert counted <= set(row.per_cycle) or not counted & set(row.per_cycle), row.arch
        assert row.source


@pytest.mark.parametrize(
    "row",
    [
        {"per_cycle": {"fma.v1024": 2}},
        {"per_cycle": {"fma.v128": 0}},
        {"per_cycle": {"fma.v128": 1, "fma.v256": 2, "load.v128": 1, "store.v128": 1}},
        {"per_cycle": {"fma.v128": 2, "load.v128": 1, "store.v128": 1}, "varies": {"fma.v128": 4}},
        {"per_cycle": {"add.v128": 2}},
        {"per_cycle": {"fma.v128": 2, "add.v128": 2, "arith.v128": 5}},
        {"per_cycle": {"fma.v128": 2, "add.v128": 2, "arith.v128": 1}},
    ],
)
def test_a_row_that_cannot_be_is_refused(row: dict[str, dict[str, float]]) -> None:
    with pytest.raises(ValueError, match="ports of x"):
        ports.Ports(arch="x", source="y", **row)


def test_the_table_knows_every_word_of_the_native_kernels() -> None:
    pytest.importorskip("microbench._cpu", reason="the CPU module is not built here")
    from microbench.kernels.cpu import sheets

    # A string instruction moves as many bytes a cycle as its microcode likes: it has no ports, and no nominal rate. Nor
    # has what loads main memory beside a chase: it is no ceiling.
    bound = [
        row
        for row in sheets()
        if row.measures in ("compute", "memory") and row.variant != "rep" and not row.takes("loaded")
    ]
    assert bound
    for row in bound:
        assert row.ports is not None, row.name
        _, _, width = row.ports.partition(".")
        words = {row.ports}
        if row.measures == "memory":
            words = {f"{kind}.{width}" for kind, uses in (("load", row.loads), ("store", row.stores)) if uses}
        assert words <= set(ports.WORDS), row.name


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the rows of this build are those of another architecture")
@pytest.mark.parametrize("arch", ["cascadelake", "icelake", "sapphirerapids", "zen4", "zen5"])
def test_a_server_core_bounds_every_native_kernel_that_its_instruction_sets_can_run(arch: str) -> None:
    pytest.importorskip("microbench._cpu", reason="the CPU module is not built here")
    from microbench.kernels.cpu import sheets

    lacking = {"cascadelake": ("bf16", "f16"), "icelake": ("bf16", "f16"), "zen4": ("f16",), "zen5": ("f16",)}.get(
        arch, ()
    )
    for row in sheets():
        if (
            row.measures not in ("compute", "memory")
            or row.dtype in lacking
            or (row.unit == "matrix" and arch != "sapphirerapids")
        ):
            continue
        if row.variant == "rep" or row.takes("loaded"):
            continue
        assert nominal.nominal_rate(row, cpu(arch), clock_hz=1e9, threads=1), row.name
