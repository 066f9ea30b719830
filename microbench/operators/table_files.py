"""Files of rows read as tables of text: commas, semicolons or tabs between cells, ``sep=`` before the header."""

from __future__ import annotations

import codecs
import csv
import io
import re
import warnings
from pathlib import Path

import pandas as pd

from microbench.errors import UsageError

# Some five million rows; more is another file, or a device that never ends.
LARGEST_BYTES = 400_000_000
# What spreadsheets put before the header to say how cells are separated.
_HINT = re.compile(rb"(?:\xef\xbb\xbf)?sep=(?P<separator>[;,|\t])\r?\n", re.IGNORECASE)
_LOOKED_AT = 65_536


def read_frame(source: str | Path | io.TextIOBase | pd.DataFrame) -> pd.DataFrame:
    """Read a table as text, cell by cell.

    Raises
    ------
    UsageError
        If it is no readable CSV, or has a column twice.
    """
    if isinstance(source, pd.DataFrame):  # one way of reading: what a file of this table would say
        source = io.StringIO(source.to_csv(index=False))
    where = source if isinstance(source, str | Path) else "the table"
    if not isinstance(source, str | Path) and not callable(getattr(source, "read", None)):
        kind = type(source).__name__
        raise UsageError(f"operator rows are a {kind}; give the path of a CSV, an open text file or a table of pandas")
    try:
        with warnings.catch_warnings():
            # Rows longer than the header would be cut with no more than a warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            data = _read(Path(source)) if isinstance(source, str | Path) else _of_open(source)
            separator, start = _separated(data)
            frame = pd.read_csv(
                io.BytesIO(data[start:] if start else data),
                sep=separator,
                comment="#",
                dtype=str,
                keep_default_na=False,
                skipinitialspace=True,
                index_col=False,
            )
    except FileNotFoundError:
        raise UsageError(f"{where} does not exist; give the path of a CSV with columns op,dtype,params") from None
    except pd.errors.ParserWarning:  # pandas tells it of its own index
        says = "a row has more cells than the header; sizes are one cell, such as m=8;n=8;k=8"
        raise UsageError(f"{where} is no readable CSV: {says}") from None
    except (OSError, csv.Error, ValueError) as error:
        reason = (str(getattr(error, "strerror", None) or error).splitlines() or [""])[0][:100]
        raise UsageError(f"{where} is no readable CSV ({reason}); write UTF-8 with a header") from None
    frame.columns = [str(name).strip() for name in frame.columns]
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise UsageError(f"the column {repeated[0]!r} is there twice; keep one")
    return frame.fillna("")


def _of_open(source: io.TextIOBase) -> bytes:
    held: str | bytes = source.read()
    return held.encode() if isinstance(held, str) else held


def _read(path: Path) -> bytes:
    """Read a file, a pipe as well, unless it is endless."""
    with path.open("rb") as file:
        data = file.read(LARGEST_BYTES + 1)
    if len(data) > LARGEST_BYTES:
        raise UsageError(f"{path} has more than {LARGEST_BYTES / 1e6:.0f} MB; is it the right file? Split it if it is")
    return data


def _separated(data: bytes) -> tuple[str, int]:
    """How the cells of a table are separated, and how many bytes of a hint (``sep=;``) and a mark go before its header.

    Without a hint it is what the header has most of: commas, tabs or semicolons.
    """
    start = data[:_LOOKED_AT]
    hint = _HINT.match(start)
    if hint is not None:
        return hint["separator"].decode(), hint.end()
    mark = len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0
    lines = start[mark:].decode(errors="replace").splitlines()
    header = next((line for line in lines if line.strip() and not line.lstrip().startswith("#")), "")
    return max(",\t;", key=header.count), mark
