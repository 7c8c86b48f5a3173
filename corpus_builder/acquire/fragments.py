"""HLS and DASH recordings: every fragment, or an error that says how many seconds are missing. Imports yt-dlp.

yt-dlp appends each fragment to the file as it comes and stops at the first that is missing. Here every fragment is
a file of its own until all are there; so what is missing is known as a whole, the next run asks for nothing else,
and a run that is killed while it joins them loses nothing and joins nothing twice.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from yt_dlp.downloader.dash import DashSegmentsFD
from yt_dlp.downloader.fragment import FragmentFD
from yt_dlp.downloader.hls import HlsFD
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import HTTPError, TransportError
from yt_dlp.utils import DownloadError, parse_m3u8_attributes

from corpus_builder.acquire.client import Client, back_off
from corpus_builder.acquire.errors import causes
from corpus_builder.acquire.records import FetchError

_HOPELESS = 10
"""So many fragments missing in a row: the rest are counted as missing without asking."""

Tell = Callable[[int, int | None], None]


class _Whole(FragmentFD):  # type: ignore[misc]  # yt-dlp has no types
    """Fetch all fragments, then join them."""

    def prepare(self, tell: Tell, seconds: dict[int, float | None]) -> None:
        """`tell` is told the bytes; `seconds` has the length of each fragment by its index, None for a header."""
        self.tell = tell
        self.seconds = {index: length for index, length in sorted(seconds.items()) if length is not None}
        self.total_s = sum(self.seconds.values())
        self.why: Exception | None = None

    def download_and_append_fragments(
        self, ctx: dict[str, Any], fragments: Any, info_dict: dict[str, Any], **_: Any
    ) -> bool:
        fragments = list(fragments)
        missing = self._missing(ctx, fragments, fragments, info_dict)
        if missing:
            time.sleep(back_off(self.ydl, 1))
            missing = self._missing(ctx, fragments, missing, info_dict)
        joined = ctx["dest_stream"]
        if missing:
            joined.close()
            raise self._lost([fragment["frag_index"] for fragment in missing]) from self.why
        decrypt = self.decrypter(info_dict)
        joined.truncate(0)  # of a run that was killed while it joined
        for fragment in fragments:
            joined.write(decrypt(fragment, _file(ctx, fragment).read_bytes()))
        joined.flush()
        os.fsync(joined.fileno())
        return bool(self._finish_frag_download(ctx, info_dict))

    def _missing(
        self, ctx: dict[str, Any], fragments: Sequence[dict[str, Any]], wanted: Sequence[dict[str, Any]], info: Any
    ) -> list[dict[str, Any]]:
        """Fetch the wanted ones that are not there; those that can't be had."""
        missing: list[dict[str, Any]] = []
        so_far, in_a_row = sum(_size(ctx, one) for one in fragments), 0
        for n, fragment in enumerate(wanted, 1):
            if _file(ctx, fragment).is_file():
                in_a_row = 0
                continue
            if in_a_row < _HOPELESS and self._is_fetched(ctx, fragment, info):
                in_a_row = 0
                so_far += _size(ctx, fragment)
                self.tell(so_far, max(so_far, so_far * len(fragments) // n) if wanted is fragments else None)
            else:
                missing.append(fragment)
                in_a_row += 1
        return missing

    def _is_fetched(self, ctx: dict[str, Any], fragment: dict[str, Any], info: dict[str, Any]) -> bool:
        ctx["fragment_index"] = fragment["frag_index"]  # names the file
        # of a killed run: too little to be worth resuming, and if it is all of it yt-dlp would fail on it (416)
        Path(f"{_file(ctx, fragment)}.part").unlink(missing_ok=True)
        headers = dict(info.get("http_headers") or {})
        if part := fragment.get("byte_range"):
            headers["Range"] = f"bytes={part['start']}-{part['end'] - 1}"
        try:
            return bool(self._download_fragment(ctx, fragment["url"], info, headers, info.get("request_data")))
        except (HTTPError, TransportError, DownloadError) as error:
            for cause in causes(error):
                full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
                if full or (isinstance(cause, HTTPError) and cause.status == 429):
                    ctx["dest_stream"].close()
                    raise
            self.why = (isinstance(error, DownloadError) and self.ydl.last_failure) or error
            return False

    def _lost(self, missing: Sequence[int]) -> FetchError:
        """The error that counts the missing seconds."""
        numbers = {index: n for n, index in enumerate(self.seconds, 1)}  # a header has none: it holds no sound
        lost, total = sum(self.seconds.get(index, 0.0) for index in missing), len(numbers)
        if not all(index in numbers for index in missing):
            what, lost = f"the header of its {total} fragments is missing", self.total_s
        elif len(missing) == 1:
            what = f"fragment {numbers[missing[0]]} of {total} is missing"
        elif len(missing) <= 5:
            listed = ", ".join(str(numbers[index]) for index in missing[:-1])
            what = f"fragments {listed} and {numbers[missing[-1]]} of {total} are missing"
        else:
            what = f"{len(missing)} of {total} fragments are missing, the first is {numbers[missing[0]]}"
        answer = next((e.status for e in causes(self.why or Exception()) if isinstance(e, HTTPError)), None)
        said = f"; the site answered {answer}" if answer else ""
        rest = "what came is kept, and the next run asks for the rest only"
        return FetchError("", f"{what} ({lost:.1f} s of {self.total_s:.1f} s){said}; {rest}", lost_s=lost)


class Hls(_Whole, HlsFD):  # type: ignore[misc]
    """An HLS recording. Live ones are not for this."""


class Dash(_Whole, DashSegmentsFD):  # type: ignore[misc]
    """A DASH recording."""


def prepare_hls(client: Client, info: dict[str, Any], tell: Tell) -> tuple[Hls, str]:
    """The downloader of an HLS recording, and a word that changes with what its manifest lists.

    Fetches the manifest, which goes into `info` for the downloader. Raises FetchError if it is encrypted for certain
    players only (DRM).
    """
    text = info.get("hls_media_playlist_data")
    if not text:
        response = client.urlopen(Request(info["url"], None, info.get("http_headers") or {}))
        text, info["url"] = response.read().decode("utf-8", "replace"), response.url
        info["hls_media_playlist_data"] = text
    if not HlsFD.can_download(text, {**info, "is_live": False}):
        raise FetchError("", "it is protected against copying (DRM)", permanent=True)
    seconds, names = _hls_fragments(text)
    downloader = Hls(client, client.params)
    downloader.prepare(tell, seconds)
    return downloader, _word(names, seconds)


def _hls_fragments(manifest: str) -> tuple[dict[int, float | None], list[str]]:
    """The seconds of each fragment by its index, counted as yt-dlp counts them, and their addresses."""
    seconds: dict[int, float | None] = {}
    names: list[str] = []
    length, part, advertisement = 0.0, "", False
    for line in map(str.strip, manifest.splitlines()):
        if line.startswith(("#ANVATO-SEGMENT-INFO", "#UPLYNK-SEGMENT")):  # yt-dlp leaves out what these mark
            advertisement = "type=ad" in line or line.endswith(",ad")
        elif line.startswith("#EXTINF:"):
            try:
                length = float(line[8:].split(",")[0])
            except ValueError:
                length = 0.0
        elif line.startswith("#EXT-X-BYTERANGE"):
            part = line
        elif line.startswith("#EXT-X-MAP"):
            names.append(str(parse_m3u8_attributes(line[11:]).get("URI")))
            seconds[len(names)] = None
        elif line and not line.startswith("#") and not advertisement:
            names.append(line + part)  # after a # that ends the address
            seconds[len(names)], part = length, ""
    return seconds, names


def prepare_dash(client: Client, info: dict[str, Any], tell: Tell) -> tuple[Dash, str]:
    """The downloader of a DASH recording, and a word that changes with what its manifest lists."""
    info["fragments"] = list(info["fragments"])
    seconds = {n: one.get("duration") for n, one in enumerate(info["fragments"], 1)}
    downloader = Dash(client, client.params)
    downloader.prepare(tell, seconds)
    return downloader, _word([one.get("path") or one.get("url") or "" for one in info["fragments"]], seconds)


def _word(names: list[str], seconds: dict[int, float | None]) -> str:
    """Fragments of an older manifest must not be joined with those of this one: their files are named with this.

    Hosts, folders and queries do not count: they may differ from one visit to the next.
    """
    parts = [urlsplit(name) for name in names]
    shape = [f"{part.path.rpartition('/')[2]}#{part.fragment} {seconds[n]}" for n, part in enumerate(parts, 1)]
    return hashlib.sha256("\n".join(shape).encode()).hexdigest()[:8]


def _file(ctx: dict[str, Any], fragment: dict[str, Any]) -> Path:
    return Path(f"{ctx['tmpfilename']}-Frag{fragment['frag_index']}")  # as yt-dlp names it


def _size(ctx: dict[str, Any], fragment: dict[str, Any]) -> int:
    try:
        return _file(ctx, fragment).stat().st_size
    except OSError:
        return 0
