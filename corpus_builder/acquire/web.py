"""The web: what is behind an address, and one recording fetched. All of yt-dlp lies behind these two functions, and
object storage.

Both are for threads: no signals, no output, one yt-dlp for each call.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from corpus_builder.acquire.addresses import OBJECTS, STREAMS, key_of, refusal, without_credentials
from corpus_builder.acquire.records import (
    READY,
    Choice,
    Entry,
    Fetched,
    FetchError,
    FetchSettings,
    NotWanted,
    SubtitleFile,
)
from corpus_builder.acquire.shelf import PART

if TYPE_CHECKING:
    from corpus_builder.acquire.client import Client

__all__ = ["FetchError", "NotWanted", "fetch", "key_of", "look"]

_EXPIRED = frozenset({401, 403, 410})
"""What sites answer for a signed address whose time is over."""


def look(address: str, choice: Choice, settings: FetchSettings) -> list[Entry]:
    """What there is to fetch behind an address: one recording, or those of a playlist, channel, feed or search.

    Of a list the chosen entries in its order, and no more of it is asked for than they need; what can't be told of
    an entry yet (its date, often) `fetch` will check. Raises FetchError.
    """
    if reason := refusal(address):
        raise FetchError(address, reason, permanent=True)
    scheme = urlsplit(address).scheme.lower()
    if scheme in OBJECTS:
        from corpus_builder.acquire.objects import look as look_at_objects

        return look_at_objects(address, choice, settings)
    if scheme in STREAMS:
        bare = without_credentials(address)
        return [Entry(bare, bare, "generic", live=True, info={"url": address, "is_live": True, READY: True})]

    from corpus_builder.acquire.client import Client
    from corpus_builder.acquire.entries import chosen, expand
    from corpus_builder.acquire.errors import explained

    found: dict[str, Entry] = {}
    with Client(settings) as client, explained(address, client):
        for entry in expand(client, address):
            left = chosen(entry, choice)
            if left is not None and entry.uri not in found:
                found[entry.uri] = replace(entry, unchecked=left if left != Choice() else None)
            if choice.limit is not None and len(found) >= choice.limit:
                break
    return list(found.values())


def fetch(entry: Entry, folder: Path, settings: FetchSettings, tell: Callable[[int, int | None], None]) -> Fetched:
    """Download an entry's sound into `folder`, with its subtitles; a live stream is recorded for `record_s` seconds.

    The file is called by `key_of(entry.uri)` and moves there when it is whole; what is unfinished waits in `.part/`
    for the next call, which goes on from there. `tell` hears of the bytes so far and, where known, of how many; what
    it raises ends the download. Raises FetchError; NotWanted for an entry that turns out not to be chosen.
    """
    if entry.site in OBJECTS:
        from corpus_builder.acquire.objects import fetch as fetch_object

        return fetch_object(entry, folder, settings, tell)

    from corpus_builder.acquire.client import Client
    from corpus_builder.acquire.errors import causes, explained

    with Client(settings) as client, explained(entry.uri, client):
        (folder / PART).mkdir(parents=True, exist_ok=True)
        try:
            return _fetched(client, entry, folder, tell, entry.info)
        except Exception as error:
            expired = any(getattr(one, "status", None) in _EXPIRED for one in causes(error))
            if not (client.downloading and expired):
                raise
        client.downloading = False
        return _fetched(client, entry, folder, tell, None)  # links found a while ago may have expired since


def _fetched(
    client: Client, entry: Entry, folder: Path, tell: Callable[[int, int | None], None], known: dict[str, Any] | None
) -> Fetched:
    from yt_dlp.version import __version__

    from corpus_builder.acquire.download import download
    from corpus_builder.acquire.entries import extracted, is_live, why_not
    from corpus_builder.acquire.provenance import fetch_of
    from corpus_builder.acquire.subtitles import fetch_subtitles

    info = extracted(client, entry, known)
    if entry.unchecked and (why := why_not(client, info, entry)):
        raise NotWanted(entry.uri, why)
    client.downloading = True
    fetch = fetch_of(info, entry.uri, entry.asked, f"yt-dlp {__version__}")
    stem, target = folder / PART / key_of(entry.uri), folder / key_of(entry.uri)
    subtitles: tuple[SubtitleFile, ...] = ()
    if entry.live or is_live(client, info):
        part, recorded_s, lost_s = _recorded(client, info, stem, tell)
        fetch = replace(fetch, announced_s=None, recorded_s=recorded_s, lost_s=lost_s)
    else:
        part, seconds = download(client, info, stem, client.settings, tell)
        fetch = replace(fetch, announced_s=seconds or fetch.announced_s)
        subtitles = fetch_subtitles(client, info, stem, target)
    with part.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    fetch = replace(fetch, sha256=sha256, size_bytes=part.stat().st_size)
    media = target.with_suffix(part.suffix)
    os.replace(part, media)
    for left in stem.parent.glob(f"{stem.name}-*"):
        left.unlink()
    return Fetched(media, fetch, subtitles)


def _recorded(
    client: Client, info: dict[str, Any], stem: Path, tell: Callable[[int, int | None], None]
) -> tuple[Path, float, float]:
    """A live stream's file, its seconds, and the seconds lost."""
    from corpus_builder.acquire.download import watched
    from corpus_builder.acquire.live import record

    seconds = client.settings.record_s
    if seconds is None:
        raise FetchError("", "it is a live stream, which has no end: say how long to record it with --record MINUTES")
    dash = "dash" in str(info.get("protocol"))  # its format is one of segments; the manifest lists them
    url = str((info.get("manifest_url") if dash else None) or info["url"])
    headers = dict(info.get("http_headers") or {})
    if login := client.logins.get(urlsplit(url).netloc):
        headers["Authorization"] = login
    told = watched(tell, stem.parent, client.settings)
    recording = record(url, headers, stem.with_name(f"{stem.name}-live.mka"), seconds, client.settings, told)
    return recording.path, recording.seconds, recording.lost_s
