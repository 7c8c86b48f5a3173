"""Object storage: s3://… and gs://…, through fsspec. What to log in with is the machine's, never in an address."""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import sleep
from typing import Any, TypeVar
from urllib.parse import urlsplit

from corpus_builder.acquire.addresses import OBJECTS, hidden, key_of, without_credentials
from corpus_builder.acquire.client import LONGEST_WAIT_S
from corpus_builder.acquire.download import watched
from corpus_builder.acquire.entries import chosen
from corpus_builder.acquire.origin import bare_fetch
from corpus_builder.acquire.records import Choice, Entry, Fetched, FetchError, FetchSettings
from corpus_builder.acquire.shelf import PART
from corpus_builder.sources import MEDIA

T = TypeVar("T")

BLOCK = 4 << 20
_FOR_GOOD = frozenset({errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG, errno.EMSGSIZE, errno.EISDIR})
"""What the packages make of answers that will be the same again. Of 503, s3fs makes EBUSY."""
_REFUSED = re.compile(r"Credentials|^OSError Forbidden")
"""Errors of the packages' libraries for want of a log-in, and gcsfs's own for 403."""


def look(address: str, choice: Choice, settings: FetchSettings) -> list[Entry]:
    """An object, or with a `/` at the end all media under it, by name; `--limit` and `--match` choose. Raises
    FetchError."""
    if choice.since or choice.max_duration_s:
        raise FetchError(address, "object storage tells no dates or lengths: leave out --since and --max-duration")
    bare = without_credentials(address)

    def found(storage: Any, path: str) -> list[Entry]:
        if bare.endswith("/"):
            under = sorted(storage.find(path, detail=True).items())
            return [_entry(bare + name.removeprefix(path).lstrip("/"), bare, info) for name, info in under]
        if storage.isdir(path):
            raise FetchError(bare, "it is a folder: write it with a / at the end", permanent=True)
        return [_entry(bare, bare, storage.info(path))]

    entries = _asked(bare, settings, found)
    if bare.endswith("/"):
        entries = [entry for entry in entries if _ending(entry.uri) in MEDIA]
        if not entries:
            raise FetchError(bare, "there is no media under it")
        # an object has no title; people mean its name
        entries = [e for e in entries if chosen(replace(e, title=posixpath.basename(e.uri)), choice) is not None]
    return entries[: choice.limit]


def _entry(uri: str, asked: str, info: dict[str, Any]) -> Entry:
    return Entry(uri, asked, urlsplit(uri).scheme.lower(), listed=uri != asked, size_bytes=info.get("size"))


def fetch(entry: Entry, folder: Path, settings: FetchSettings, tell: Callable[[int, int | None], None]) -> Fetched:
    """Copy an object into `folder`; what was copied by a call that broke off is gone on from. Raises FetchError."""
    (folder / PART).mkdir(parents=True, exist_ok=True)
    told = watched(tell, folder, settings)
    key, came = key_of(entry.uri), 0

    def copied(storage: Any, path: str) -> Path:
        nonlocal came
        info = storage.info(path)
        size = int(info["size"])
        mark = hashlib.sha256(f"{size} {info.get('ETag') or info.get('etag')}".encode()).hexdigest()[:8]
        ending = _ending(path)
        part = folder / PART / f"{key}-{mark}{ending if ending in MEDIA else '.bin'}"
        with storage.open(path, "rb", block_size=BLOCK) as source, part.open("ab") as out:
            source.seek(out.tell())
            while block := source.read(BLOCK):
                out.write(block)
                came += len(block)
                told(out.tell(), size)
        if part.stat().st_size != size:
            part.unlink()
            why = f"expected {size} bytes, and other ones came: it was changed meanwhile; run again"
            raise FetchError(entry.uri, why)
        return part

    part = _asked(entry.uri, settings, copied, lambda: came)
    with part.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    media = folder / f"{key}{part.suffix}"
    os.replace(part, media)
    for left in part.parent.glob(f"{key}-*"):
        left.unlink()
    return Fetched(media, replace(bare_fetch(entry), sha256=sha256, size_bytes=media.stat().st_size))


def _asked(
    address: str, settings: FetchSettings, ask: Callable[[Any, str], T], came: Callable[[], int] = lambda: 0
) -> T:
    """What `ask` gets when called with the storage and the path in it; called again where its failure may pass.

    After `retries` failures in a row without another byte (`came`) it is given up. Raises FetchError.
    """
    failures, most = 0, 0
    while True:
        try:
            from fsspec.core import url_to_fs

            return ask(*url_to_fs(address, use_listings_cache=False))
        except FetchError:
            raise
        except Exception as error:  # the packages let through whatever their own libraries raise
            failures = 1 if came() > most else failures + 1
            most = came()
            why, passes = _reason(address, error, failures)
            if not passes or failures > settings.retries:
                raise FetchError(address, why, permanent=isinstance(error, FileNotFoundError)) from None
        sleep(min(settings.backoff_s * 2.0 ** min(failures - 1, 16), LONGEST_WAIT_S))


def _reason(address: str, error: Exception, failures: int) -> tuple[str, bool]:
    """Why, and whether it may pass: as all but what is known not to."""
    package = OBJECTS[urlsplit(address).scheme.lower()]
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, ImportError):
        return f"reading it needs the package {package}: pip install {package}", False
    if isinstance(error, FileNotFoundError):
        return "there is nothing there", False
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({os.strerror(number)}): make room and run again, it goes on from there", False
    if isinstance(error, PermissionError) or _REFUSED.search(f"{type(error).__name__} {error}"):
        said = f"the storage refuses it ({_line(error)})"
        return f"{said}: give this machine credentials, as {package} reads them", False
    times = f", {failures} times" if failures > 1 else ""
    passes = number not in _FOR_GOOD and not isinstance(error, ValueError)
    return f"the storage failed ({_line(error)}){times}: run again later", passes


def _ending(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def _line(error: Exception) -> str:
    """What an error says, in one line: without its number, which is of no system call."""
    said = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    line = " ".join(hidden(said).split())
    return line if len(line) <= 200 else line[:199] + "…"
