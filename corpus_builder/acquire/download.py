"""One recording onto the disk: resumed where it can be, whole or not at all. Imports yt-dlp."""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path
from typing import Any

from yt_dlp.downloader import get_suitable_downloader
from yt_dlp.downloader.dash import DashSegmentsFD
from yt_dlp.downloader.external import ExternalFD
from yt_dlp.downloader.hls import HlsFD
from yt_dlp.downloader.http import HttpFD
from yt_dlp.downloader.rtmp import RtmpFD
from yt_dlp.networking.exceptions import CertificateVerifyError, HTTPError, TransportError
from yt_dlp.utils import ContentTooShortError, DownloadError, is_html

from corpus_builder.acquire.client import Client, back_off
from corpus_builder.acquire.errors import LOG_IN
from corpus_builder.acquire.fragments import Tell, prepare_dash, prepare_hls
from corpus_builder.acquire.provenance import number
from corpus_builder.acquire.records import FetchError, FetchSettings
from corpus_builder.sources import MEDIA

_LOOK_AT_THE_DISK = 16 << 20
"""Bytes between two looks."""


class _File(HttpFD):  # type: ignore[misc]  # yt-dlp has no types
    """A download in one piece, whose failures are raised as they are: `_in_one_piece` tries again."""

    def report_retry(self, err: Exception, *_: Any, **__: Any) -> None:
        raise err


def download(
    client: Client, info: dict[str, Any], stem: Path, settings: FetchSettings, tell: Tell
) -> tuple[Path, float | None]:
    """Download the format that `info` names to a file beside `stem`; that file, and the seconds its manifest says.

    What is there of an earlier try is gone on from: a part in one piece by asking for the rest, fragments by asking
    for those that are missing. Raises FetchError, and what yt-dlp raises.
    """
    ending = str(info.get("ext")).lower()
    ending = ending if f".{ending}" in MEDIA else "bin"
    told = watched(tell, stem.parent, settings)
    kind = get_suitable_downloader(info, client.params)
    seconds = None
    if kind is HlsFD or kind is DashSegmentsFD:
        downloader, word = (prepare_hls if kind is HlsFD else prepare_dash)(client, info, told)
        seconds = downloader.total_s or None
    elif kind is None or issubclass(kind, (ExternalFD, RtmpFD)):
        raise FetchError("", f"its protocol ({info.get('protocol')}) is not one that is fetched here", permanent=True)
    else:
        downloader, word = (_File if kind is HttpFD else kind)(client, client.params), _word(info)
    path = stem.with_name(f"{stem.name}-{word}.{ending}")
    _check_space(info, path, settings, joins=seconds is not None)
    if isinstance(downloader, _File):
        _in_one_piece(client, downloader, info, path, told)
    elif not downloader.download(str(path), info)[0]:
        raise DownloadError("; ".join([*client.messages.lines][-1:]) or "yt-dlp gives no reason")
    with path.open("rb") as file:
        start = file.read(1024)
    if is_html(start):
        path.unlink()
        raise FetchError("", f"what comes is a web page, not media: {LOG_IN}")
    if start[0:189:188] == b"GG":  # HLS segments are called mp4 by yt-dlp, and are MPEG transport streams mostly
        path = path.rename(path.with_suffix(".ts"))
    return path, seconds


def _word(info: dict[str, Any]) -> str:
    """Parts of different formats must not be joined."""
    return hashlib.sha256(f"{info.get('format_id')} {info.get('ext')}".encode()).hexdigest()[:8]


def _in_one_piece(client: Client, downloader: _File, info: dict[str, Any], path: Path, tell: Tell) -> None:
    """Download by one request and, where that breaks off, by requests for the rest, as long as more comes."""
    part, origin = Path(f"{path}.part"), Path(f"{path}.origin")
    announced: int | None = None

    def progress(status: dict[str, Any]) -> None:
        nonlocal announced
        if status["status"] == "downloading":
            announced = status.get("total_bytes")
            tell(status["downloaded_bytes"], announced)

    def answered(response: Any) -> None:
        if response.status == 200 and (validator := _validator(response.headers)):
            origin.write_text(validator, "utf-8")

    downloader.add_progress_hook(progress)
    client.on_answer = answered
    headers = dict(info.get("http_headers") or {})
    most, failures = _size(part), 0
    try:
        while True:
            # a file that has changed since comes whole again, instead of its end after the old one's beginning
            unchanged = {"If-Range": origin.read_text("utf-8")} if _size(part) and origin.is_file() else {}
            try:
                if not downloader.download(str(path), {**info, "http_headers": {**headers, **unchanged}})[0]:
                    raise DownloadError("; ".join([*client.messages.lines][-1:]) or "yt-dlp gives no reason")
                return
            except (TransportError, HTTPError, ContentTooShortError) as error:
                beyond = isinstance(error, HTTPError) and error.status == 416 and _size(part) > 0
                if beyond and error.response.headers.get("Content-Range") == f"bytes */{_size(part)}":
                    part.rename(path)  # a run was killed between the last byte and this
                    return
                if beyond:  # it is shorter than what came of it before
                    part.unlink()
                hopeless = isinstance(error, HTTPError) and error.status < 500 and not beyond
                if hopeless or isinstance(error, CertificateVerifyError):
                    raise
                came = _size(part)
                failures = 1 if came > most else failures + 1
                most = max(most, came)
                if failures > client.settings.retries:
                    if not came:
                        raise
                    of = f" of {announced}" if announced else ""
                    why = f"the connection broke off after {came}{of} bytes, {failures} times without more coming"
                    raise FetchError("", f"{why}: run again, it goes on from there") from error
                time.sleep(back_off(client, failures))
    finally:
        client.on_answer = None


def _validator(headers: Any) -> str | None:
    """What tells whether a file is still the same: RFC 9110, 13.1.5, which rules weak tags out."""
    tag = headers.get("ETag") or ""
    return tag if tag.startswith('"') else headers.get("Last-Modified")


def _check_space(info: dict[str, Any], path: Path, settings: FetchSettings, *, joins: bool) -> None:
    """Raise FetchError if there is no room for it, as far as its size is known."""
    size = number(info.get("filesize")) or number(info.get("filesize_approx"))
    if not size:  # kbit/s
        size = (number(info.get("duration")) or 0.0) * (number(info.get("tbr")) or number(info.get("abr")) or 0.0) * 125
    there = sum(one.stat().st_size for one in path.parent.glob(f"{path.name}*"))
    needed = max(0, round(size) * (2 if joins else 1) - there)
    free = shutil.disk_usage(path.parent).free
    if free < needed + settings.min_free_bytes:
        takes = f"it takes about {_mb(needed)}, and " if needed else ""
        raise FetchError(
            "", f"there is no room for it: {takes}{_mb(settings.min_free_bytes)} must stay free of {_mb(free)}"
        )


def watched(tell: Tell, folder: Path, settings: FetchSettings) -> Tell:
    """`tell`, with an eye on the disk."""
    looked = 0

    def tell_and_look(so_far: int, of: int | None) -> None:
        nonlocal looked
        if so_far - looked >= _LOOK_AT_THE_DISK:
            looked = so_far
            free = shutil.disk_usage(folder).free
            if free < settings.min_free_bytes:
                least = _mb(settings.min_free_bytes)
                raise FetchError("", f"the disk is nearly full: {_mb(free)} are free, and {least} must stay so")
        tell(so_far, of)

    return tell_and_look


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _mb(size: float) -> str:
    return f"{size / 1e6:.0f} MB"
