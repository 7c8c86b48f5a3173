"""From what yt-dlp says of an address to entries, lazily: playlists, channels and searches expand. Imports yt-dlp."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from yt_dlp.utils import unsmuggle_url

from corpus_builder.acquire.addresses import without_credentials
from corpus_builder.acquire.client import Client
from corpus_builder.acquire.provenance import NO_IDS, TITLE, number, site_id_of, site_of, text, uploaded
from corpus_builder.acquire.records import ASKED, READY, Choice, Entry, FetchError

_LETTERS = str.maketrans({"ك": "ک", "ي": "ی", "ى": "ی", "\u200c": " "})
_DEPTH = 5  # lists in lists: a channel, its tabs, their playlists


def expand(client: Client, address: str) -> Iterator[Entry]:
    """The entries behind an address, as they are asked for: one, or a list's. Raises as yt-dlp does, and FetchError."""
    asked = without_credentials(address)
    client.login(address)
    info = _resolved(client, client.extract_info(asked, download=False, process=False))
    if _is_list(info):
        for entry in _of_list(client, info, asked, _DEPTH):
            yield replace(entry, listed=True, info={**(entry.info or {}), ASKED: address})
        return
    info = {**_processed(client, info), ASKED: address}
    yield entry_of(client, info, asked, _canonical(info, asked))


def extracted(client: Client, entry: Entry, known: dict[str, Any] | None) -> dict[str, Any]:
    """What yt-dlp needs to download an entry, from what is `known` of it or by asking the site (again)."""
    client.login((entry.info or {}).get(ASKED) or entry.uri)
    if known and known.get(READY):
        if known.get("cookies"):
            client._load_cookies(known["cookies"], autoscope=False)  # that the site gave to whoever looked
        return {**known}
    page, _, part = entry.uri.partition("#") if entry.site in NO_IDS else (entry.uri, "", "")
    info = _resolved(client, known or client.extract_info(page, download=False, process=False))
    if _is_list(info):
        items = [item for item in info.get("entries") or () if item]
        items = [item for item in items if len(items) == 1 or part == item.get("id")]
        if len(items) != 1:
            raise FetchError(entry.uri, "it is a list of recordings: ingest its own address")
        about = {key: info.get(key) for key in ("extractor", "extractor_key", "webpage_url")}
        info = _resolved(client, {**about, **items[0]})
    return _processed(client, info)


def _processed(client: Client, info: dict[str, Any]) -> dict[str, Any]:
    """With the format chosen."""
    if info.get(READY):
        return info
    found = {**client.process_ie_result({**info}, download=False), READY: True}
    if found.get("direct") and not found.get("filesize"):
        found["filesize"] = client.lengths.get(found["url"])
    return found


def _resolved(client: Client, info: dict[str, Any] | None) -> dict[str, Any]:
    """Follow what only points elsewhere, as far as a recording or a list."""
    for _ in range(10):
        if not info:
            raise FetchError("", "there is nothing there", permanent=True)
        if info.get("_type") == "url_transparent":
            found = client.process_ie_result(info, download=False)
            return {**found, READY: not _is_list(found)}
        if info.get("_type") != "url":
            return info
        info = client.extract_info(info["url"], download=False, ie_key=info.get("ie_key"), process=False)
    raise FetchError("", "the site sends from one address to the next without end")


def _is_list(info: dict[str, Any]) -> bool:
    return info.get("_type", "video") in ("playlist", "multi_video", "compat_list")


def _of_list(client: Client, info: dict[str, Any], asked: str, depth: int) -> Iterator[Entry]:
    for item in info.get("entries") or ():
        if not item:
            continue
        if _is_list(item):
            inner: dict[str, Any] | None = item
        elif item.get("_type") in ("url", "url_transparent"):
            extractor = _extractor(client, item)
            if extractor is None or extractor._RETURN_TYPE != "playlist":
                yield _flat(client, item, extractor, asked)
                continue
            inner = client.extract_info(item["url"], download=False, ie_key=extractor.ie_key(), process=False)
        else:
            client.add_default_extra_info(item, None, None)
            about = {key: info.get(key) for key in ("extractor", "extractor_key", "webpage_url")}
            yield entry_of(client, {**about, **item}, asked, _in_page(info, item))
            continue
        if depth and inner:
            yield from _of_list(client, _resolved(client, inner), asked, depth - 1)


def _extractor(client: Client, item: dict[str, Any]) -> Any:
    """The class of the extractor that will take a list's item."""
    if item.get("ie_key"):
        return client.get_info_extractor(item["ie_key"])
    return next((one for one in client._ies.values() if one.suitable(item["url"])), None)


def _flat(client: Client, item: dict[str, Any], extractor: Any, asked: str) -> Entry:
    """An item of a list that is only named there; fetching extracts it."""
    key = extractor.ie_key() if extractor else "Generic"
    site_id = item.get("id") or (extractor.get_temp_id(item["url"]) if extractor else None)
    info = {**item, "ie_key": key, "extractor_key": key, "id": site_id}
    return entry_of(client, info, asked, _canonical({**info, "webpage_url": item["url"]}, None))


def _canonical(info: dict[str, Any], asked: str | None) -> str:
    """The address a recording is known by: the site's own for it, else the one it was asked by."""
    site = str(info.get("extractor_key") or "generic").lower()
    if site == "youtube" and info.get("id"):
        return f"https://www.youtube.com/watch?v={info['id']}"  # of shorts, live and short addresses too
    if asked and site in NO_IDS:
        return asked  # where a redirect leads may be signed, and another each time
    return without_credentials(unsmuggle_url(info.get("webpage_url") or asked or info["url"])[0])


def _in_page(page: dict[str, Any], item: dict[str, Any]) -> str:
    """An address for one of several recordings in a page: the file's own where that is plain, else a page's part."""
    own = item.get("webpage_url")
    if own and own != page.get("webpage_url"):
        return without_credentials(own)
    urls = {form.get("url") for form in item.get("formats") or [item]}
    url = urls.pop() if len(urls) == 1 else None
    if url and "?" not in url:
        return without_credentials(unsmuggle_url(url)[0])
    return f"{without_credentials(page.get('webpage_url') or '')}#{item.get('id')}"


def entry_of(client: Client, info: dict[str, Any], asked: str, uri: str) -> Entry:
    """An entry of what yt-dlp knows so far."""
    size = number(info.get("filesize")) or number(info.get("filesize_approx"))
    return Entry(
        uri=uri,
        asked=asked,
        site=site_of(info),
        site_id=site_id_of(info),
        title=text(info.get("title"), TITLE),
        duration_s=number(info.get("duration")),
        channel=text(info.get("channel") or info.get("uploader"), TITLE),
        uploaded_at=uploaded(info),
        live=is_live(client, info),
        size_bytes=int(size) if size else None,
        info=info,
    )


def is_live(client: Client, info: dict[str, Any]) -> bool:
    """Whether it has no end: a live broadcast, or an address that answered as radio stations do."""
    return bool(info.get("is_live")) or info.get("url") in client.stations


def chosen(entry: Entry, choice: Choice) -> Choice | None:
    """What of a choice can't be told yet of an entry (`Choice()` where nothing is left); None if it is not wanted."""
    left = replace(choice, limit=None)
    if choice.since and entry.uploaded_at:
        if entry.uploaded_at.date() < choice.since:
            return None
        left = replace(left, since=None)
    if choice.match is not None and entry.title:
        if _folded(choice.match) not in _folded(entry.title):
            return None
        left = replace(left, match=None)
    if choice.max_duration_s is not None and entry.duration_s:
        if entry.duration_s > choice.max_duration_s:
            return None
        left = replace(left, max_duration_s=None)
    return left


def why_not(client: Client, info: dict[str, Any], entry: Entry) -> str | None:
    """Why an entry is not wanted, now that all is known of it; None if it is."""
    now = entry_of(client, info, entry.asked, entry.uri)
    if entry.unchecked is None or chosen(now, entry.unchecked) is not None:
        return None
    day = f"uploaded on {now.uploaded_at:%Y-%m-%d}" if now.uploaded_at else "uploaded nobody knows when"
    long = f", {now.duration_s:.0f} s long" if now.duration_s else ""
    return f"it is not one of those asked for: {now.title!r}, {day}{long}"


def _folded(words: str) -> str:
    """As people type it: either case, Arabic or Persian kaf and yeh, with or without the half-space."""
    words = unicodedata.normalize("NFC", words).translate(_LETTERS)
    return " ".join(words.casefold().split())
