"""yt-dlp as it is used here: quiet, without files of its own, polite, and on the web only. Imports yt-dlp.

One client serves one address in one thread.
"""

from __future__ import annotations

import copy
import functools
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from yt_dlp import YoutubeDL
from yt_dlp.cookies import YoutubeDLCookieJar
from yt_dlp.extractor import gen_extractor_classes
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import CertificateVerifyError, HTTPError, TransportError
from yt_dlp.utils import extract_basic_auth

from corpus_builder.acquire.addresses import WEB
from corpus_builder.acquire.cookies import load
from corpus_builder.acquire.records import FetchError, FetchSettings

LONGEST_WAIT_S = 60.0
"""Seconds between two tries, at most; a site that asks for more is left alone."""

PAGE_BYTES = 64 << 20
"""The longest page, manifest or metadata that is read into memory."""

MEDIA = (".aac", ".flac", ".m4a", ".mka", ".mkv", ".mov", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".wav", ".webm")
"""Names that end so are asked for their headers before they are looked into."""

_TOO_MANY = 429
_MAY_NOT_BE_ASKED = frozenset({400, 403, 405, 501})
"""What servers answer that send a file but not its headers alone; 403 where an address is signed for one method."""

_BUSY = frozenset({500, 502, 503, 504})
_making = Lock()  # the first client loads the plugins into yt-dlp's global tables


class Log:
    """yt-dlp's messages: kept, never printed."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=50)

    def debug(self, message: str) -> None:
        """Progress and debugging, of which there is much."""

    def warning(self, message: str) -> None:
        """What may explain a failure that follows."""
        self.lines.append(message)

    info, error = debug, warning


class Client(YoutubeDL):  # type: ignore[misc]  # yt-dlp has no types
    """yt-dlp with this program's manners.

    While it looks (`downloading` false) every failed request is tried again; while it downloads yt-dlp's downloaders
    do that, and only 429 is waited for here. After `retries` failures in a row it gives up at once.
    """

    def __init__(self, settings: FetchSettings) -> None:
        self.settings = settings
        self.messages = Log()
        self.downloading = False
        self.failures = 0  # requests that failed, in a row
        self.last_failure: HTTPError | TransportError | None = None
        self.lengths: dict[str, int] = {}  # as announced, by address
        self.stations: set[str] = set()  # addresses that answered as radio stations do: with no end
        self.on_answer: Callable[[Any], None] | None = None  # called with each good response
        self.logins: dict[str, str] = {}  # by host: the Authorization header that its address asked for
        with _making:
            super().__init__(self._parameters())

    def _parameters(self) -> dict[str, Any]:
        settings = self.settings
        sleep = functools.partial(_back_off_of, self)
        return {
            "quiet": True,
            "noprogress": True,
            "logger": self.messages,
            "color": "never",
            "format": "bestaudio/best",
            "format_sort": ["res:360"],  # where sound comes with a picture only: a small one, yet not the worst sound
            "noplaylist": True,  # watch?v=…&list=… is the video; the list has an address of its own
            "extract_flat": "in_playlist",
            "cachedir": False,
            "check_formats": False,  # would write to the working folder
            "fixup": "never",
            "external_downloader": "native",
            "skip_unavailable_fragments": False,
            "_no_ytdl_file": True,  # fragments are kept as files of their own: see fragments.py
            "continuedl": True,
            "updatetime": False,
            "buffersize": 32 << 10,  # a block that is cut off is lost, and yt-dlp's grow to 4 MB
            "noresizebuffer": True,
            "retries": settings.retries,
            "fragment_retries": 0,
            "extractor_retries": settings.retries,
            "retry_sleep_functions": {"http": sleep, "fragment": sleep, "extractor": sleep},
            "socket_timeout": settings.timeout_s,
            "ratelimit": settings.rate_limit,
            "sleep_interval_requests": settings.sleep_s,
            "sleep_interval": settings.sleep_s,
            "proxy": settings.proxy,
            # each is looked for on PATH and beside this Python, where the deno wheel puts its program
            "js_runtimes": {"deno": {}, "node": {}, "bun": {}, "quickjs": {}},
        }

    def add_default_info_extractors(self) -> None:
        """All that are enabled; yt-dlp's own way to find them takes longer than fetching a minute of sound."""
        for extractor in gen_extractor_classes():
            if extractor._ENABLED:
                self.add_info_extractor(extractor)

    @functools.cached_property
    def cookiejar(self) -> Any:
        """The user's cookies; what a site adds stays in this client."""
        jar = YoutubeDLCookieJar()
        for cookie in load(self.settings, self):
            jar.set_cookie(copy.copy(cookie))
        return jar

    def save_cookies(self) -> None:
        """Nothing: the user's cookies are never written to."""

    def login(self, url: str) -> None:
        """Remember the user and password in an address for all requests to its host."""
        bare, header = extract_basic_auth(url)
        if header:
            self.logins[urlsplit(bare).netloc] = header

    def urlopen(self, req: Any) -> Any:
        """A response. Raises FetchError for an address that is not on the web; else as yt-dlp's own."""
        request = Request(req) if isinstance(req, str) else req
        self.login(request.url)
        parts = urlsplit(request.url)
        if parts.scheme.lower() not in WEB | {"data"}:  # data: holds what it names, and fetches nothing
            raise FetchError(request.url, f"it leads to {parts.scheme}://, which is not on the web", permanent=True)
        login = self.logins.get(parts.netloc)
        if login and "Authorization" not in request.headers:
            request.headers["Authorization"] = login
        ask = _only_asking(request) if not self.downloading and _names_media(request) else None
        while True:
            try:
                response = super().urlopen((ask or request).copy())
            except (HTTPError, TransportError) as error:
                if ask and isinstance(error, HTTPError) and error.status in _MAY_NOT_BE_ASKED:
                    ask = None
                    time.sleep(self.settings.sleep_s)
                    continue
                self.last_failure = error
                answered = isinstance(error, HTTPError) and error.status not in _BUSY | {_TOO_MANY}
                self.failures = 0 if answered else self.failures + 1
                if answered or not self._is_worth_another(error):
                    raise
                if isinstance(error, TransportError):
                    ask = None  # old radio servers hang up on it
                time.sleep(back_off(self))
            else:
                self.failures, self.last_failure = 0, None
                if ask and not _is_file(response):
                    ask = None
                    response.close()
                    time.sleep(self.settings.sleep_s)
                    continue
                return self._noted(request.url, response)

    def _is_worth_another(self, error: HTTPError | TransportError) -> bool:
        if self.failures > self.settings.retries or (asked_to_wait(error) or 0) > LONGEST_WAIT_S:
            return False
        too_many = isinstance(error, HTTPError) and error.status == _TOO_MANY
        return too_many or not (self.downloading or isinstance(error, CertificateVerifyError))

    def _noted(self, url: str, response: Any) -> Any:
        headers = response.headers
        if (length := headers.get("Content-Length", "")).isdigit() and not headers.get("Content-Encoding"):
            self.lengths[url] = self.lengths[response.url] = int(length)
        elif headers.get("icy-name") or headers.get("icy-br") or "icecast" in headers.get("Server", "").lower():
            self.stations |= {url, response.url}
        if self.on_answer:
            self.on_answer(response)
        read = response.read

        def bounded(amount: int | None = None) -> bytes:
            try:
                if amount is not None:
                    return bytes(read(amount))
                page = bytearray()
                while block := read(1 << 20):
                    page += block
                    if len(page) > PAGE_BYTES:
                        raise FetchError(url, f"its page has no end ({PAGE_BYTES >> 20} MB were read)", permanent=True)
                return bytes(page)
            except TransportError as error:
                self.last_failure = error
                raise

        response.read = bounded
        return response


def _names_media(request: Request) -> bool:
    """Whether an address is by its name a file of sound or pictures, whose first bytes nobody needs to look at."""
    name = urlsplit(request.url).path.lower()
    return request.data is None and request.method == "GET" and name.endswith(MEDIA)


def _only_asking(request: Request) -> Request:
    """The same request for the headers alone: what a slow link has sent of a body before it is closed is lost."""
    asking = request.copy()
    asking.method = "HEAD"
    return asking


def _is_file(response: Any) -> bool:
    """Whether headers tell of a file of sound or pictures.

    Without a length it may be a station that broadcasts for ever, which only its answer in full says; what is no media
    is a page or a list of segments, to be read.
    """
    length = response.headers.get("Content-Length", "")
    kind = response.headers.get("Content-Type", "").lower()
    return length.isdigit() and int(length) > 0 and kind.startswith(("audio/", "video/"))


def asked_to_wait(error: Exception | None) -> float | None:
    """Seconds that the server asks to be left alone for (Retry-After), or None."""
    said = str(error.response.headers.get("Retry-After") or "") if isinstance(error, HTTPError) else ""
    if said.strip().isdigit():
        return float(said)
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()) if said else None
    except (TypeError, ValueError):
        return None


def back_off(client: Client, tries: int | None = None) -> float:
    """Seconds to wait after so many failed tries: doubled at each, or as long as the server asks for."""
    wait = client.settings.backoff_s * 2.0 ** min((client.failures if tries is None else tries) - 1, 16)
    asked = asked_to_wait(client.last_failure) if client.failures else None
    return min(max(wait, asked or 0.0), LONGEST_WAIT_S)


def _back_off_of(client: Client, n: int) -> float:
    """yt-dlp counts the tries from 0."""
    return back_off(client, n + 1)
