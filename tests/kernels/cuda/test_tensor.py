"""Descriptors, instruction words, images and fragments, field by field against the PTX ISA's tables."""

from __future__ import annotations

import numpy as np
import pytest
from ptx import fragments

from microbench.kernels.cuda import reference, shared, tensor
from microbench.kernels.cuda.number_formats import SIGN_MASK, decode, encode, pack, unpack
from microbench.kernels.cuda.rows import ROWS, CudaRow

TENSOR = [row for row in ROWS if row.family in tensor.VALUES]
ASYNCHRONOUS = [row for row in TENSOR if row.family != "mma"]


def field(word: int, low: int, high: int) -> int:
    return word >> low & ((1 << (high - low + 1)) - 1)


def name(row: CudaRow) -> str:
    return row.name


def test_the_wgmma_descriptor_has_its_fields_where_the_isa_puts_them() -> None:
    word = tensor.wgmma_descriptor(0x12340)
    assert field(word, 0, 13) == 0x1234  # address / 16
    assert field(word, 16, 29) == 128 // 16  # leading dimension: from the first 16 bytes of a row to the second
    assert field(word, 32, 45) == 256 // 16  # stride: from 8 rows to the next 8
    assert field(word, 49, 51) == 0  # base offset
    assert field(word, 62, 63) == 0  # no swizzle
    assert word & ~(0x3FFF | 0x3FFF << 16 | 0x3FFF << 32) == 0


def test_the_tcgen05_descriptor_adds_its_version() -> None:
    word = tensor.tcgen05_descriptor(0x400)
    assert field(word, 46, 48) == 0b001
    assert field(word, 52, 52) == 0  # leading offset is relative
    assert field(word, 61, 63) == 0  # no swizzle
    assert word & ~(7 << 46) == tensor.wgmma_descriptor(0x400)


@pytest.mark.parametrize(
    ("dtype", "accumulator", "operand"),
    [("f16", 1, 0), ("bf16", 1, 1), ("tf32", 1, 2), ("f8e4m3", 1, 0), ("f8e5m2", 1, 1), ("i8", 2, 1)],
)
def test_the_instruction_word_has_its_fields_where_the_isa_puts_them(
    dtype: str, accumulator: int, operand: int
) -> None:
    word = tensor.tcgen05_word(dtype, 128, 256)
    assert field(word, 0, 3) == 0  # dense, no saturation
    assert field(word, 4, 5) == accumulator
    assert field(word, 7, 9) == field(word, 10, 12) == operand
    assert field(word, 13, 16) == 0  # neither negated nor transposed
    assert field(word, 17, 22) == 256 // 8
    assert field(word, 24, 28) == 128 // 16
    assert word >> 29 == field(word, 23, 23) == field(word, 6, 6) == 0


@pytest.mark.parametrize(
    ("dtype", "depth", "rows"), [("f16", 16, 64), ("tf32", 8, 128), ("f8e4m3", 32, 256), ("i8", 32, 256)]
)
def test_an_image_puts_each_element_where_the_descriptor_looks_for_it(dtype: str, depth: int, rows: int) -> None:
    tile = tensor.operand(dtype, "exact", (rows, depth), 1)
    image = tensor.tile_image(dtype, tile)
    word = tensor.wgmma_descriptor()
    leading, stride = field(word, 16, 29) * 16, field(word, 32, 45) * 16
    width = 32 // depth
    # The canonical K-major layout without swizzle, in units of 16 bytes: ((8, m), (T, 2)) : ((1 T, SBO), (1, LBO)).
    for row, k in [(0, 0), (1, 0), (7, depth - 1), (8, 0), (rows - 1, depth // 2), (rows - 8, depth - 1)]:
        at = row % 8 * 16 + row // 8 * stride + k * width // 16 * leading + k * width % 16
        bits = int.from_bytes(image[at : at + width].tobytes(), "little")
        assert decode(dtype, np.array([bits]))[0] == tile[row, k]
    assert image.size == rows * 32


def test_an_image_uses_every_byte_once() -> None:
    marks = np.arange(64 * 32, dtype=np.int64).reshape(64, 32) % 251 - 125
    image = tensor.tile_image("i8", marks.astype(np.float64))
    assert sorted(image.view(np.int8).tolist()) == sorted(marks.reshape(-1).tolist())


@pytest.mark.parametrize("row", ASYNCHRONOUS, ids=name)
def test_the_expected_result_is_a_product_of_what_the_image_holds(row: CudaRow) -> None:
    assert row.dtype is not None
    made = tensor.VALUES[row.family](row, "exact")
    rows, columns, depth = tensor.shape_of(row)
    sizes = [rows] * 4 + [columns] * 2
    at, tiles = 32, []
    for size in sizes:  # read the image back by the layout's formula, not by the function that wrote it
        raw = made.inputs[at : at + size * 32].reshape(size // 8, 2, 8, 16).transpose(0, 2, 1, 3).reshape(size, 32)
        tiles.append(
            decode(row.dtype, unpack(row.dtype, np.ascontiguousarray(raw).view(np.uint32))).reshape(size, depth)
        )
        at += size * 32
    a, b, exchanged = tiles[:4], tiles[4], tiles[5]
    each = row.math_count // 4
    if row.family == "wgmma":
        sums = each * sum(a)
        one, two = sums @ b.T, sums @ (b + exchanged).T
    else:
        one, two = (
            np.concatenate([each * (a[i] + a[i + 2]) @ side.T for i in (0, 1)], axis=1) for side in (b, b + exchanged)
        )
    accumulator = np.float32 if row.accumulator == "f32" else np.int32
    for iterations, wanted in ((1, one), (2, two), (3, one + two)):
        seen = made.expected(iterations)
        assert seen is not None
        found = seen.view(accumulator).astype(np.float64)
        if row.family == "tcgen05":
            assert np.array_equal(found.reshape(512, 128).T, wanted)
        else:  # thread t of warp w holds rows 16 w + t / 4 (+ 8), columns 8 j + 2 (t mod 4) (+ 1)
            registers = found.reshape(128, 128)
            for register, thread in [(0, 0), (1, 5), (2, 37), (3, 127), (126, 64), (127, 31)]:
                warp, lane = divmod(thread, 32)
                m = 16 * warp + lane // 4 + 8 * (register >> 1 & 1)
                assert registers[register, thread] == wanted[m, 8 * (register >> 2) + 2 * (lane % 4) + (register & 1)]
            assert sorted(registers.reshape(-1).tolist()) == sorted(wanted.reshape(-1).tolist())


@pytest.mark.parametrize("row", [row for row in ASYNCHRONOUS if row.variant.endswith(".rs")], ids=name)
def test_register_fragments_hold_the_tiles_of_the_image(row: CudaRow) -> None:
    assert row.dtype is not None
    inputs = tensor.wgmma(row, "exact").inputs
    _, _, depth = tensor.shape_of(row)
    words = inputs[32 + row.shared_bytes :].view(np.uint32).reshape(4, 4, 128)
    e = depth // 8
    for tile in range(4):
        raw = (
            inputs[32 + tile * 2048 : 32 + (tile + 1) * 2048].reshape(8, 2, 8, 16).transpose(0, 2, 1, 3).reshape(64, 32)
        )
        matrix = decode(row.dtype, unpack(row.dtype, np.ascontiguousarray(raw).view(np.uint32))).reshape(64, depth)
        held = decode(row.dtype, unpack(row.dtype, words[tile][..., None]))
        for register, thread in [(0, 0), (1, 33), (2, 70), (3, 127)]:
            warp, lane = divmod(thread, 32)
            m = 16 * warp + lane // 4 + 8 * (register & 1)
            first = (register >> 1) * 4 * e + lane % 4 * e
            assert held[register, thread].tolist() == matrix[m, first : first + e].tolist()


@pytest.mark.parametrize("family", tensor.VALUES)
def test_an_odd_number_of_iterations_never_cancels(family: str) -> None:
    for row in (row for row in TENSOR if row.family == family):
        made = tensor.VALUES[family](row, "exact")
        zero = made.expected(0)
        assert zero is not None
        for iterations in (1, 3, 999_999):
            seen = made.expected(iterations)
            assert seen is not None
            assert np.mean(seen != zero) > 0.2, (row.name, iterations)


@pytest.mark.parametrize("family", tensor.VALUES)
def test_random_operands_keep_the_code_and_change_the_data(family: str) -> None:
    for row in (row for row in TENSOR if row.family == family):
        exact, random = (tensor.VALUES[family](row, kind) for kind in ("exact", "random"))
        assert exact.inputs.size == random.inputs.size, row.name
        assert np.unique(random.inputs).size > 2 * np.unique(exact.inputs).size, row.name
        assert row.accumulator == "i32" or random.expected(1) is None, row.name


@pytest.mark.parametrize("dtype", ["f16", "bf16", "tf32", "f64", "f8e4m3", "f8e5m2", "f4e2m1", "i8"])
def test_small_integers_survive_every_format(dtype: str) -> None:
    values = np.arange(-2, 3).astype(np.float64)
    assert decode(dtype, encode(dtype, values)).tolist() == values.tolist()
    count = 32 // {"f64": 64, "tf32": 32, "f8e4m3": 8, "f8e5m2": 8, "f4e2m1": 4, "i8": 8}.get(dtype, 16) or 1
    bits = encode(dtype, np.resize(values, 8 * count))
    assert unpack(dtype, pack(dtype, bits)).tolist() == bits.tolist()


def test_formats_agree_with_ml_tables_written_apart() -> None:
    bits = np.arange(256)
    for ours, theirs in (("f8e4m3", "e4m3"), ("f8e5m2", "e5m2")):
        mine = decode(ours, bits)
        other = fragments.decode(theirs, bits.astype(np.uint64))[:, 0]
        finite = np.isfinite(mine)
        assert np.array_equal(mine[finite], other[finite])
    assert np.flatnonzero(~np.isfinite(decode("f8e4m3", bits))).tolist() == [0x7F, 0xFF]
    assert decode("f8e4m3", np.array([0x7E]))[0] == 448
    assert decode("f8e5m2", np.array([0x7B]))[0] == 57344
    assert decode("f4e2m1", np.arange(16)).tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6]


def test_the_mask_flips_every_sign_of_a_word() -> None:
    for dtype, mask in SIGN_MASK.items():
        values = np.resize([1.0, -2.0, 2.0, -1.0], 8)
        words = pack(dtype, encode(dtype, values))
        flipped = decode(dtype, unpack(dtype, words ^ words.dtype.type(mask)))
        assert flipped.reshape(-1)[: values.size].tolist() == (-values).tolist()


def test_a_chase_meets_every_node_once_a_round() -> None:
    order = shared.cycle(97)
    successor = shared.links(order)
    at, seen = 0, []
    for _ in range(97):
        seen.append(at)
        at = int(successor[at])
    assert at == 0
    assert sorted(seen) == list(range(97))
    assert seen == order.tolist()


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_sums_of_the_mixed_kernel_on_tensor_cores_are_exact_in_fp32_in_whatever_order(dtype: str) -> None:
    elements = reference.pattern("mix", 0)
    values = decode(dtype, unpack(dtype, elements))
    tiles = shared._tiles(dtype)
    assert all(np.array_equal(tile, np.rint(tile)) and np.abs(tile).sum(axis=0).min() > 0 for tile in tiles)
    step = np.abs(np.diff(np.unique(np.abs(values)))).min()
    most = (
        np.abs(values).max() * max(np.abs(tile).sum(axis=0).max() for tile in tiles) * 128
    )  # of 256 products half go to one accumulator
    assert most / step < 1 << 24


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize("mmas", [1, 4, 256])
def test_any_two_lanes_exchanged_change_what_the_mixed_kernel_leaves(dtype: str, mmas: int) -> None:
    elements = reference.pattern("mix", 0)[:32]
    right = shared.multiplied(dtype, elements, mmas)
    for lane in range(31):
        swapped = elements.copy()
        swapped[[lane, lane + 1]] = swapped[[lane + 1, lane]]
        assert not np.array_equal(shared.multiplied(dtype, swapped, mmas), right), lane
