"""What a download leaves in the catalog: where it came from, what the site says of it, and its subtitles as texts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version

from catalog.errors import UsageError
from catalog.records import Fetch, Source, Status, Transcript
from corpus_builder.acquire.addresses import OBJECTS
from corpus_builder.acquire.records import Entry, Fetched
from corpus_builder.audio import stated_seconds
from corpus_builder.scripts import contradicts, language_code
from corpus_builder.subtitles import read_subtitles


def described(source: Source, fetch: Fetch) -> Source:
    """The source with what the site says, where nothing is known better."""
    return replace(
        source,
        title=source.title or fetch.title,
        channel=source.channel or fetch.channel,
        licence=source.licence or fetch.licence,
        uploaded_at=source.uploaded_at or fetch.uploaded_at,
    )


def stored_fetch(fetched: Fetched, source: Source) -> Fetch:
    """The record of a download that became this source; its media lie in the corpus's folder of that name."""
    path, announced_s = fetched.path, fetched.fetch.announced_s
    if announced_s is None and fetched.fetch.recorded_s is None and source.status is Status.DONE:
        announced_s = stated_seconds(path)
    return replace(
        fetched.fetch,
        announced_s=announced_s,
        source_id=source.source_id,
        sha256=source.sha256,
        size_bytes=path.stat().st_size,
        media=f"{path.parent.name}/{path.name}",
    )


def failed_fetch(entry: Entry, source_id: str, lost_s: float | None) -> Fetch:
    """The record of a download that failed: what was known of it, and the seconds that are known to be missing."""
    return replace(bare_fetch(entry), source_id=source_id, lost_s=lost_s or 0.0)


def bare_fetch(entry: Entry) -> Fetch:
    """The record of a download before it has begun: what was known of it."""
    tool = "fsspec" if entry.site in OBJECTS else "yt-dlp"
    return Fetch(
        uri=entry.uri,
        source_id="",
        site=entry.site,
        site_id=entry.site_id,
        asked=entry.asked,
        title=entry.title,
        channel=entry.channel,
        channel_id=None,
        uploaded_at=entry.uploaded_at,
        licence=None,
        announced_s=entry.duration_s,
        lost_s=0.0,
        sha256=None,
        size_bytes=None,
        media=None,
        recorded_s=None,
        tool=f"{tool} {version(tool)}",
        fetched_at=datetime.now(UTC),
        raw={},
    )


def transcripts_of(fetched: Fetched, source: Source) -> list[Transcript]:
    """The subtitles that came with a download, as candidates: those of the site's speech recognition as a model's.

    A file that is no subtitle file, and cues beyond the sound's end, are passed over.
    """
    now = datetime.now(UTC)
    texts: list[Transcript] = []
    for file in fetched.subtitles:
        try:
            cues = read_subtitles(file.path)
        except UsageError:
            continue  # the site's fault; the file stays beside the media
        language = language_code(file.language)
        end = source.n_samples or 0
        for cue in cues:
            if cue.start >= end:
                continue
            wrong = contradicts(cue.text, language) is not None
            texts.append(
                Transcript(
                    source.source_id, cue.start, min(cue.end, end), cue.text,
                    f"model:{fetched.fetch.site}-captions" if file.automatic else "subtitle",
                    now, language, file.path.name, None, ("language",) if wrong else (),
                )
            )  # fmt: skip
    return texts
