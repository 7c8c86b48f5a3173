"""A metadata-only release: what `pdid rebuild` recreates the corpus from, without a second of sound."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter

from catalog.annotations import labels, link_rules, links, transcripts
from catalog.records import Address, Label, Stage, Transcript
from catalog.store import Catalog, open_catalog
from corpus_builder.config import Settings, load_settings
from corpus_builder.export import release as to
from corpus_builder.export.card import write_card
from corpus_builder.export.clips import ExportClip
from corpus_builder.export.croissant import FileSet, write_croissant
from corpus_builder.export.job import Job, sha256_of, write_lines
from corpus_builder.plan import stage_hashes


def write(job: Job, out: Path) -> None:
    """Write release.json, the tables that `release.py` names, README.md and croissant.json.

    Recordings come whole, rejected pieces and all, unless accents or a split are chosen: then the chosen clips alone,
    and what is said of them. Raises PdidError where a clip's file is gone.
    """
    sums = {clip.segment_id: _sum(job, clip) for clip in job.watch(job.clips, "hashing")}
    with open_catalog(job.corpus) as catalog:
        release = _read(job, catalog, sums)
    settings, hold = _settings(load_settings(job.corpus), release.sources)
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
    write_lines(out / to.SOURCES.file, to.SOURCES.lines(release.sources))
    write_lines(out / to.SEGMENTS.file, to.SEGMENTS.lines(release.segments))
    write_lines(out / to.MARKS.file, to.MARKS.lines(release.marks))
    write_lines(out / to.LABELS.file, to.LABELS.lines(release.labels))
    write_lines(out / to.TRANSCRIPTS.file, to.TRANSCRIPTS.lines(release.transcripts))
    write_lines(out / to.RULES.file, to.RULES.lines(release.rules))
    write_lines(out / to.SPLITS.file, to.SPLITS.lines(release.splits))
    write_lines(out / to.MEMBERS.file, to.MEMBERS.lines(release.members))
    write_card(job, out, {})
    write_croissant(job, out, TABLES)


def _sum(job: Job, clip: ExportClip) -> str:
    try:
        return sha256_of(job.corpus / clip.path)
    except FileNotFoundError:
        raise job.gone(clip) from None


def _read(job: Job, catalog: Catalog, sums: dict[str, str]) -> to.Release:
    """Everything that is to be released, as records."""
    whole = job.choice.accents is None and job.choice.split is None
    ids = sorted({clip.source_id for clip in job.clips})
    results = [result for result in map(catalog.result, ids) if result]
    addresses = _addresses([address for result in results for address in result.addresses])
    who = links(catalog)
    release = to.Release(to.ReleaseInfo(to.VERSION, "", job.created_at), [], [], [], [], [], [], [], [])
    for result in results:
        source_id = result.source.source_id
        places = [to.Place(addresses[a.uri], a.size_bytes) for a in result.addresses if a.uri in addresses]
        source = replace(result.source, uri=places[0].address if places else source_id)
        release.sources.append(to.ReleasedSource(source, places, list(result.stages) if whole else []))
        pieces = [s for s in result.segments if s.segment_id in sums or (whole and not s.kept)]
        for segment in pieces:
            local = segment.speaker_id
            speaker = who.get(local, local) if local else None
            release.segments.append(to.ReleasedSegment(segment, speaker, sums.get(segment.segment_id)))
        release.marks.extend(to.ReleasedMark(source_id, mark) for mark in result.marks)
        spans = None if whole else [(piece.start, piece.end) for piece in pieces]
        release.labels.extend(label for label in labels(catalog, source_id) if _touches(label, spans))
        release.transcripts.extend(text for text in transcripts(catalog, source_id) if _touches(text, spans))
    release.rules.extend(r for r in link_rules(catalog) if {r.a.source_id, r.b.source_id} <= set(ids))
    there = {piece.segment.segment_id for piece in release.segments}
    for split in catalog.splits():
        if job.choice.split in (None, split.name):
            release.splits.append(split)
            for member in catalog.split_members(split.name):
                if member.segment_id in there:
                    release.members.append(to.ReleasedMember(split.name, member))
    return release


def _settings(settings: Settings, sources: Sequence[to.ReleasedSource]) -> tuple[Settings, bool]:
    """The settings that made the recordings, and whether the stages' hashes prove it.

    `pdid ingest --separate` may have said another mode than the file does, so each is tried.
    """
    modes = (settings.separate.mode, "auto", "never", "always")
    for mode in modes:
        other = settings.model_copy(update={"separate": settings.separate.model_copy(update={"mode": mode})})
        if all(_made_with(other, row.stages) for row in sources):
            return other, all(row.stages for row in sources)
    return settings, False


def _made_with(settings: Settings, stages: Sequence[Stage]) -> bool:
    recorded = {stage.stage: stage.config_hash for stage in stages}
    return not stages or stage_hashes(settings, {stage.stage: stage.model for stage in stages}) == recorded


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
    paths = {a.uri: PurePosixPath(a.uri).parts for a in addresses if a.uri.startswith("/")}
    found = {}
    for uri, parts in paths.items():
        n = 1
        while sum(other[-n:] == parts[-n:] for other in paths.values()) > 1:
            n += 1
        found[uri] = "/".join(parts[-n:])
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
