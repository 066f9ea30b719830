"""Tables of other tools: their columns, separators and units."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import DATA

from microbench.errors import UsageError
from microbench.operators import Table, read_rows
from microbench.operators.foreign import parse_columns

COLUMNS = "m=M,n=N,k=K,seconds=time_ms:ms"


def read(text: str, columns: Any = (), **facts: Any) -> Table:
    return read_rows(io.StringIO(text), columns=columns, **{"need_seconds": True, **facts})


def one(table: Table) -> tuple[str, str, dict[str, list[int]], list[float]]:
    (batch,) = table.batches
    assert batch.seconds is not None
    shape = {key: column.tolist() for key, column in batch.shape.items()}
    return batch.row.name, batch.dtype, shape, batch.seconds.tolist()


def test_columns_of_another_tool_are_named_with_the_unit_of_their_times() -> None:
    table = read("dtype,M,N,K,time_ms\nfp16,8,16,32,0.5\nfp16,9,16,32,0.25\n", COLUMNS)
    assert one(table) == ("matmul", "f16", {"m": [8, 9], "n": [16, 16], "k": [32, 32]}, [0.5e-3, 0.25e-3])


@pytest.mark.parametrize(("unit", "factor"), [("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9)])
def test_every_unit_of_time_becomes_seconds(unit: str, factor: float) -> None:
    table = read("M,N,K,t\n8,8,8,12.5\n", f"dtype=bf16,m=M,n=N,k=K,seconds=t:{unit}")
    assert one(table)[3] == [pytest.approx(12.5 * factor)]


def test_what_names_no_column_is_the_value_of_every_row() -> None:
    table = read("batch,hidden,us\n4,64,7\n8,64,9\n", "op=bmm,dtype=bf16,b=2,m=batch,n=64,k=hidden,seconds=us:us")
    sizes = {"b": [2, 2], "m": [4, 8], "n": [64, 64], "k": [64, 64]}
    assert one(table) == ("bmm", "bf16", sizes, [pytest.approx(7e-6), pytest.approx(9e-6)])


def test_sizes_that_a_tool_wrote_as_floats_are_whole_numbers() -> None:
    assert one(read("m,n,k,t\n8.0,16.00,32,1\n", "dtype=f32,m=m,n=n,k=k,seconds=t:ms"))[2] == {
        "m": [8],
        "n": [16],
        "k": [32],
    }
    table = read("m,n,k,t\n8.5,16,32,1\n8,16,32,1\n", "dtype=f32,m=m,n=n,k=k,seconds=t:ms")
    assert "m is '8.5'" in table.faults[0]


def test_a_name_that_differs_in_case_alone_is_found() -> None:
    assert one(read("DType,m,N,K,Time (ms)\nf32,8,8,8,1\n", "m=M,n=n,k=k,seconds=time (MS):ms"))[1] == "f32"


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ("m", "is not KEY=COLUMN"),
        ("=M", "is not KEY=COLUMN"),
        ("m=M,m=N", "says m twice"),
        ("seconds=t:weeks", "'weeks' is no unit; it is one of s, ms, us, ns"),
        ("dtype=f32,m=Q,n=N,k=K,seconds=t", "no column 'Q' for m; it has M, N, K, t"),
        ("dtype=f32,m=M,n=N,k=K,seconds=time", "no column 'time' for seconds"),
        ("m=M,n=N,k=K,seconds=t", "does not say its dtype: add for example dtype=bf16"),
        ("dtype=f32,m=M,n=N,seconds=t", "does not say which operator"),
        ("dtype=f99,m=M,n=N,k=K,seconds=t", "unknown dtype"),
        ("op=matmull,dtype=f32,m=M,n=N,k=K,seconds=t", "did you mean matmul"),
        ("dtype=f32,m=M,n=N,k=K,q=t,seconds=t", "does not say which operator"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence(columns: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        read("M,N,K,t\n8,8,8,1\n", columns)
    assert says in str(refused.value)


def test_a_mapping_and_a_list_say_the_same_as_a_text() -> None:
    assert parse_columns({"m": "M", "seconds": "time_ms:ms"}) == parse_columns("m=M,seconds=time_ms:ms")
    assert parse_columns(["m=M", "seconds=time_ms:ms"]) == parse_columns("m=M,seconds=time_ms:ms")
    assert parse_columns(()) == {}


@pytest.mark.parametrize(
    "text",
    [
        "M;N;K;time_ms\n8;8;8;1.5\n",
        "M\tN\tK\ttime_ms\n8\t8\t8\t1.5\n",
        "sep=;\nM;N;K;time_ms\n8;8;8;1.5\n",
        "\ufeffsep=;\r\nM;N;K;time_ms\r\n8;8;8;1.5\r\n",
        "SEP=,\nM,N,K,time_ms\n8,8,8,1.5\n",
        "\ufeffM,N,K,time_ms\n8,8,8,1.5\n",
        "# made by a tool\nM;N;K;time_ms\n8;8;8;1.5\n",
        "sep=|\nM|N|K|time_ms\n8|8|8|1.5\n",
        'M;N;K;time_ms;"name, long"\n8;8;8;1.5;x\n',
    ],
)
def test_semicolons_tabs_hints_and_marks_are_read(text: str) -> None:
    assert one(read(text, f"dtype=f32,{COLUMNS}"))[2:] == ({"m": [8], "n": [8], "k": [8]}, [1.5e-3])


def test_a_decimal_comma_is_told_by_its_name_and_the_other_rows_are_kept() -> None:
    table = read("M;N;K;time_ms\n8;8;8;1,5\n9;8;8;1.5\n", f"dtype=f32,{COLUMNS}")
    assert table.faults == {0: "seconds is '1,5', with a decimal comma; write 1.5"}
    assert one(table)[2]["m"] == [9]


def test_rows_are_predicted_whatever_a_column_of_seconds_holds(said: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('op,dtype,params,seconds\nrelu,f32,size=8,fast\nrelu,f32,size=9,\nrelu,f32,size=10,"1,5"\n')
    code, out, err = said("predict", "--ops", path, "--calibration", DATA / "fake-cpu.json")
    assert code == 0, err
    rows = out.splitlines()
    assert rows[0] == "op,dtype,params,seconds,predicted,low,high,limiter"
    assert [float(row.rsplit(",", 4)[1]) > 0 for row in rows[1:]] == [True] * 3


def test_a_faulty_row_of_a_table_is_exit_one_and_the_others_are_predicted(
    said: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("op,dtype,params\nrelu,f32,size=8\nrelu,f32,size=x\n")
    code, out, err = said("predict", "--ops", path, "--calibration", DATA / "fake-cpu.json")
    assert code == 1
    assert "error: row 2: relu: size is 'x'" in err
    assert out.splitlines()[1].startswith("relu,f32,size=8,")
    assert out.splitlines()[2] == "relu,f32,size=x,,,,"


def test_rows_of_another_tool_are_predicted_in_their_own_columns(said: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("M;N;K;note\n64;64;64;a\n128;64;64;b\n")
    arguments = ("--calibration", DATA / "fake-cpu.json", "--columns", "dtype=f32,m=M,n=N,k=K")
    code, out, err = said("predict", "--ops", path, *arguments)
    assert code == 0, err
    assert out.splitlines()[0] == "M,N,K,note,predicted,low,high,limiter"
    assert said("predict", "--op", "relu:size=8", *arguments)[0] == 2


def test_a_table_that_was_read_keeps_its_own_cells() -> None:
    table = read("M,N,K,time_ms\n8,8,8,1\n", f"dtype=f32,{COLUMNS}")
    assert list(table.frame.columns) == ["M", "N", "K", "time_ms"]
    assert np.isfinite(table.batches[0].seconds).all()  # type: ignore[arg-type]
