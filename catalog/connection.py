"""Opening the catalog's file: its lock, its version, its migrations."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import duckdb

from catalog.errors import PdidError, UsageError

CATALOG_NAME = "catalog.duckdb"
WAIT_S = 10.0
"""Seconds to wait for another process to let the catalog go."""

OFFLINE = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
# What a user's query may touch is the catalog, read-only, and nothing else on the machine.
LOCKED_DOWN = OFFLINE | {
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "lock_configuration": "true",
}


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step that brings a catalog from version - 1 to version."""

    version: int
    name: str
    sql: str


def load_migrations() -> tuple[Migration, ...]:
    """The migrations that come with this version of pdid, in order."""
    found = []
    for item in (files("catalog") / "migrations").iterdir():
        if item.name.endswith(".sql"):
            number, _, name = item.name.removesuffix(".sql").partition("_")
            found.append(Migration(int(number), name, item.read_text("utf-8")))
    return tuple(sorted(found, key=lambda migration: migration.version))


@contextmanager
def connect(
    corpus: Path,
    *,
    write: bool,
    wait_s: float = WAIT_S,
    migrations: Sequence[Migration] | None = None,
    memory: str | None = None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the catalog of a corpus folder at the newest version; closed when the block ends.

    Writing makes the folder and the catalog where there are none. An older catalog is migrated, with
    a copy kept beside it as catalog.duckdb.vN.bak. Reading is locked down: no file, no network.
    `memory` (as DuckDB understands it: "256MiB") is what DuckDB may use, most of which is what it has
    read and may need again; else it is four fifths of the machine's.
    Raises UsageError if there is no catalog to read; PdidError if another process holds it for longer
    than `wait_s` seconds, if a newer pdid wrote it, or if it can't be opened.
    """
    path = corpus / CATALOG_NAME
    steps = load_migrations() if migrations is None else tuple(migrations)
    deadline = time.monotonic() + wait_s
    if not path.exists():
        if not write:
            raise UsageError(
                f"there is no catalog in the folder {str(corpus)!r}: "
                "make one with `pdid ingest`, or name another folder with --corpus"
            )
        _create(path, steps, deadline)
    connection = _open(path, write, deadline, memory)
    try:
        if _check_version(connection, path, steps) < steps[-1].version:
            connection.close()
            _upgrade(path, steps, deadline)
            connection = _open(path, write, deadline, memory)
        yield connection
    finally:
        connection.close()


def backups_with(corpus: Path, source_ids: Sequence[str]) -> list[Path]:
    """The copies of older catalogs that were kept beside a migrated one and hold any of these sources.

    One that can't be read is no copy any more, and counts as one that does.
    """
    found = []
    for path in sorted(corpus.glob(f"{CATALOG_NAME}.v*.bak")):
        try:
            with duckdb.connect(str(path), read_only=True, config={**LOCKED_DOWN}) as connection:
                if not connection.execute(
                    "SELECT 1 FROM base.source WHERE source_id IN (SELECT unnest(?::VARCHAR[])) LIMIT 1",
                    [list(source_ids)],
                ).fetchone():
                    continue
        except duckdb.Error:
            pass
        found.append(path)
    return found


def rewrite(corpus: Path, wait_s: float = WAIT_S) -> None:
    """Write the catalog's file anew: what was deleted from it stands in the old one until it is written over.

    Beside it first, then renamed. Raises PdidError as `connect` does, or where the disk is full; the catalog is as it
    was then.
    """
    path = corpus / CATALOG_NAME
    beside = path.with_name(f"{path.name}.new")
    connection = _open(path, True, time.monotonic() + wait_s)
    try:
        for leftover in (beside, beside.with_name(f"{beside.name}.wal")):
            leftover.unlink(missing_ok=True)
        connection.execute("CHECKPOINT")  # so that closing it, after another has its name, writes nothing
        connection.execute("ATTACH ? AS fresh", [str(beside)])
        connection.execute("COPY FROM DATABASE catalog TO fresh")
        connection.execute("DETACH fresh")
        os.replace(beside, path)
        time.sleep(0.2)  # whoever has opened the old one by now finds it locked, and tries again with the new one
    except (duckdb.Error, OSError) as error:
        why = first_line(error) if isinstance(error, duckdb.Error) else error.strerror
        raise PdidError(f"the catalog {path} can't be written anew: {why}") from None
    finally:
        connection.close()


def _open(path: Path, write: bool, deadline: float, memory: str | None = None) -> duckdb.DuckDBPyConnection:
    """Connect, trying again until the deadline while another process holds the file."""
    config: dict[str, str | bool | int | float | list[str]] = {**(OFFLINE if write else LOCKED_DOWN)}
    if memory:
        config["memory_limit"] = memory
    while True:
        before = _identity(path)
        try:
            connection = duckdb.connect(str(path), read_only=not write, config=config)
            if before in (None, _identity(path)):
                return connection
            connection.close()  # it was written anew between opening and locking: this is the old one
            continue
        except duckdb.Error as error:
            said = str(error)
            # the second is the same file held by another connection of this very process
            held = "Could not set lock" in said or "different configuration" in said
            if not held and before in (None, _identity(path)):
                raise PdidError(f"the catalog {path} can't be opened: {first_line(error)}") from None
        if time.monotonic() >= deadline:
            pid = re.search(r"\(PID (\d+)\)", said)
            holder = f"process {pid[1]}" if pid else "another process"
            raise PdidError(f"the catalog {path} is in use by {holder}: try again when that has ended, or stop it")
        time.sleep(0.05)


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file has this name now, and since when it is as it is (numbers are used again); None where none has."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns


def _create(path: Path, steps: Sequence[Migration], deadline: float) -> None:
    """Make an empty catalog beside and rename it, so that no half-made one is ever seen."""
    beside = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise PdidError(f"the corpus folder {path.parent} can't be made: {error.strerror}") from None
    try:
        # Two processes that start at once: the second waits here and finds the catalog made. Some network
        # file systems can't lock a folder; there the rename still keeps the catalog whole.
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_EX)
        if path.exists():
            return
        for leftover in (beside, beside.with_name(f"{beside.name}.wal")):
            leftover.unlink(missing_ok=True)
        connection = _open(beside, True, deadline)
        try:
            _migrate(connection, 0, steps)
        finally:
            connection.close()
        os.replace(beside, path)
    except OSError as error:
        raise PdidError(f"the catalog {path} can't be made: {error.strerror}") from None
    finally:
        os.close(folder)


def _check_version(connection: duckdb.DuckDBPyConnection, path: Path, steps: Sequence[Migration]) -> int:
    """The catalog's version. Raises PdidError for a newer one or a file that is no catalog."""
    try:
        row = connection.execute("SELECT max(version) FROM base.migration").fetchone()
    except duckdb.Error:
        row = None
    if row is None or row[0] is None:
        connection.close()
        raise PdidError(f"{path} is a DuckDB file but not a catalog of pdid: move it away, or name another --corpus")
    version, newest = int(row[0]), steps[-1].version
    if version > newest:
        connection.close()
        raise PdidError(
            f"{path} was written by a newer pdid (catalog version {version}; this pdid knows {newest}): update pdid"
        )
    return version


def _upgrade(path: Path, steps: Sequence[Migration], deadline: float) -> None:
    """Bring an older catalog to the newest version, a copy of the old one kept beside it."""
    while True:
        # DuckDB's lock would be lost if this process opened and closed the same file to copy it, so the
        # copy is made with the catalog closed, and again if another process wrote meanwhile.
        connection = _open(path, True, deadline)
        version = _check_version(connection, path, steps)
        connection.close()  # writes the log into the file
        if version == steps[-1].version:
            return
        before = path.stat()
        copy = path.with_name(f"{path.name}.v{version}.bak")
        try:
            shutil.copy2(path, f"{copy}.part")
            os.replace(f"{copy}.part", copy)
        except OSError as error:
            raise PdidError(f"the catalog can't be copied to {copy} before it is migrated: {error.strerror}") from None
        connection = _open(path, True, deadline)
        try:
            after = path.stat()
            if (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size):
                _migrate(connection, version, steps)
                return
        except duckdb.Error as error:
            raise PdidError(
                f"the catalog {path} can't be migrated from version {version}: {first_line(error)}; it is unchanged"
            ) from None
        finally:
            connection.close()


def _migrate(connection: duckdb.DuckDBPyConnection, version: int, steps: Sequence[Migration]) -> None:
    """Run the steps after `version`, all of them or none."""
    connection.execute("BEGIN")
    for step in steps:
        if step.version > version:
            connection.execute(step.sql)
            connection.execute(
                "INSERT INTO base.migration VALUES (?, ?, ?)",
                [step.version, step.name, datetime.now(UTC).replace(tzinfo=None)],
            )
    connection.execute("COMMIT")


def first_line(error: duckdb.Error) -> str:
    """DuckDB's message without its kind and without what follows the first line."""
    return str(error).splitlines()[0].partition(": ")[2] or str(error)
