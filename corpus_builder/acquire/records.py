"""What acquiring passes on: how to fetch, what to choose of a list, what is there, what came, and why nothing did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from catalog.errors import PdidError
from catalog.records import Fetch
from corpus_builder.acquire.addresses import hidden

ASKED = "_asked"
"""In an entry's info: the address it was asked by with its user and password, which yt-dlp's own part never has."""

READY = "_ready"
"""In an entry's info: whether yt-dlp has found all that it needs to download it."""


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """Manners and patience; `[fetch]` in pdid.toml gives these, and the command line overrides."""

    sleep_s: float = 0.0  # between two requests, and before a download
    rate_limit: int | None = None  # bytes per second, of each download
    proxy: str | None = None  # as yt-dlp takes it: http://user:password@host:port, socks5://…
    cookies: Path | None = None  # a cookies.txt as browsers export it; never written to
    cookies_from_browser: str | None = None  # browser[+keyring][:profile][::container], as yt-dlp takes it
    timeout_s: float = 20.0  # without a byte from the server
    retries: int = 5  # of one request, after the first try
    backoff_s: float = 1.0  # before the first retry; doubled at each, at most 60 s
    record_s: float | None = None  # how long to record a live stream; None: a live stream is an error
    min_free_bytes: int = 1 << 30  # of disk space, that must be left over


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of a playlist's, channel's or search's entries are wanted."""

    limit: int | None = None  # the first so many that match
    since: date | None = None  # uploaded on this day (UTC) or later
    match: str | None = None  # in the title, case-insensitive
    max_duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to fetch."""

    uri: str  # the canonical address, without credentials
    asked: str  # the address it was asked by, without credentials
    site: str  # yt-dlp's extractor key in lower case
    site_id: str | None = None
    title: str | None = None
    duration_s: float | None = None
    channel: str | None = None
    uploaded_at: datetime | None = None
    live: bool = False
    listed: bool = False  # one of a playlist, a channel or a search
    size_bytes: int | None = None
    info: dict[str, Any] | None = None  # yt-dlp's own, as far as it was extracted; may hold credentials: never store it
    unchecked: Choice | None = None  # what could not be told before fetching it: then fetch may raise NotWanted


@dataclass(frozen=True, slots=True)
class SubtitleFile:
    """A subtitle file beside the media."""

    path: Path  # <key>.<language>.vtt, or <key>.<language>.auto.vtt
    language: str  # as the site names it
    automatic: bool  # made by the site's speech recognition


@dataclass(frozen=True, slots=True)
class Fetched:
    """A finished download."""

    path: Path  # complete, in the folder for media
    fetch: Fetch  # source_id is empty and media None: the caller fills them in
    subtitles: tuple[SubtitleFile, ...] = ()


class FetchError(PdidError):
    """An address that can't be fetched, in one sentence that names it and holds no credentials.

    `why` is the sentence without the address, for where that is shown anyway. `lost_s`: seconds of sound that are
    known to be missing. `permanent`: asking again will not help.
    """

    def __init__(self, address: str, why: str, *, lost_s: float | None = None, permanent: bool = False) -> None:
        super().__init__(f"{hidden(address)} can't be fetched: {why}")
        self.address, self.why, self.lost_s, self.permanent = hidden(address), why, lost_s, permanent


class NotWanted(FetchError):
    """An entry that turned out, once its metadata came, not to be among the chosen ones."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(address, why, permanent=True)
