"""What a site says of a recording, made fit to be kept: bounded, printable, and without credentials."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence, Set
from datetime import UTC, datetime
from typing import Any

from catalog.records import Fetch
from corpus_builder.acquire.addresses import hidden

NO_IDS = frozenset({"generic", "html5mediaembed"})
"""Sites whose "id" is made of the address and tells nothing: two addresses can share one."""

TITLE = 1_000
"""Characters of a title, a channel, a licence."""

_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_TEXT = 100_000  # characters
_RAW = 5_000_000

# Signed, large, or about this download and not about the recording
_NOT_RAW = frozenset(
    (
        "formats", "requested_formats", "requested_downloads", "requested_subtitles", "entries", "url", "manifest_url",
        "fragments", "fragment_base_url", "hls_media_playlist_data", "hls_aes", "http_headers", "cookies",
        "request_data", "thumbnails", "thumbnail", "heatmap", "player_url", "downloader_options", "original_url",
    )
)  # fmt: skip


def fetch_of(info: dict[str, Any], uri: str, asked: str, tool: str) -> Fetch:
    """The record of a download that begins now. What came is for the caller to fill in."""
    return Fetch(
        uri=uri,
        source_id="",
        site=site_of(info),
        site_id=site_id_of(info),
        asked=asked,
        title=text(info.get("title"), TITLE),
        channel=text(info.get("channel") or info.get("uploader"), TITLE),
        channel_id=text(info.get("channel_id") or info.get("uploader_id"), TITLE),
        uploaded_at=uploaded(info),
        licence=text(info.get("license"), TITLE),
        announced_s=number(info.get("duration")),
        lost_s=0.0,
        sha256=None,
        size_bytes=None,
        media=None,
        recorded_s=None,
        tool=tool,
        fetched_at=datetime.now(UTC),
        raw=raw_of(info),
    )


def site_of(info: dict[str, Any]) -> str:
    """The extractor's key in lower case."""
    return str(info.get("extractor_key") or info.get("ie_key") or "generic").lower()


def site_id_of(info: dict[str, Any]) -> str | None:
    """The site's id, or None where that is made of the address."""
    return None if site_of(info) in NO_IDS else text(info.get("id"), TITLE)


def uploaded(info: dict[str, Any]) -> datetime | None:
    """When it was put there, in UTC: to the second, else the day."""
    try:
        if (at := number(info.get("timestamp"))) is not None:
            return datetime.fromtimestamp(at, UTC)
        return datetime.strptime(str(info.get("upload_date")), "%Y%m%d").replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        return None


def number(value: Any) -> float | None:
    """A finite number over 0, or None."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    return float(value) if good else None


def text(value: Any, most: int) -> str | None:
    """A text of at most so many characters, without control characters and broken surrogates; None if that is empty."""
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        return None
    clean = _clean(str(value)[: most + 1])
    clean = re.sub(r"\s+", " ", clean).strip()
    return (clean if len(clean) <= most else clean[: most - 1] + "…") or None


def _clean(words: str) -> str:
    """Without what terminals obey and UTF-8 can't hold; lines stay."""
    return _UNFIT.sub(" ", words.replace("\r", "\n"))


def raw_of(info: dict[str, Any]) -> dict[str, Any]:
    """The site's metadata as JSON: strings of 100 kB and 5 MB in all at most, and no credentials."""
    kept = {key: value for key, value in info.items() if key not in _NOT_RAW and not key.startswith("_")}
    for kind in ("subtitles", "automatic_captions"):
        kept[kind] = sorted(map(str, kept.get(kind) or ()))  # the languages; the addresses are signed
    found: dict[str, Any] = {}
    size = 0
    clean = {str(key)[:200]: _json(value) for key, value in kept.items()}
    for key, (value, length) in sorted(clean.items(), key=lambda one: one[1][1]):
        size += length
        if size > _RAW:
            break  # what is left is longer still
        if value not in (None, [], {}):
            found[key] = value
    return found


def _json(value: Any, depth: int = 20) -> tuple[Any, int]:
    """A value fit for JSON, and about how many characters it takes."""
    if isinstance(value, str):
        words = hidden(_clean(value if len(value) <= _TEXT else value[: _TEXT - 1] + "…"))
        return words, len(words) + 4
    if isinstance(value, float) and not math.isfinite(value):
        return None, 4
    if value is None or isinstance(value, (bool, int, float)):
        return value, 20
    if depth == 0:
        return None, 4
    size = 2
    if isinstance(value, dict):
        inner: dict[str, Any] = {}
        for key, one in value.items():
            if key in _NOT_RAW:
                continue
            inner[str(key)[:200]], length = _json(one, depth - 1)
            size += length + min(len(str(key)), 200) + 4
        return inner, size
    if not isinstance(value, (Sequence, Set)) or isinstance(value, bytes):
        return None, 4
    rows = []
    for one in value:
        row, length = _json(one, depth - 1)
        rows.append(row)
        size += length + 2
    return rows, size
