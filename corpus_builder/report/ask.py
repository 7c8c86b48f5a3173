"""A question to the catalog and its answer, kept together: what a figure shows as its SQL is what was run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from catalog import page
from catalog.page import Html, Number
from catalog.store import Catalog


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a query, with the query."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    statement: str
    parameters: tuple[object, ...] = ()

    def objects(self) -> list[dict[str, Any]]:
        """The rows as column -> value."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def sql(self, what: str = "") -> Html:
        """The query, folded away."""
        return page.sql(self.statement, self.parameters, what)


def ask(catalog: Catalog, statement: str, parameters: Sequence[object] = ()) -> Table:
    """Run a query on the public views and read all of it. Raises as `Catalog.query` does."""
    answer = catalog.query(statement, parameters)
    return Table(answer.columns, list(answer.rows), statement.strip(), tuple(parameters))


def length(seconds: float) -> str:
    """A length of sound for people: 40 ms, 0.4 s, 34 s, 5.7 min, 12.4 h."""
    if 0 < seconds < 0.1:
        return f"{1000 * seconds:.0f} ms"
    if 0 < seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def spoken(reason: str) -> str:
    """A reason as words."""
    return reason.replace("_", " ")


def clock(seconds: float) -> str:
    """A moment in a recording: 2:05, 1:02:05."""
    whole = int(seconds)
    minutes = f"{whole // 60 % 60:02d}:{whole % 60:02d}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{minutes}" if whole >= 3600 else minutes


def share(value: float) -> Number:
    """A share in per cent for a table."""
    return Number(f"{100 * value:.1f} %")


def number(value: float | None, digits: int = 1) -> Number | None:
    """A figure for a table."""
    return None if value is None else Number(f"{value:.{digits}f}")


def time_unit(longest_s: float) -> tuple[float, str]:
    """The unit that suits lengths of up to so many seconds: its seconds and its name."""
    if longest_s < 180:
        return 1.0, "seconds"
    return (3600.0, "hours") if longest_s >= 5400 else (60.0, "minutes")
