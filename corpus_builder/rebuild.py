"""Recreate a corpus from a metadata-only release and the media it names."""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from catalog.annotations import links, write_labels, write_link_rules, write_links, write_transcripts
from catalog.errors import PdidError, UsageError
from catalog.exports import restore_split
from catalog.records import RATE, Address, Mark, Removal, SourceResult, Span, Status
from catalog.removals import Tombstones, remove_sources, tombstoned
from catalog.store import Catalog, open_catalog
from corpus_builder.acquire.addresses import check_address, hidden
from corpus_builder.acquire.origin import stored_fetch
from corpus_builder.acquire.records import Choice, Fetched, FetchSettings
from corpus_builder.audio import Decoder, MediaError, Track, write_clip
from corpus_builder.clip_files import CLIPS, MEDIA
from corpus_builder.config import Settings
from corpus_builder.export.job import sha256_of
from corpus_builder.export.release import TAXONOMY, Release, ReleasedSegment, ReleasedSource
from corpus_builder.ingest import corpus_lock
from corpus_builder.previews import write_preview
from corpus_builder.sources import address_of
from corpus_builder.workers import SCRATCH

if TYPE_CHECKING:
    from corpus_builder.protocols import Separator

FADE = 320
"""How far a separated stretch fades into the mix around it, in samples at 16 kHz (`separate.FADE`)."""

Tell = Callable[[str], None]


@dataclass(slots=True)
class Rebuilt:
    """What became of one recording of a release."""

    source_id: str
    address: str
    found: Path | None
    clips: int = 0
    differing: int = 0  # clips whose samples are not those of the release
    missing: list[tuple[str, str]] = field(default_factory=list)  # clips that are not there, and why
    there: bool = False  # from an earlier run


def rebuild(release: Release, folder: Path, corpus: Path, media: Path, tell: Tell) -> Iterator[Rebuilt]:
    """Recreate the corpus of a release (read from `folder`) in `corpus`; yields each recording's outcome.

    Media is looked for under `media`: by its name, then by SHA-256 among files of its size; what is not there and has
    a web address is downloaded. Exactly the listed clips are cut, with the recorded gain; what was separated needs
    Demucs' weights. Labels, texts, links and splits come last. Recordings done in an earlier run are passed over, and
    those that were taken down in this corpus are refused. Raises UsageError if `corpus` holds recordings that the
    release does not name, PdidError if it can't be written.
    """
    settings = Settings.model_validate(release.about.settings)
    pieces: dict[str, list[ReleasedSegment]] = defaultdict(list)
    for piece in release.segments:
        pieces[piece.segment.source_id].append(piece)
    with corpus_lock(corpus):
        shutil.rmtree(corpus / SCRATCH, ignore_errors=True)
        with open_catalog(corpus, write=True) as catalog:
            strangers = {s.source_id for s in catalog.sources()} - {row.source.source_id for row in release.sources}
            kept, tombstones = catalog.clip_paths(), tombstoned(catalog)
        if strangers:
            raise UsageError(
                f"{str(corpus)!r} holds {len(strangers)} recordings that the release does not name: "
                "rebuild into a folder of its own"
            )
        _write_settings(settings, folder, corpus)
        shelf, cutter = _Shelf(media, corpus / MEDIA, tell), _Cutter(release, settings, corpus, tell)
        try:
            for row in release.sources:
                removal = _removal(row, tombstones)
                if removal:
                    yield _refuse(row, removal, pieces[row.source.source_id], corpus)
                    continue
                yield _source(row, pieces[row.source.source_id], kept, shelf, cutter)
        finally:
            shutil.rmtree(corpus / SCRATCH, ignore_errors=True)
        with open_catalog(corpus, write=True) as catalog:
            _restore(catalog, release)


class _Shelf:
    """The files under the media's folder, hashed when a recording of their size is looked for; then the web."""

    def __init__(self, media: Path, downloads: Path, tell: Tell) -> None:
        self.media, self.downloads, self.tell = media, downloads, tell
        self.sums: dict[Path, str] = {}
        self.fetched: dict[str, Fetched] = {}  # by source id

    @cached_property
    def files(self) -> list[tuple[int, Path]]:
        """Size and path of every file under the folder."""
        found = []
        for here, folders, names in os.walk(self.media):
            folders.sort()
            for name in sorted(names):
                path = Path(here) / name
                if path.is_file():
                    found.append((path.stat().st_size, path))
        return found

    def find(self, row: ReleasedSource) -> tuple[Path | None, str]:
        """The file with a recording's bytes, or None and why there is none."""
        local = [self.media / place.address for place in row.places if "://" not in place.address]
        changed = None
        for path in local:
            if path.is_file():
                if self._is(path, row):
                    return path, ""
                changed = path
        sizes = {place.size_bytes for place in row.places}
        for size, path in self.files:
            if (not sizes or None in sizes or size in sizes) and self._is(path, row):
                return path, ""
        if changed:
            return None, f"{str(changed)!r} has other bytes than the recording (SHA-256 {str(row.source.sha256)[:16]}…)"
        addresses = [place.address for place in row.places if "://" in place.address]
        if addresses:
            return self._download(row, addresses)
        names = " or ".join(repr(place.address) for place in row.places) or "its file"
        return None, f"{names} is not under {str(self.media)!r}, nor is any file with its SHA-256"

    def _download(self, row: ReleasedSource, addresses: Sequence[str]) -> tuple[Path | None, str]:
        """A recording's bytes from the first address that still has them."""
        from corpus_builder.acquire.web import fetch, look

        whys = []
        for address in addresses:
            self.tell(f"downloading {hidden(address)}")
            try:
                check_address(address)
                entries = look(address, Choice(limit=2), FetchSettings())
                if len(entries) != 1:
                    whys.append(f"{address} leads to a list now")
                    continue
                fetched = fetch(entries[0], self.downloads, FetchSettings(), lambda *_: None)
            except PdidError as error:
                whys.append(str(error))
                continue
            if self._is(fetched.path, row):
                self.fetched[row.source.source_id] = fetched
                return fetched.path, ""
            fetched.path.unlink()
            whys.append(f"{address} has other bytes now than the recording (SHA-256 {str(row.source.sha256)[:16]}…)")
        return None, "; ".join(whys) + "; fetch it elsewhere and name its folder with --media"

    def _is(self, path: Path, row: ReleasedSource) -> bool:
        try:
            if path not in self.sums:
                self.sums[path] = sha256_of(path)
        except OSError:
            return False
        return self.sums[path] == row.source.sha256


def _removal(row: ReleasedSource, tombstones: Tombstones) -> Removal | None:
    """The takedown of a released recording, by its bytes or an address."""
    found = (tombstones.of(uri=place.address) for place in row.places)
    return tombstones.of(sha256=row.source.sha256) or next(filter(None, found), None)


def _refuse(row: ReleasedSource, removal: Removal, pieces: Sequence[ReleasedSegment], corpus: Path) -> Rebuilt:
    """A recording that was taken down stays out; the release's splits are stale for its clips."""
    ids = {piece.segment.segment_id: removal.source_id for piece in pieces}
    with open_catalog(corpus, write=True) as catalog:
        remove_sources(catalog, [removal.source_id], removal.reason, removal.removed_at, ids)
    missing = [(piece.segment.segment_id, removal.explained) for piece in pieces if piece.segment.kept]
    return Rebuilt(row.source.source_id, row.source.uri, None, missing=missing)


def _source(
    row: ReleasedSource, pieces: Sequence[ReleasedSegment], kept: set[str], shelf: _Shelf, cutter: _Cutter
) -> Rebuilt:
    """Recreate one recording's clips and rows."""
    wanted = [piece for piece in pieces if piece.segment.kept]
    names = {_name(piece) for piece in wanted}
    outcome = Rebuilt(row.source.source_id, row.source.uri, None)
    if names <= kept and all((cutter.corpus / name).is_file() for name in names):
        outcome.there, outcome.clips = True, len(names)
        return outcome
    path, why = shelf.find(row)
    if path is None:
        outcome.missing = [(piece.segment.segment_id, why) for piece in wanted]
        return outcome
    outcome.found = path
    try:
        cutter.cut(row, wanted, path, outcome)
    except MediaError as error:
        outcome.missing = [(piece.segment.segment_id, str(error)) for piece in wanted]
        return outcome
    gone = {segment_id for segment_id, _ in outcome.missing}
    stat = path.stat()
    fetched = shelf.fetched.get(row.source.source_id)
    uri = fetched.fetch.uri if fetched else address_of(path)
    result = SourceResult(
        replace(row.source, uri=uri, status=Status.DONE, error=None),
        (Address(uri, row.source.source_id, stat.st_size, stat.st_mtime_ns),),
        () if gone else tuple(row.stages),  # without its stages, `pdid ingest` takes it up again
        tuple(cutter.marks[row.source.source_id]),
        (),
        tuple(
            replace(piece.segment, path=_name(piece) if piece.segment.kept else None)
            for piece in pieces
            if piece.segment.segment_id not in gone
        ),
        fetch=stored_fetch(fetched, row.source) if fetched else None,
    )
    with open_catalog(cutter.corpus, write=True) as catalog:
        catalog.write_source(result)
    return outcome


class _Cutter:
    """Cuts the listed clips out of recordings."""

    def __init__(self, release: Release, settings: Settings, corpus: Path, tell: Tell) -> None:
        self.settings, self.corpus, self.tell = settings, corpus, tell
        self.marks: dict[str, list[Mark]] = {row.source.source_id: [] for row in release.sources}
        for row in release.marks:
            self.marks.setdefault(row.source_id, []).append(row.mark)
        self.recorded = {
            stage.model for row in release.sources for stage in row.stages if stage.stage == "separate"
        } - {"none", ""}

    @cached_property
    def separator(self) -> Separator | None:
        """Demucs, or None where its weights are not on this disk."""
        from corpus_builder.models import find_demucs
        from corpus_builder.separate import Demucs

        found = find_demucs(self.settings.separate.model)
        if found is None:
            return None
        if self.recorded and found.version not in self.recorded:
            self.tell(
                f"the voices were separated with {', '.join(sorted(self.recorded))}, here it is {found.version}: "
                "separated clips will sound a little different"
            )
        return Demucs(self.settings.separate, found)

    def cut(self, row: ReleasedSource, pieces: Sequence[ReleasedSegment], path: Path, outcome: Rebuilt) -> None:
        """Write a recording's clips. Raises MediaError where it can't be decoded."""
        scratch = self.corpus / SCRATCH / row.source.source_id
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            mix = _decode(path, scratch / "mix.f32")
            if len(mix) != row.source.n_samples:
                self.tell(
                    f"{path.name!r} decodes to {len(mix)} samples here and to {row.source.n_samples} where the release "
                    "was made: another version of ffmpeg; its clips may be a little off"
                )
            spans = [mark.span for mark in self.marks[row.source.source_id] if mark.kind == "separated"]
            apart = [p for p in pieces if any(_near(span.start, span.end, p) for span in spans)]
            voice = self._voice(path, mix, spans, scratch) if apart else None
            for piece in pieces:
                separated = piece in apart
                if separated and voice is None:
                    outcome.missing.append((piece.segment.segment_id, _NO_WEIGHTS))
                    continue
                self._write(piece, voice if separated and voice else mix, outcome)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _voice(self, path: Path, mix: Track, spans: Sequence[Span], scratch: Path) -> Track | None:
        """The recording with the voice alone where it was separated; None without weights."""
        import torch

        from corpus_builder.separate import separate_spans

        if self.separator is None:
            return None
        torch.set_num_threads(os.cpu_count() or 1)
        try:
            return separate_spans(path, mix, spans, self.separator, scratch / "voice.f32", lambda share: None)
        finally:
            torch.set_num_threads(1)

    def _write(self, piece: ReleasedSegment, track: Track, outcome: Rebuilt) -> None:
        segment = piece.segment
        sound = track.read(segment.start, segment.end)
        if len(sound) < segment.end - segment.start:
            outcome.missing.append((segment.segment_id, "the recording ends before it, as it is decoded here"))
            return
        assert segment.gain_db is not None
        target = self.corpus / _name(piece)
        write_clip(target, (sound * np.float32(10 ** (segment.gain_db / 20))).astype(np.float32))  # as loudness.level
        if self.settings.previews:
            write_preview(target)
        outcome.clips += 1
        outcome.differing += piece.clip_sha256 is not None and sha256_of(target) != piece.clip_sha256


_NO_WEIGHTS = (
    "its voice was separated from music, and there are no Demucs weights on this disk: "
    "`pdid models fetch htdemucs` brings them"
)


def _name(piece: ReleasedSegment) -> str:
    """A clip's path, relative to the corpus."""
    return f"{CLIPS}/{piece.segment.source_id}/{piece.segment.segment_id}.wav"


def _near(start: int, end: int, piece: ReleasedSegment) -> bool:
    return start - FADE < piece.segment.end and piece.segment.start < end + FADE


def _decode(path: Path, file: Path) -> Track:
    """A recording as mono 16 kHz in a scratch file, exactly as `pdid ingest` decodes it."""
    n = 0
    with file.open("wb") as out:
        for block in Decoder(path, RATE):
            out.write(block.tobytes())
            n += len(block)
    return Track(file, n)


def _restore(catalog: Catalog, release: Release) -> None:
    """What is said of the recordings that are there, and the splits."""
    there = {source.source_id for source in catalog.sources()}
    write_labels(catalog, [label for label in release.labels if label.source_id in there])
    write_transcripts(catalog, [text for text in release.transcripts if text.source_id in there])
    rules = [rule for rule in release.rules if {rule.a.source_id, rule.b.source_id} <= there]
    write_link_rules(catalog, rules)
    who = links(catalog)
    for piece in release.segments:
        local = piece.segment.speaker_id
        if local and piece.speaker and piece.segment.source_id in there and piece.speaker != local:
            who[local] = piece.speaker
    write_links(catalog, who)
    for split in release.splits:
        members = [row.member for row in release.members if row.split_name == split.name]
        restore_split(catalog, split, members)


def _write_settings(settings: Settings, folder: Path, corpus: Path) -> None:
    """The release's settings as the corpus's pdid.toml, so that `pdid ingest` goes on with them."""
    target = corpus / "pdid.toml"
    if target.exists():
        return
    if settings.taxonomy == TAXONOMY:
        if not (folder / TAXONOMY).is_file():
            raise PdidError(f"the release names {TAXONOMY} as its accents' names, and it is not in {str(folder)!r}")
        shutil.copyfile(folder / TAXONOMY, corpus / TAXONOMY)
    beside = target.with_name(".pdid.toml.part")
    beside.write_text("\n".join(_toml(settings)) + "\n", "utf-8")
    os.replace(beside, target)


def _toml(settings: Settings) -> Iterable[str]:
    """The settings that are not the defaults, as TOML."""
    plain = settings.model_dump(exclude_defaults=True, mode="json")
    yield "# as in the release this corpus was rebuilt from"
    for key, value in plain.items():
        if not isinstance(value, dict):
            yield f"{key} = {json.dumps(value, ensure_ascii=False)}"
    for key, value in plain.items():
        if isinstance(value, dict):
            yield f"[{key}]"
            yield from (f"{name} = {json.dumps(one, ensure_ascii=False)}" for name, one in value.items())
