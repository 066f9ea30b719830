from __future__ import annotations

import io
from contextlib import suppress
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microbench.errors import UsageError
from microbench.operators import OPERATORS, op, parse, read_rows, table_files, table_of


def test_a_matmul_counts_a_multiply_add_as_two() -> None:
    work = op("matmul", m=3, n=5, k=7, dtype="f16").work
    assert (work.flop, work.bytes_read, work.bytes_written) == (2 * 3 * 5 * 7, 2 * (3 * 7 + 7 * 5), 2 * 3 * 5)


def _counted_convolution(stride: int, pad: int, groups: int) -> tuple[int, int]:
    """Multiply-adds (padding included, as convolution libraries count) and outputs, by walking every loop."""
    n, c_in, c_out, size, kernel = 2, 4, 8, 6, 3
    out = len(range(0, size + 2 * pad - kernel + 1, stride))
    products = sum(
        1
        for _ in product(
            range(n), range(c_out), range(out), range(out), range(c_in // groups), range(kernel), range(kernel)
        )
    )
    return products, n * c_out * out * out


@pytest.mark.parametrize(("stride", "pad", "groups"), [(1, 0, 1), (2, 1, 1), (1, 1, 2), (2, 2, 4)])
def test_a_convolution_counts_what_its_loops_count(stride: int, pad: int, groups: int) -> None:
    products, outputs = _counted_convolution(stride, pad, groups)
    work = op("conv2d", n=2, c_in=4, c_out=8, h=6, kh=3, stride=stride, pad=pad, groups=groups).work
    assert work.flop == 2 * products
    assert work.bytes_written == 4 * outputs
    assert work.parameters == 8 * (4 // groups) * 9


@pytest.mark.parametrize(("q_len", "kv_len"), [(1, 1), (4, 4), (1, 9), (3, 7), (7, 3)])
def test_a_causal_mask_lets_the_last_query_see_every_key(q_len: int, kv_len: int) -> None:
    pairs = sum(1 for q in range(q_len) for k in range(kv_len) if k <= kv_len - q_len + q)
    work = op("attention", b=1, heads=2, q_len=q_len, kv_len=kv_len, head_dim=8, causal=1).work
    assert work.flop == 4 * 2 * pairs * 8


def test_missing_keys_take_the_obvious_default() -> None:
    made = op("conv2d", n=1, c_in=3, c_out=8, h=10, kh=3)
    assert made.params | {"w": 10, "kw": 3, "stride": 1, "pad": 0, "dilation": 1, "groups": 1} == made.params


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("matmull:m=1,n=1,k=1", "did you mean matmul"),
        ("matmul:m=1,n=1", "needs k"),
        ("matmul:m=1,n=1,k=1,z=2", "no key 'z'"),
        ("matmul:m=0,n=1,k=1", "m is 0"),
        ("matmul:m=-4,n=1,k=1", "'-4'"),
        ("matmul:m=1.5,n=1,k=1", "'1.5'"),
        ("matmul:m=99999999999999999999,n=1,k=1", "whole number"),
        ("matmul:m=9999999999,n=9999999999,k=9999999999", "2^63"),
        ("matmul:m=1,m=2,n=1,k=1", "given twice"),
        ("matmul:m=1,n=1,k=1,dtype=f33", "unknown dtype"),
        ("matmul:m=1,n=1,k=1,launch=soon", "launch"),
        ("conv2d:n=1,c_in=3,c_out=8,h=10,kh=3,groups=2", "groups must divide"),
        ("conv2d:n=1,c_in=3,c_out=8,h=2,kh=5", "larger than the padded input"),
        ("attention:b=1,heads=6,kv_heads=4,q_len=2,head_dim=8", "kv_heads must divide"),
        ("max_pool2d:n=1,c=1,h=8,kh=2,pad=3", "half the window"),
    ],
)
def test_a_wrong_expression_gives_one_sentence(expression: str, says: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse(expression)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_columns_and_single_operators_count_alike(name: str) -> None:
    one = op(name, **OPERATORS[name].example)
    for direction in ("forward", "backward") if OPERATORS[name].backward else ("forward",):
        made = op(name, direction=direction, dtype="bf16", **one.params)
        counts = table_of([made, made]).batches[0].counts()
        work = made.work
        assert [int(counts[key][1]) for key in ("flop", "bytes_read", "bytes_written", "parameters")] == [
            work.flop,
            work.bytes_read,
            work.bytes_written,
            work.parameters,
        ]
        assert direction == "backward" or work.bytes > 0


def test_a_table_keeps_right_rows_and_names_the_wrong_ones() -> None:
    rows = (
        "matmul,f32,m=8;n=8;k=8,1e-6",
        "matmul,f32,m=8;n=8,1e-6",
        "matmul,f32,k=4;m=2;n=9,nan",
        "nope,f32,m=1,1",
        "relu,bf16,size=10,2e-6",
    )
    text = "\n".join(("# note", "op,dtype,params,seconds", *rows))
    table = read_rows(io.StringIO(text), need_seconds=True)
    assert sorted(int(place) for batch in table.batches for place in batch.index) == [0, 4]
    assert sorted(table.faults) == [1, 2, 3]
    assert "needs k" in table.faults[1]
    assert "positive number of seconds" in table.faults[2]


def test_reordered_keys_are_read_by_name() -> None:
    table = read_rows(io.StringIO("op,dtype,params\nmatmul,f32,k=4;m=2;n=9\nmatmul,f32,m=2;n=9;k=4\n"))
    shapes = {key: column.tolist() for key, column in table.batches[0].shape.items()}
    assert shapes == {"m": [2, 2], "n": [9, 9], "k": [4, 4]}


def test_milliseconds_are_not_taken_for_seconds() -> None:
    with pytest.raises(UsageError, match="latency_ms"):
        read_rows(io.StringIO("op,dtype,params,latency_ms\nmatmul,f32,m=1;n=1;k=1,3\n"), need_seconds=True)


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=60)
    | st.from_regex(r"(matmul|relu|conv2d|attention)(:([a-z_]{1,8}=-?[0-9a-z.]{0,22}[,; ]?){0,9})?", fullmatch=True)
)
def test_any_expression_is_an_operator_or_a_sentence(expression: str) -> None:
    made = None
    with suppress(UsageError):
        made = parse(expression)
    assert made is None or made.work.bytes >= 0


_CELLS = st.sampled_from(
    [
        "op",
        "dtype",
        "params",
        "seconds",
        "matmul",
        "relu",
        "f32",
        "m=8;n=8;k=8",
        "size=9",
        "m=",
        "=",
        "nan",
        "-1",
        "1e-5",
        "",
        '"',
        "#",
        "eager",
        "launch",
        "\x00",
        "é",
        "m=8;m=8",
        "m=9223372036854775808;n=1;k=1",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(_CELLS, min_size=1, max_size=6).map(",".join), max_size=6).map("\n".join), st.booleans())
def test_any_csv_is_a_table_or_a_sentence(text: str, headed: bool) -> None:
    table = None
    with suppress(UsageError):
        table = read_rows(io.StringIO(("op,dtype,params,seconds\n" if headed else "") + text))
    assert table is None or sum(len(batch) for batch in table.batches) + len(table.faults) == table.size


def test_overflowing_columns_are_faults_and_never_wrap() -> None:
    big = 2**30
    table = read_rows(io.StringIO(f"op,dtype,params\nmatmul,f32,m={big};n={big};k={big}\nmatmul,f32,m=8;n=8;k=8\n"))
    assert list(table.faults) == [0]
    assert np.array_equal(table.batches[0].counts()["flop"], [1024])


@pytest.mark.parametrize(
    "text", ["matmul[m=8;n=4;k=2].bf16", "matmul(m=8, n=4, k=2, dtype=bf16)", "matmul:m=8,n=4,k=2,dtype=bf16"]
)
def test_an_operator_is_read_as_it_is_printed(text: str) -> None:
    assert str(parse(text)) == "matmul[m=8;n=4;k=2].bf16"


def test_blanks_around_an_equals_sign_are_no_fault() -> None:
    assert parse("matmul: m = 8, n= 9 ,k =7, dtype = bf16") == parse("matmul:m=8,n=9,k=7,dtype=bf16")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero here")
def test_a_file_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "LARGEST_BYTES", 1_000_000)
    with pytest.raises(UsageError, match="more than 1 MB; is it the right file"):
        read_rows(Path("/dev/zero"))


def test_a_row_longer_than_the_header_is_told_in_the_words_of_the_table(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("op,dtype,params\nmatmul,f32,m=1,n=1,k=1\n")
    with pytest.raises(UsageError, match=r"more cells than the header; sizes are one cell, such as m=8;n=8;k=8"):
        read_rows(path)


@pytest.mark.parametrize("value", ["m", "8", None, [8], 1.5])
def test_a_size_that_is_no_number_is_refused_and_takes_no_other_key_s_value(value: object) -> None:
    with pytest.raises(UsageError, match="n is"):
        op("matmul", m=8, n=value, k=8)


@pytest.mark.parametrize("wrong", ["m1=8;n=8;k=8", "m=8;1n=8;k=8", "m=8;n=8;k=8;9", "m=8;n2=8;k=8"])
@pytest.mark.parametrize("first", [True, False])
def test_a_digit_in_a_key_is_no_part_of_a_size(wrong: str, first: bool) -> None:
    rows = [f"matmul,f32,{wrong}", "matmul,f32,m=4;n=2;k=9"]
    read = read_rows(io.StringIO("\n".join(["op,dtype,params", *(rows if first else rows[::-1])])))
    assert sorted(read.faults) == [0 if first else 1]
    assert {key: column.tolist() for key, column in read.batches[0].shape.items()} == {"m": [4], "n": [2], "k": [9]}
