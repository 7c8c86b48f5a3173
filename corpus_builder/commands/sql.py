"""`pdid sql`: ask the catalog, read-only."""

from __future__ import annotations

import csv
import difflib
import json
import math
import sys
import unicodedata
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from catalog.errors import UsageError
from catalog.named import named_queries
from catalog.store import Answer, open_catalog
from corpus_builder.commands.options import corpus_option, json_option

EXAMPLES = """\b
Examples:
  pdid sql                                    list the named queries
  pdid sql @hours_by_accent
  pdid sql "SELECT accent, sum(duration_s) / 3600 FROM segments WHERE kept GROUP BY ALL"
  pdid sql @speakers --csv > speakers.csv
  pdid sql - --json < question.sql
"""


@click.command(epilog=EXAMPLES)
@click.argument("query", required=False)
@corpus_option
@click.option("--csv", "as_csv", is_flag=True, help="CSV (RFC 4180) on standard output.")
@json_option
def sql(query: str | None, corpus: Path, as_csv: bool, as_json: bool) -> None:
    """Ask the catalog: SQL, @NAME for a named query, or - to read SQL from standard input.

    Without QUERY the named queries are listed. The catalog is opened read-only, and queries reach no other
    file and no network. The views are sources, segments, speakers, stages, splits, runs and predictions;
    docs/catalog.md tells their columns.
    """
    if as_csv and as_json:
        raise UsageError("--csv and --json exclude each other: choose one")
    write = write_csv if as_csv else write_json if as_json else write_table
    if query is None:
        listed = [(f"@{named.name}", named.help) for named in named_queries().values()]
        if as_csv or as_json:
            write(Answer(("query", "help"), iter(listed)))
        else:
            formatter = click.HelpFormatter(max_width=100)
            formatter.write_dl(listed)
            click.echo(formatter.getvalue(), nl=False)
        return
    with open_catalog(corpus) as catalog:
        write(catalog.query(read_query(query)))


def read_query(query: str) -> str:
    """The SQL that a QUERY argument means. Raises UsageError for an unknown @NAME or no SQL at all."""
    if query.startswith("@"):
        known = named_queries()
        name = query.removeprefix("@")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean @{near[0]}?" if near else "`pdid sql` lists them"
            raise UsageError(f"there is no named query @{name}: {hint}")
        return known[name].sql
    text = sys.stdin.read() if query == "-" else query
    if not text.strip():
        raise UsageError("the query is empty: give SQL, @NAME, or nothing to list the named queries")
    return text


def write_csv(answer: Answer) -> None:
    """CSV as RFC 4180 has it: a header, CRLF, quotes where needed; NULL is an empty cell."""
    out = csv.writer(sys.stdout, lineterminator="\r\n")
    if answer.columns:
        out.writerow(answer.columns)
    out.writerows([_text(value) for value in row] for row in answer.rows)


def write_json(answer: Answer) -> None:
    """One object per line. Of columns with the same name the later ones are numbered: a, a_2."""
    names: list[str] = []
    for column in answer.columns:
        name, n = column, 1
        while name in names:
            n += 1
            name = f"{column}_{n}"
        names.append(name)
    for row in answer.rows:
        values = {name: _jsonable(value) for name, value in zip(names, row, strict=True)}
        sys.stdout.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")


def write_table(answer: Answer) -> None:
    """Aligned columns for people: numbers to the right, text to the left, however wide its letters are."""
    found = list(answer.rows)
    if not answer.columns:
        return
    cells = [list(answer.columns), *([_shown(value) for value in row] for row in found)]
    numeric = [
        any(_is_number(row[i]) for row in found) and all(row[i] is None or _is_number(row[i]) for row in found)
        for i in range(len(answer.columns))
    ]
    for i in range(len(answer.columns)):
        if numeric[i] and any(isinstance(row[i], float | Decimal) for row in found):
            _same_decimals(cells[1:], i)
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    lines = [_line(row, widths, numeric) for row in cells]
    lines.insert(1, "  ".join("─" * size for size in widths))
    sys.stdout.write("\n".join(lines) + "\n")


def width(text: str) -> int:
    """Columns that a text takes in a terminal: none for vowel marks and joiners, two for wide letters."""
    return sum(
        0 if unicodedata.category(letter) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def _line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = []
    for cell, size, to_right in zip(cells, widths, numeric, strict=True):
        room = " " * (size - width(cell))
        # Isolated (Unicode's bidi algorithm, UAX 9), Persian in one column can't pull the next one over.
        isolated = f"\u2068{cell}\u2069" if any(map(_right_to_left, cell)) else cell
        padded.append(room + isolated if to_right else isolated + room)
    return "  ".join(padded).rstrip()


def _same_decimals(rows: list[list[str]], i: int) -> None:
    """Give the numbers of a column, written out, as many decimals as the longest has, so that points stand in line."""
    decimals = max(len(row[i].partition(".")[2]) for row in rows)
    for row in rows:
        if decimals and row[i].lstrip("-").replace(".", "").isdigit():
            whole, _, part = row[i].partition(".")
            row[i] = f"{whole}.{part:0<{decimals}}"


def _right_to_left(letter: str) -> bool:
    return unicodedata.bidirectional(letter) in ("R", "AL", "AN")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _shown(value: object) -> str:
    """A table's cell: short numbers, no line breaks, nothing that a terminal would take for a command."""
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4g}" if 0 < abs(value) < 1e-3 else f"{value:.4f}".rstrip("0").rstrip(".")
    text = _text(value)
    return "".join(
        repr(letter)[1:-1] if unicodedata.category(letter) in ("Cc", "Zl", "Zp") else letter for letter in text
    )


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    found = _jsonable(value)
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def _jsonable(value: Any) -> Any:
    """What JSON can say of a value of DuckDB's: text for dates, hex for bytes, null for NaN and infinity."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return str(value)
