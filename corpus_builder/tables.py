"""Rows of the text files that users write: CSV and JSON Lines, each row with the line it stands in."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.errors import UsageError
from corpus_builder.taxonomy import edit_distance


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the line it begins or ends in, and its cells by column; empty ones are left out."""

    line: int
    cells: dict[str, Any]


def read_text(path: Path) -> str:
    """A text file, UTF-8 with or without a byte-order mark. Raises UsageError for anything else."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from None
    if b"\0" in data:
        raise UsageError(f"{path} is no text: it has zero bytes in it; save it as text in UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}, line {line}: not UTF-8 (byte {error.start + 1}): save the file in UTF-8") from None


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Rows of a CSV file with a header; comma, semicolon and tab all part cells, and empty lines are passed over.

    `columns` are those with a meaning: a column whose name is within two edits of one of them, but none, is taken
    for misspelt. Others are kept. Raises UsageError, with the line, for what is no such file.
    """
    text = read_text(path)
    heading = next((line for line in text.splitlines() if line.strip()), "")
    # strict: else one forgotten quote swallows the rest of the file into a cell
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=heading.count), strict=True)
    header: list[str] | None = None
    try:
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                _check_columns(header, columns, where)
                continue
            if any(cell.strip() for cell in cells[len(header) :]):
                raise UsageError(
                    f"{where}: {len(cells)} cells under {len(header)} columns: put a cell with the separator in quotes"
                )
            found = {name: cell.strip() for name, cell in zip(header, cells, strict=False) if name and cell.strip()}
            yield Row(reader.line_num, found)
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from None
    if header is None:
        raise UsageError(f"{path} is empty: it needs a header with the columns {', '.join(columns)}")


def read_jsonl(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Rows of a JSON Lines file, an object per line; null and empty values are left out, empty lines passed over.

    `columns` are as in `read_csv`. Raises UsageError, with the line, for what is no such file.
    """
    empty = True
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            found = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{where}: not valid JSON ({error}): write one object per line") from None
        if not isinstance(found, dict):
            raise UsageError(f"{where}: expected a JSON object such as {{…}}, found {type(found).__name__}")
        _check_columns(list(found), columns, where)
        empty = False
        cells = {name: value.strip() if isinstance(value, str) else value for name, value in found.items()}
        yield Row(number, {name: value for name, value in cells.items() if value not in (None, "")})
    if empty:
        raise UsageError(f"{path} is empty: write one JSON object per line, with {', '.join(columns)}")


def _check_columns(names: Sequence[str], columns: Sequence[str], where: str) -> None:
    for name in names:
        if name and names.count(name) > 1:
            raise UsageError(f"{where}: the column {name!r} is there twice: rename one")
        if name not in columns:
            near = next((column for column in columns if edit_distance(name.lower(), column) <= 2), None)
            if near and near not in names:
                raise UsageError(f"{where}: there is a column {name!r}: did you mean {near!r}?")
