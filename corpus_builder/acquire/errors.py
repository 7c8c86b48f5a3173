"""yt-dlp's failures as sentences: what happened, and what to do about it. Imports yt-dlp."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from yt_dlp.networking.exceptions import (
    CertificateVerifyError,
    HTTPError,
    IncompleteRead,
    ProxyError,
    RequestError,
    TransportError,
)
from yt_dlp.utils import ExtractorError, GeoRestrictedError, UnsupportedError, YoutubeDLError

from catalog.errors import PdidError
from corpus_builder.acquire.addresses import redact
from corpus_builder.acquire.client import LONGEST_WAIT_S, Client, asked_to_wait
from corpus_builder.acquire.records import FetchError, NotWanted

_BY_HAND = "download it by other means and ingest the file"
LOG_IN = "it may want you to be logged in (--cookies-from-browser BROWSER, or --cookies FILE)"
_NO_RUNTIME = "No supported JavaScript runtime"
_TOLD = (ExtractorError, HTTPError, TransportError, OSError)
_JUNK = re.compile(r"[;.,]? ?(please report this issue on|Use --list-formats|\(caused by|See https://github).*")


@contextmanager
def explained(address: str, client: Client) -> Iterator[None]:
    """Turn what yt-dlp, the network and the disk raise inside into a FetchError with one sentence about `address`."""
    try:
        yield
    except NotWanted:
        raise
    except FetchError as error:  # of an address behind this one, perhaps
        why = redact(error.why, client.settings)
        raise FetchError(address, why, lost_s=error.lost_s, permanent=error.permanent) from None
    except PdidError as error:  # cookies that can't be read
        raise FetchError(address, redact(str(error), client.settings)) from None
    except (YoutubeDLError, OSError) as error:
        why, permanent = _reason(error, client)
        raise FetchError(address, redact(why, client.settings), permanent=permanent) from None
    except Exception as error:  # an extractor that stumbles over what the site sent
        why = f"yt-dlp does not understand what the site answers ({type(error).__name__}: {_line(str(error))})"
        why = f"{why}; update it (pip install -U yt-dlp yt-dlp-ejs), or {_BY_HAND}"
        raise FetchError(address, redact(why, client.settings)) from None


def causes(error: BaseException) -> list[BaseException]:
    """The error and all that it came from, as yt-dlp, requests and Python note it."""
    found: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        one = todo.pop(0)
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            exc_info = getattr(one, "exc_info", None) or (None, None)
            todo += [getattr(one, "cause", None), exc_info[1], one.__cause__, one.__context__, *one.args]
            todo.append(getattr(one, "reason", None))
    return found


def _reason(error: BaseException, client: Client) -> tuple[str, bool]:
    """Why, and whether that is for good."""
    chain = causes(error)
    if client.downloading and client.last_failure and not any(isinstance(one, _TOLD) for one in chain):
        chain += causes(client.last_failure)  # yt-dlp's downloaders keep the words of it only
    for one in chain:
        if isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return f"the disk is full ({one.strerror}): make room and run again, it goes on from there", False
        if isinstance(one, HTTPError):
            return _refusal(one, client)
        if isinstance(one, TransportError):
            return _unreached(one, chain, client), False
        if isinstance(one, UnsupportedError):
            page = "it is a page (to log in, perhaps) without media that yt-dlp can find"
            return f"{page}: give the address of the media, or {_BY_HAND}", True
        if isinstance(one, GeoRestrictedError):
            return "it is not for your country: --proxy with one in another country may help", False
    for one in chain:
        if isinstance(one, RequestError) and re.search(r"connection adapters|InvalidSchema|file://", str(one)):
            return "the site sends on to an address that is not on the web", True
        if isinstance(one, OSError) and one.strerror:
            name = f" {one.filename!r}" if one.filename else ""
            return f"it can't be written{name}: {one.strerror}", False
    return _said(error, chain, client)


def _refusal(error: HTTPError, client: Client) -> tuple[str, bool]:
    status, times = error.status, _times(client.failures)
    wait = asked_to_wait(error)
    if error.redirect_loop:
        return "the site sends in a circle", False
    if status == 429:
        answer = "the site answered 429 (too many requests)"
        if wait and wait > LONGEST_WAIT_S:
            return f"{answer} and asks to wait {wait:.0f} s: run again then, and use --sleep SECONDS", False
        return f"{answer}{times}: run again later, and use --sleep SECONDS", False
    if status in (401, 407):
        return f"the site answered {status} (not authorised): {LOG_IN}", False
    if status in (403, 451):
        return f"the site refuses it ({status}): {LOG_IN}, or serve other countries only (--proxy)", False
    if status in (404, 410):
        return f"there is nothing there ({status} {error.reason or ''}".rstrip() + ")", True
    if status >= 500:
        return f"the site is in trouble ({status} {error.reason or ''}".rstrip() + f"){times}: run again later", False
    return f"the site answered {status} {error.reason or ''}".rstrip(), False


def _unreached(error: TransportError, chain: list[BaseException], client: Client) -> str:
    if isinstance(error, CertificateVerifyError):
        return "the site's certificate can't be trusted: is the clock right, or is a proxy in between?"
    if isinstance(error, ProxyError):
        return "the proxy can't be used: check --proxy"
    if isinstance(error, IncompleteRead):
        return "the connection broke off: run again, it goes on from there"
    if any(isinstance(one, TimeoutError) or "Timeout" in type(one).__name__ for one in chain):
        wait = f"{client.settings.timeout_s:g} s"
        return f"the server does not answer within {wait}{_times(client.failures)}: run again later"
    times = _times(client.failures)
    system = next((one for one in chain if isinstance(one, OSError) and one.strerror), None)
    if system is None:
        return f"the connection failed ({_line(str(error))}){times}: run again later"
    return f"the server can't be reached ({system.strerror}){times}: check the address, or run again later"


def _said(error: BaseException, chain: list[BaseException], client: Client) -> tuple[str, bool]:
    """What yt-dlp itself says, without its own advice; and where a missing JavaScript runtime may be behind it."""
    extractor = next((one for one in chain if isinstance(one, ExtractorError)), None)
    said = extractor.orig_msg if extractor else str(error).removeprefix("ERROR: ")
    line = _line(_JUNK.sub("", " ".join(said[:5000].split())))
    permanent = bool(re.search(r"DRM|private|removed|terminated|deleted|not exist", line, re.IGNORECASE))
    if re.search(r"format is not available|No (video )?formats", line):
        line = "there is no sound in it that can be downloaded"
    if any(_NO_RUNTIME in message for message in client.messages.lines):
        line += "; YouTube wants a JavaScript runtime, and there is none: pip install deno"
    return line, permanent


def _times(failures: int) -> str:
    return f", {failures} times" if failures > 1 else ""


def _line(text: str) -> str:
    """One line of printable text."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split()).rstrip(".")
    return line if len(line) <= 300 else line[:299] + "…"
