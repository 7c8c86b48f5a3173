"""Addresses on the web: which are fetched at all, and keeping credentials out of what is stored and said."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from catalog.errors import UsageError

if TYPE_CHECKING:
    from corpus_builder.acquire.records import FetchSettings

WEB = frozenset({"http", "https"})
STREAMS = frozenset({"rtmp", "rtmps", "rtmpe", "rtmpt", "rtsp", "rtsps"})
"""Schemes that only ever carry a live stream."""
OBJECTS = {"s3": "s3fs", "gs": "gcsfs"}
"""Schemes of object storage, and the package that fsspec reads each with."""

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://|data:[\w.+-]+/|javascript:", re.IGNORECASE)
_SEARCH = re.compile(r"[a-z0-9]+search(date)?(|[1-9]\d*|all):\S", re.IGNORECASE)
# What a site sends goes through these: no pattern may take longer than in proportion to the text
_USER = re.compile(r"(://)[^\s/?#'\"]*@")
_TOKEN = re.compile(
    r"([?&;](?:[\w.-]{0,40}(?:token|signature|secret|passw|credential|policy|api[_-]?key|auth|session|hmac)[\w.-]{0,40}"
    r"|l?sig|key|pwd|key-pair-id|hdn[a-z]+)=)[^\s&;#'\"<>]+",
    re.IGNORECASE,
)
_HEADER = re.compile(r"\b((?:set-)?cookie|(?:proxy-)?authorization)(['\"]?\s{0,9}[:=]\s{0,9})[^\r\n]+", re.IGNORECASE)


def is_address(text: str) -> bool:
    """Whether a source is meant as an address or a search (`ytsearch5:…`), not as a file's path."""
    return bool(_ADDRESS.match(text) or _SEARCH.match(text))


def check_address(url: str) -> None:
    """Raise UsageError for what `refusal` refuses."""
    if reason := refusal(url):
        raise UsageError(f"{hidden(url)[:200]!r} can't be fetched: {reason}")


def refusal(url: str) -> str | None:
    """Why an address is not fetched: file://, data:, ftp:// and other schemes, no host, blanks; None if it is.

    http, https, rtmp…, rtsp…, s3, gs and searches are; private addresses, too.
    """
    if _SEARCH.match(url):
        return None
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a port that is no number raises
    except ValueError as error:
        return f"it is no web address ({error})"
    if parts.scheme.lower() not in WEB | STREAMS | OBJECTS.keys():
        return f"expected http:// or https://, not {parts.scheme or url[:20]!r}"
    if not host or re.search(r"[\x00-\x20\x7f]", url):
        return "it is no web address: it has no host, or a blank in it"
    return None


def without_credentials(url: str) -> str:
    """The address without `user:password@`; its query stays, for without it there may be nothing."""
    return re.sub(r"^([a-z][a-z0-9+.-]*://)[^/?#]*@", r"\1", url, flags=re.IGNORECASE)


def key_of(uri: str) -> str:
    """What the files of an address are called by, and its source while there are no bytes: 16 hex digits."""
    return hashlib.sha256(uri.encode()).hexdigest()[:16]


def hidden(text: str) -> str:
    """A text with users, passwords, tokens and signatures in its addresses, and cookies, replaced by `…`."""
    return _HEADER.sub(r"\1\2…", _TOKEN.sub(r"\1…", _USER.sub(r"\1…@", text)))


def redact(text: str, settings: FetchSettings) -> str:
    """A message fit to be seen: `hidden`, and without the proxy's user and password and any cookie's value."""
    from corpus_builder.acquire.cookies import known_values

    secrets = set(known_values(settings))
    if settings.proxy:
        user, at, _ = settings.proxy.rpartition("://")[2].rpartition("@")
        if at:
            secrets |= {user, *user.split(":", 1)[1:]}
    for secret in sorted(secrets, key=len, reverse=True):
        for form in {secret, unquote(secret)}:
            if len(form) > 3:  # a shorter one is in half of all words
                text = text.replace(form, "…")
    return hidden(text)
