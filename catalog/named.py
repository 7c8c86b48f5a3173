"""The named queries: SQL files whose first comment lines are their help text."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """One file of catalog/queries."""

    name: str
    help: str
    sql: str


def named_queries() -> dict[str, NamedQuery]:
    """The named queries by name, in alphabetical order."""
    found = {}
    for item in sorted((files("catalog") / "queries").iterdir(), key=lambda item: item.name):
        if item.name.endswith(".sql"):
            name, sql = item.name.removesuffix(".sql"), item.read_text("utf-8")
            comments = []
            for line in sql.splitlines():
                if not line.startswith("--"):
                    break
                comments.append(line.removeprefix("--").strip())
            found[name] = NamedQuery(name, " ".join(comments), sql)
    return found
