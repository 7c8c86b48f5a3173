"""A metadata-only release: what `pdid rebuild` recreates the corpus from, without a second of sound."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import TypeVar

from pydantic import TypeAdapter

from catalog.annotations import labels, link_rules, links, transcripts
from catalog.records import Address, Label, Segment, Transcript
from catalog.store import Catalog, open_catalog
from corpus_builder.config import Settings, load_settings
from corpus_builder.export import release as to
from corpus_builder.export.card import write_card
from corpus_builder.export.clips import ExportClip
from corpus_builder.export.croissant import FileSet, write_croissant
from corpus_builder.export.job import Job, open_lines, sha256_of, write_lines
from corpus_builder.plan import stage_hashes

BLOCK = 1000
"""Recordings that are read at a time."""

T = TypeVar("T")
Said = TypeVar("Said", Label, Transcript)
Made = frozenset[tuple[str, str, str]]
"""How a recording was made: stage, model and hash of its settings; none where only some of its pieces are released."""


def write(job: Job, out: Path) -> None:
    """Write release.json, the tables that `release.py` names, README.md and croissant.json.

    Recordings come whole, rejected pieces and all, unless accents or a split are chosen: then the chosen clips alone,
    and what is said of them. Raises PdidError where a clip's file is gone.
    """
    sums = {clip.segment_id: _sum(job, clip) for clip in job.watch(job.clips, "hashing")}
    with open_catalog(job.corpus) as catalog:
        made = _write_tables(job, catalog, sums, out)
    settings, hold = _settings(load_settings(job.corpus), made)
    if not hold:
        job.tell("some recordings were made with other settings than the corpus has now: release.json says so")
    taxonomy = next((p for p in (job.corpus / settings.taxonomy, Path(settings.taxonomy)) if p.is_file()), None)
    if taxonomy:  # one of the user's own
        shutil.copyfile(taxonomy, out / to.TAXONOMY)
        settings = settings.model_copy(update={"taxonomy": to.TAXONOMY})
    for section in ("separate", "diarize"):  # a model's folder on this machine says nothing elsewhere
        model = getattr(settings, section)
        if Path(model.model).is_absolute():
            plain = model.model_copy(update={"model": Path(model.model).name})
            settings = settings.model_copy(update={section: plain})
    about = to.ReleaseInfo(to.VERSION, version("pdid"), job.created_at, settings.model_dump(mode="json"), hold)
    write_lines(out / to.ABOUT, TypeAdapter(to.ReleaseInfo).dump_json(about, indent=2).decode().splitlines())
    write_card(job, out, {})
    write_croissant(job, out, TABLES)


def _sum(job: Job, clip: ExportClip) -> str:
    try:
        return sha256_of(job.corpus / clip.path)
    except FileNotFoundError:
        raise job.gone(clip) from None


def _write_tables(job: Job, catalog: Catalog, sums: dict[str, str], out: Path) -> set[Made]:
    """Write everything that is released, some recordings at a time; returns how they were made, each way once."""
    whole = job.choice.accents is None and job.choice.split is None
    ids = sorted({clip.source_id for clip in job.clips})
    chosen = set(ids)
    addresses = _addresses([address for address in catalog.addresses().values() if address.source_id in chosen])
    who = links(catalog)
    splits = [split for split in catalog.splits() if job.choice.split in (None, split.name)]
    members = {split.name: catalog.split_members(split.name) for split in splits}
    asked = {member.segment_id for found in members.values() for member in found}
    there: set[str] = set()  # of the pieces that splits name
    made: set[Made] = set()
    with ExitStack() as stack:
        files = {table.file: stack.enter_context(open_lines(out / table.file)) for table in to.TABLES}

        def put(table: to.Table[T], records: Iterable[T]) -> None:
            files[table.file].writelines(f"{line}\n" for line in table.lines(records))

        for start in range(0, len(ids), BLOCK):
            block = ids[start : start + BLOCK]
            said, told = _by_source(labels(catalog, block)), _by_source(transcripts(catalog, block))
            for result in catalog.results(block):
                source_id = result.source.source_id
                places = [to.Place(addresses[a.uri], a.size_bytes) for a in result.addresses if a.uri in addresses]
                source = replace(result.source, uri=places[0].address if places else source_id)
                stages = list(result.stages) if whole else []
                made.add(frozenset((stage.stage, stage.model, stage.config_hash) for stage in stages))
                put(to.SOURCES, [to.ReleasedSource(source, places, stages)])
                pieces = [s for s in result.segments if s.segment_id in sums or (whole and not s.kept)]
                there.update(piece.segment_id for piece in pieces if piece.segment_id in asked)
                put(to.SEGMENTS, (_released(piece, who, sums) for piece in pieces))
                put(to.MARKS, (to.ReleasedMark(source_id, mark) for mark in result.marks))
                spans = None if whole else [(piece.start, piece.end) for piece in pieces]
                put(to.LABELS, (label for label in said[source_id] if _touches(label, spans)))
                put(to.TRANSCRIPTS, (text for text in told[source_id] if _touches(text, spans)))
        put(to.RULES, (rule for rule in link_rules(catalog) if {rule.a.source_id, rule.b.source_id} <= chosen))
        put(to.SPLITS, splits)
        for name, found in members.items():
            put(to.MEMBERS, (to.ReleasedMember(name, member) for member in found if member.segment_id in there))
    return made


def _released(piece: Segment, who: Mapping[str, str], sums: Mapping[str, str]) -> to.ReleasedSegment:
    local = piece.speaker_id
    return to.ReleasedSegment(piece, who.get(local, local) if local else None, sums.get(piece.segment_id))


def _by_source(said: Iterable[Said]) -> defaultdict[str, list[Said]]:
    found: defaultdict[str, list[Said]] = defaultdict(list)
    for one in said:
        found[one.source_id].append(one)
    return found


def _settings(settings: Settings, made: Iterable[Made]) -> tuple[Settings, bool]:
    """The settings that made the recordings, and whether the stages' hashes prove it.

    `pdid ingest --separate` may have said another mode than the file does, so each is tried.
    """
    modes = (settings.separate.mode, "auto", "never", "always")
    for mode in modes:
        other = settings.model_copy(update={"separate": settings.separate.model_copy(update={"mode": mode})})
        if all(_made_with(other, stages) for stages in made):
            return other, all(made)
    return settings, False


def _made_with(settings: Settings, stages: Made) -> bool:
    recorded = {stage: config_hash for stage, _, config_hash in stages}
    return not stages or stage_hashes(settings, {stage: model for stage, model, _ in stages}) == recorded


def _touches(said: Label | Transcript, spans: Sequence[tuple[int, int]] | None) -> bool:
    """Whether something is said of all of the recording or of one of these stretches; None is all of them."""
    if spans is None or said.start is None or said.end is None:
        return True
    return any(said.start < end and start < said.end for start, end in spans)


def _addresses(addresses: Sequence[Address]) -> dict[str, str]:
    """Addresses as a release gives them: of local files the name, after as many folders as tell them apart.

    More would say how somebody's disk is laid out, and a recording is recognised by its hash. A file whose name is
    no text has none.
    """
    left = {a.uri: PurePosixPath(a.uri).parts for a in addresses if a.uri.startswith("/")}
    found = {}
    n = 1
    while left:
        names = {uri: parts[-n:] for uri, parts in left.items()}
        times = Counter(names.values())
        for uri, name in names.items():
            if times[name] == 1 or n >= len(left[uri]):
                found[uri] = "/".join(name)
                del left[uri]
        n += 1
    return found | {a.uri: a.uri for a in addresses if "://" in a.uri and not a.uri.startswith("file:")}


JSON_LINES = "application/jsonlines"
TABLES = [
    FileSet(
        "sources",
        to.SOURCES.file,
        JSON_LINES,
        {},
        {
            "source.source_id": ("string", "The recording: the first 16 digits of its SHA-256"),
            "source.uri": ("string", "Where it was found: a web address, or the file's name"),
            "source.sha256": ("string", "SHA-256 of its bytes"),
            "source.n_samples": ("int64", "Its length in samples at 16 kHz"),
            "source.title": ("string", "Its title"),
            "source.accent": ("string", "Its accent, by its metadata"),
            "source.language": ("string", "Its language"),
            "source.licence": ("string", "What it may be used for"),
        },
    ),
    FileSet(
        "segments",
        to.SEGMENTS.file,
        JSON_LINES,
        {},
        {
            "segment.segment_id": ("string", "The piece"),
            "segment.source_id": ("string", "The recording it is of"),
            "segment.start": ("int64", "Where it starts, in samples at 16 kHz"),
            "segment.end": ("int64", "Where it ends, in samples at 16 kHz"),
            "segment.kept": ("bool", "Whether it is a clip of the corpus"),
            "segment.reject_reason": ("string", "Why it is not"),
            "speaker": ("string", "Who speaks, the same in all recordings"),
            "clip_sha256": ("string", "SHA-256 of the clip's WAV file"),
        },
    ),
]
