"""One export: what its writer gets, and the folder that is made beside and renamed when it is whole."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO, TypeVar

from catalog.errors import PdidError, UsageError
from catalog.exports import write_export
from catalog.records import Export
from catalog.store import open_catalog
from corpus_builder.export.about import About, read_about
from corpus_builder.export.clips import SIDES, Choice, ExportClip, choose
from corpus_builder.taxonomy import Taxonomy

T = TypeVar("T")

SIDED = ("audiofolder", "parquet", "nemo", "lhotse", "kaldi", "webdataset")
"""The formats that divide the clips by the sides of a split."""

STATE = ("clips", "media", "runs")


@dataclass(frozen=True, slots=True)
class Job:
    """What a format's writer needs to know."""

    clips: tuple[ExportClip, ...]
    about: About
    corpus: Path
    home: Path  # where the export will lie once it is whole
    split: str | None  # whose sides the clips have
    choice: Choice
    created_at: datetime
    tell: Callable[[str], None]

    def sides(self) -> Iterator[tuple[str, list[ExportClip]]]:
        """The sides that have clips, with them."""
        for side in SIDES:
            clips = [clip for clip in self.clips if clip.side == side]
            if clips:
                yield side, clips

    def watch(self, items: Sequence[T], what: str) -> Iterable[T]:
        """The items one by one, with a bar and the time left where a person looks on."""
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        return track(items, description=what, console=console, disable=not sys.stderr.isatty(), transient=True)

    def read(self, clip: ExportClip) -> bytes:
        """A clip's file. Raises PdidError where it is gone."""
        try:
            return (self.corpus / clip.path).read_bytes()
        except FileNotFoundError:
            raise self.gone(clip) from None

    def copy(self, clip: ExportClip, target: Path) -> None:
        """Copy a clip's file. Raises PdidError where it is gone."""
        target.parent.mkdir(parents=True, exist_ok=True)
        source = self.corpus / clip.path
        if not source.is_file():
            raise self.gone(clip)
        shutil.copyfile(source, target)

    def gone(self, clip: ExportClip) -> PdidError:
        return PdidError(
            f"the clip {clip.path} is not in {str(self.corpus)!r} any more: "
            "`pdid ingest` of its recording makes it anew"
        )


def export(
    corpus: Path,
    name: str,
    out: Path,
    choice: Choice,
    taxonomy: Taxonomy,
    tell: Callable[[str], None],
) -> tuple[Export, Job]:
    """Write the corpus to the folder `out` in the format `name`, and note it in the catalog.

    Everything is written beside `out` and renamed when it is whole; whatever goes wrong before, Ctrl-C and a full
    disk included, leaves neither files nor a row. Raises UsageError if `out` is there and not empty, or as
    `choose` does, PdidError if the clips can't be read or the export not be written.
    """
    home = free_folder(out, corpus)
    write = importlib.import_module(f"corpus_builder.export.{name}").write
    with open_catalog(corpus) as catalog:
        chosen = choose(catalog, choice, taxonomy, sided=name in SIDED, tell=tell)
        about = read_about(catalog, chosen.clips, home.name)
    now = datetime.now(UTC)
    job = Job(chosen.clips, about, corpus, home, chosen.split, choice, now, tell)
    settings: dict[str, Any] = {
        **asdict(choice),
        "split": chosen.split if name in SIDED else choice.split,
        "clips": len(chosen.clips),
        "hours": round(sum(clip.duration_s for clip in chosen.clips) / 3600, 6),
        "pdid": version("pdid"),
    }
    text = json.dumps([name, str(home), now.isoformat(), settings], default=list)
    export_id = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]
    counts = dict(Counter(clip.source_id for clip in chosen.clips))
    row = Export(export_id, name, str(home), settings, now, counts)
    with beside(home) as part:
        write(job, part)
        os.replace(part, home)
        try:
            with open_catalog(corpus, write=True) as catalog:
                write_export(catalog, row)
        except BaseException:  # an export that no row names could not be followed: it goes again
            os.replace(home, part)
            raise
    return row, job


def free_folder(out: Path, corpus: Path) -> Path:
    """The absolute path of a folder to be. Raises UsageError if something is there, or it lies where state lies."""
    home = Path(os.path.realpath(out))
    if home.exists() and not home.is_dir():
        raise UsageError(f"{str(out)!r} is a file: name a folder that is not there yet")
    if home.is_dir() and any(home.iterdir()):
        raise UsageError(f"the folder {str(out)!r} is not empty: an export needs a new or an empty one")
    if os.path.ismount(home):
        raise UsageError(f"{str(out)!r} is a whole disk: name a folder on it")
    inside = Path(os.path.realpath(corpus))
    if any(home.is_relative_to(inside / name) for name in STATE):
        raise UsageError(f"{str(out)!r} lies in the corpus's own {', '.join(STATE)}: name a folder outside")
    if not home.name or inside.is_relative_to(home):
        raise UsageError(f"{str(out)!r} can't be an export: the corpus lies in it")
    return home


@contextmanager
def beside(home: Path) -> Iterator[Path]:
    """A new folder next to `home`, this process's alone, gone when the block ends unless it was renamed.

    What a killed export left there is deleted first. Raises PdidError if another export to the same place is
    going on, and for anything the system refuses, a full disk above all.
    """
    part = home.with_name(f".{home.name}.part")
    handle = None
    try:
        part.mkdir(parents=True, exist_ok=True)
        handle = os.open(part, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            handle = None
            raise PdidError(f"another export to {str(home)!r} is going on: wait for it to end, or stop it") from None
        _empty(part)
        yield part
    except OSError as error:
        raise _refused(error, home) from None
    finally:
        if handle is not None:
            with suppress(OSError):
                if os.fstat(handle).st_ino == part.stat().st_ino:  # else it was renamed, and this is another's
                    shutil.rmtree(part)
            os.close(handle)


def _empty(folder: Path) -> None:
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


def _refused(error: OSError, home: Path) -> PdidError:
    why = error.strerror or str(error)
    hint = ": make room or name a folder elsewhere" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
    return PdidError(f"the export to {str(home)!r} can't be written ({why}){hint}; nothing of it is left")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file, UTF-8, each line ended by one newline."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_lines(path) as file:
        file.writelines(f"{line}\n" for line in lines)


def open_lines(path: Path) -> TextIO:
    """Open a text file for writing as `write_lines` does."""
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")


def dump(value: object) -> str:
    """A value as JSON on one line, letters of every script as they are."""
    return json.dumps(value, ensure_ascii=False)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
