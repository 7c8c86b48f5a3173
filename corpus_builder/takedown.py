"""Takedowns: what was asked for is found, goes out of the catalog, and then its files go.

The rows go first, in one transaction: whatever is cut off after that leaves files that nothing names, and the same
command deletes them when it is run again.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import shutil
from collections.abc import Iterator, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from catalog.connection import backups_with, rewrite
from catalog.errors import PdidError, UsageError
from catalog.fetches import fetches
from catalog.records import Removal
from catalog.removals import NAMELESS, Removed, refuse, remove_sources, tombstoned, what_goes
from catalog.store import Catalog, open_catalog
from corpus_builder.acquire.addresses import check_address, is_address, without_credentials
from corpus_builder.clip_files import CLIPS, MEDIA
from corpus_builder.ingest import COMMIT_WAIT_S, corpus_lock
from corpus_builder.sources import address_of
from corpus_builder.workers import SCRATCH

RUNS = "runs"
CLIPS_FILE = "clips.csv"
"""The list of an experiment's clips, with what is said in them: runs/<experiment>/clips.csv."""

SHORTEST = 4
"""Digits of a source_id that may stand for it, at least."""


@dataclass(frozen=True, slots=True)
class Target:
    """A recording that is to go: in the catalog, gone before, or never there."""

    source_id: str
    uri: str
    title: str | None = None
    before: Removal | None = None  # the takedown that has been
    ahead: bool = False  # it is not in the catalog, and must not come
    sha256: str | None = None  # of one that is not in the catalog, where its bytes are at hand
    site: tuple[str, str] | None = None  # the same by its site and id


@dataclass(frozen=True, slots=True)
class Takedown:
    """What was done, or would be."""

    targets: tuple[Target, ...]
    gone: Removed
    files: tuple[Path, ...]  # files and folders that were deleted
    experiments: tuple[str, ...]  # whose predictions, report or list of clips had clips of it
    left: tuple[str, ...]  # local originals


def take_down(corpus: Path, asked: Sequence[str], reason: str, now: datetime, dry_run: bool = False) -> Takedown:
    """Remove recordings, named by source_id, address, or the beginning of a source_id; see `pdid remove`.

    A dry run tells what would go. Raises UsageError where there is no catalog or a name means no recording or several,
    PdidError where another run holds the corpus, or a file can't be deleted: its rows are gone then, and the same
    again finishes.
    """
    with open_catalog(corpus) as catalog:
        _Finder(catalog).find_all(asked)  # a misspelt name is told before anything is waited for
    with nullcontext() if dry_run else corpus_lock(corpus):
        with open_catalog(corpus) as catalog:
            targets = _Finder(catalog).find_all(asked)
        ids = [target.source_id for target in targets if not target.ahead]
        pieces = dict(_pieces(corpus, set(ids)))
        with open_catalog(corpus, write=not dry_run) as catalog:
            if dry_run:
                gone = what_goes(catalog, ids, pieces)
            else:
                gone = remove_sources(catalog, ids, reason, now, pieces)
                refuse(catalog, [_tombstone(target, reason, now) for target in targets if target.ahead])
        uris = {*gone.uris, *(target.uri for target in targets)}
        lists = _lists(corpus, set(ids), gone.pieces)
        experiments = sorted({*gone.experiments, *(path.parent.name for path in lists)})
        files = list(_files(corpus, ids, uris, gone, experiments))
        if not dry_run:
            for path in files:
                _delete(path)
            for path, text in lists.items():
                _write(path, text)
            if ids:
                rewrite(corpus, COMMIT_WAIT_S)
    left = sorted(uri for uri in uris if "://" not in uri and os.path.isfile(uri) and Path(uri) not in files)
    return Takedown(targets, gone, tuple(files), tuple(experiments), tuple(left))


class _Finder:
    """Which recordings are meant."""

    def __init__(self, catalog: Catalog) -> None:
        self.sources = {source.source_id: source for source in catalog.sources()}
        self.fetches = fetches(catalog)
        self.places = {source.uri: source.source_id for source in self.sources.values()}
        self.places |= {uri: fetch.source_id for uri, fetch in self.fetches.items()}
        self.places |= {uri: address.source_id for uri, address in catalog.addresses().items()}
        self.tombstones = tombstoned(catalog)
        self.removed = {removal.source_id: removal for removal in self.tombstones.by_uri.values()}

    def find_all(self, asked: Sequence[str]) -> tuple[Target, ...]:
        found: dict[str, Target] = {}
        for text in asked:
            target = self.find(text)
            found.setdefault(target.source_id, target)
        return tuple(found.values())

    def find(self, text: str) -> Target:
        """The recording that a name means. Raises UsageError for none, or several."""
        if text in self.sources or text in self.removed:
            return self._known(text)
        uri = without_credentials(text) if is_address(text) else address_of(Path(text))
        removal = self.tombstones.of(uri=uri)
        if uri in self.places or removal:
            return self._known(self.places[uri] if uri in self.places else str(removal and removal.source_id))
        if is_address(text):
            return self._on_the_web(uri)
        path = Path(text)
        if path.is_file():
            return self._by_bytes(path, uri)
        beginning = text.lower()
        if re.fullmatch(rf"[0-9a-f]{{{SHORTEST},}}", beginning):
            ids = sorted(name for name in {*self.sources, *self.removed} if name.startswith(beginning))
            if len(ids) == 1:
                return self._known(ids[0])
            if ids:
                raise UsageError(f"{text!r} begins the ids of {len(ids)} recordings: {', '.join(ids)}; say more of it")
        raise UsageError(
            f"{text!r} is no recording of this corpus: expected a source_id or the first {SHORTEST} digits of one or "
            'more, a file, or a web address; `pdid sql "SELECT source_id, title, uri FROM sources"` lists them'
        )

    def _known(self, source_id: str) -> Target:
        source = self.sources.get(source_id)
        if source:
            return Target(source_id, source.uri, source.title)
        removal = self.removed[source_id]
        return Target(source_id, removal.uri, before=removal)

    def _on_the_web(self, uri: str) -> Target:
        """A recording by another of its addresses, or one that never was here."""
        from corpus_builder.acquire.sites import site_of

        check_address(uri)
        asked = sorted({fetch.source_id for fetch in self.fetches.values() if fetch.asked == uri})
        if len(asked) > 1:
            raise UsageError(f"by {uri!r} {len(asked)} recordings were asked for: name those that are to go")
        if asked:
            return self._known(asked[0])
        site = site_of(uri)
        if site:
            for fetch in self.fetches.values():
                if (fetch.site, fetch.site_id) == site and fetch.site != NAMELESS:
                    return self._known(fetch.source_id)
            removal = self.tombstones.of(site=site[0], site_id=site[1])
            if removal:
                return self._known(removal.source_id)
        return Target(hashlib.sha256(uri.encode()).hexdigest()[:16], uri, ahead=True, site=site)

    def _by_bytes(self, path: Path, uri: str) -> Target:
        """A recording by a copy of it, or one that never was here."""
        try:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UsageError(f"{str(path)!r} can't be read: {error.strerror or error}") from None
        removal = self.tombstones.of(sha256=sha256)
        if sha256[:16] in self.sources or removal:
            return self._known(removal.source_id if removal else sha256[:16])
        return Target(sha256[:16], uri, ahead=True, sha256=sha256)


def _tombstone(target: Target, reason: str, now: datetime) -> Removal:
    site, site_id = target.site or (None, None)
    return Removal(target.uri, target.source_id, target.sha256, site, site_id, reason, now)


def _pieces(corpus: Path, ids: Set[str]) -> Iterator[tuple[str, str]]:
    """Pieces of recordings that the catalog may not know to be theirs, with the recording.

    An experiment's list has those of an earlier segmentation. A data set's clips are named by their bytes, and a data
    set may be an export of this corpus.
    """
    if not (corpus / RUNS).is_dir():
        return
    for path in (corpus / RUNS).glob(f"*/{CLIPS_FILE}"):
        for row in _read(path)[1]:
            source_id = _source_of(row, ids)
            if source_id and row.get("segment_id"):
                yield row["segment_id"], source_id
    for source_id in ids:
        for clip in (corpus / CLIPS / source_id).glob("*.wav"):
            with clip.open("rb") as file:
                yield hashlib.file_digest(file, "sha256").hexdigest()[:16], source_id


def _source_of(row: dict[str, str], ids: Set[str]) -> str | None:
    """Which of the recordings a row of an experiment's list is about."""
    named = {row.get("source") or "", Path(row.get("path") or "").parent.name}
    return next(iter(named & ids), None)


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of an experiment's list of clips; none where it is no such list."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            return list(reader.fieldnames or ()), list(reader)
    except (OSError, ValueError, csv.Error):
        return [], []


def _lists(corpus: Path, ids: Set[str], pieces: Set[str]) -> dict[Path, str]:
    """The experiments' lists of clips that name the recordings, as they are to be without them."""
    changed = {}
    for path in sorted((corpus / RUNS).glob(f"*/{CLIPS_FILE}")):
        columns, rows = _read(path)
        left = [row for row in rows if not (_source_of(row, ids) or row.get("segment_id") in pieces)]
        if len(left) < len(rows):
            out = io.StringIO()
            writer = csv.DictWriter(out, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(left)
            changed[path] = out.getvalue()
    return changed


def _files(
    corpus: Path, ids: Sequence[str], uris: Set[str], gone: Removed, experiments: Sequence[str]
) -> Iterator[Path]:
    """What lies on the disk of the recordings, ours alone."""
    wanted = [corpus / CLIPS / source_id for source_id in ids]
    media = corpus / MEDIA
    for uri in sorted(uris):
        key = hashlib.sha256(uri.encode()).hexdigest()[:16]  # of media, its subtitles and what is half fetched
        wanted += [*sorted(media.glob(f"{key}.*")), *sorted((media / ".part").glob(f"{key}*"))]
    wanted += [corpus / name for name in gone.media if name.startswith(f"{MEDIA}/")]
    if ids:
        # Log-mels and maps are named after the sound, older clips' as well, so which are whose is not known: all go,
        # to be computed anew.
        wanted += [corpus / SCRATCH, corpus / "report.html", corpus / RUNS / "cache", *backups_with(corpus, ids)]
    for name in experiments:
        wanted += sorted((corpus / RUNS / name).glob("report*"))
    yield from (path for path in dict.fromkeys(wanted) if os.path.lexists(path))


def _delete(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise PdidError(
            f"{str(path)!r} can't be deleted: {error.strerror or error}; the catalog names it no more: "
            "mend that, and run the same command again"
        ) from None


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.replace(beside, path)
    except OSError as error:
        raise PdidError(f"the list of clips {str(path)!r} can't be written: {error.strerror or error}") from None
