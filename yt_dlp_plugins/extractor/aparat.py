"""Aparat (aparat.com) for yt-dlp, whose own extractor looks for what the site's pages no longer hold (#17425 there).

It asks what the site's player asks: JSON in which almost any field may be missing, a number a string, a list an
object. Only links to the media are needed. Where there are none yt-dlp's own extractor gets its turn, and then the
error says what to do instead. The shape is as several public clients read it.
"""

from __future__ import annotations

import html
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from yt_dlp.extractor.aparat import AparatIE
from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.utils import ExtractorError, parse_duration, unified_timestamp, url_or_none

WEB = "https://www.aparat.com"


class _UnknownShape(Exception):
    """The site's answer holds nothing to go on; the message says what was looked for."""


class _Interface:
    """What the extractors share."""

    _SITE = WEB  # where the interface is

    def _answer(self: Any, path: str, name: str) -> dict[str, Any]:
        """The site's JSON. Raises ExtractorError if it says there is no such thing, _UnknownShape if it is none."""
        page, response = self._download_webpage_handle(
            urljoin(self._SITE, path), name, note="Downloading JSON", expected_status=(400, 404, 410)
        )
        try:
            answer = json.loads(page)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise _UnknownShape(f"no JSON object, but {page[:40]!r}")
        if response.status != 200 or answer.get("data") == []:
            raise ExtractorError(f"{name!r} does not exist on Aparat, or no longer", expected=True)
        return answer

    def _changed(self, url: str, what: object) -> ExtractorError:
        return ExtractorError(
            f"Aparat's answer for {url} is not understood ({what}): the site's interface seems to have changed; update "
            "pdid, or save the video by other means and give the file: pdid ingest FILE",
            expected=True,
        )

    def _listed(self: Any, path: str, name: str, url: str) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """The pages of a list: each answer, and entries for the videos in it that no page before had."""
        seen: set[str] = set()
        while path:
            try:
                answer = self._answer(path, name)
                if "included" not in answer:
                    raise _UnknownShape("no videos in included")
            except _UnknownShape as shape:
                raise self._changed(url, shape) from None
            entries = []
            for video in _included(answer, "video"):
                uid = _text(video.get("uid"))
                if re.fullmatch(r"[A-Za-z0-9]+", uid) and uid not in seen:
                    seen.add(uid)
                    facts = {key: value for key, value in _facts(video).items() if value is not None}
                    title = facts.pop("title", None)
                    entries.append(self.url_result(f"{WEB}/v/{uid}", AparatIE, uid, title, **facts))
            yield answer, entries
            link = _dict(answer.get("links")).get("next") or _dict(_attributes(answer).get("link")).get("next")
            next_page = urlsplit(link if isinstance(link, str) else "")  # of another host, only the path is taken
            path = urlunsplit(("", "", next_page.path, next_page.query, "")) if entries else ""


class AparatPdidIE(AparatIE, _Interface, plugin_name="pdid"):  # type: ignore[call-arg, misc]  # yt-dlp has no types
    """One video, in place of yt-dlp's extractor of the same name."""

    def _real_extract(self, url: str) -> dict[str, Any]:
        name = self._match_id(url)
        try:
            return self._video(self._answer(f"/api/fa/v1/video/video/show/videohash/{name}", name), name)
        except _UnknownShape as shape:
            what = shape
        try:
            info: dict[str, Any] = super()._real_extract(url)
            if info.get("formats"):
                return {**info, "webpage_url": f"{WEB}/v/{name}"}
        except Exception as error:  # it breaks on pages it doesn't know in many ways
            self.write_debug(f"yt-dlp's own extractor: {error!r}")
        raise self._changed(f"{WEB}/v/{name}", what)

    def _video(self, answer: dict[str, Any], name: str) -> dict[str, Any]:
        video = _attributes(answer)
        if _text(video.get("deleted")).lower() in {"yes", "true", "1"}:
            raise ExtractorError(f"{name!r} was deleted on Aparat", expected=True)
        formats = self._links(video, name)
        if not formats:
            if _text(video.get("process")) not in {"", "done"}:
                raise ExtractorError(f"Aparat is still converting {name!r}; try again later", expected=True)
            raise _UnknownShape("no links in file_link_all")
        channel = next(_included(answer, "channel"), {})
        owner = _text(channel.get("username")) or _text(video.get("owner_username")) or None
        shown = _text(channel.get("name")) or _text(channel.get("displayName")) or _text(video.get("sender_name"))
        pictures = (video.get(key) for key in ("big_poster", "medium_poster", "small_poster", "frame"))
        return {
            **_facts(video),
            "id": name,
            "webpage_url": f"{WEB}/v/{name}",
            "formats": formats,
            "description": _plain(video.get("description")),
            "tags": [tag for tag in map(_plain, _tags(video.get("tags"))) if tag],
            "view_count": _count(video.get("visit_cnt_non_formatted")) or _count(video.get("visit_cnt")),
            "thumbnail": next(filter(None, map(url_or_none, pictures)), None),
            "channel": _plain(shown) or owner,
            "channel_id": _text(channel.get("id")) or owner,
            "channel_url": f"{WEB}/{quote(owner)}" if owner else None,
            "uploader_id": owner,
        }

    def _links(self, video: dict[str, Any], name: str) -> list[dict[str, Any]]:
        """Every quality as a format of yt-dlp's. All carry the same talk, so the sort by height is left to who asks:
        for speech a middling picture is best, since the smallest qualities may be thrifty with the sound as well."""
        formats: list[dict[str, Any]] = []
        manifests: list[str] = []
        for item in _list(video.get("file_link_all")):
            link = next(filter(None, map(_web_link, _list(_dict(item).get("urls")))), None)
            if not link:
                continue
            if urlsplit(link).path.lower().endswith(".m3u8"):
                manifests.append(link)
                continue
            height = re.search(r"\d+", _text(_dict(item).get("profile")))
            formats.append(_file(link, int(height.group()) if height else None))
        if not formats and not manifests:  # fields that say the same of the best quality alone
            formats = [_file(link, None) for link in [_web_link(video.get("file_link"))] if link]
            manifests = [link for link in [_web_link(video.get("hls_link"))] if link and not formats]
        for link in manifests:
            fatal = not formats  # else the others will do
            formats += self._extract_m3u8_formats(link, name, "mp4", m3u8_id="hls", fatal=fatal, headers=_REFERER)
        return formats


class AparatPlaylistIE(_Interface, InfoExtractor):  # type: ignore[misc]
    """A playlist: its videos, for AparatPdidIE."""

    IE_NAME = "aparat:playlist"
    _VALID_URL = r"https?://(?:www\.)?aparat\.com/playlist/(?P<id>\d+)"

    def _real_extract(self, url: str) -> Any:
        name = self._match_id(url)
        pages = self._listed(f"/api/fa/v1/video/playlist/one/playlist_id/{name}", name, url)
        answer, entries = next(pages)  # now, since it has the title, or an error
        about = _attributes(answer)
        rest = itertools.chain.from_iterable(more for _, more in pages)
        title, description = _plain(about.get("title")), _plain(about.get("description"))
        return self.playlist_result(itertools.chain(entries, rest), name, title, description)


class AparatChannelIE(_Interface, InfoExtractor):  # type: ignore[misc]
    """A channel: all its videos, newest first."""

    IE_NAME = "aparat:channel"
    _VALID_URL = (
        r"https?://(?:www\.)?aparat\.com/(?!(?:v|video|playlist|embed|search|result|live|api|etc|dashboard|login)(?:[/?#]|$))"
        r"(?P<id>[\w.-]+)(?:/videos)?/?(?:[?#]|$)"
    )

    def _real_extract(self, url: str) -> Any:
        name = self._match_id(url)
        pages = self._listed(f"/api/fa/v1/user/video/list/username/{quote(name)}/perpage/40", name, url)
        answer, entries = next(pages)  # now, since it has the title, or an error
        channel = next(_included(answer, "channel"), {})
        rest = itertools.chain.from_iterable(more for _, more in pages)
        title = _plain(channel.get("name")) or _plain(channel.get("displayName")) or name
        return self.playlist_result(itertools.chain(entries, rest), name, title, _plain(channel.get("description")))


_REFERER = {"Referer": f"{WEB}/"}
_DIGITS = str.maketrans("۰۱۲۳۴۵۶۷۸۹٠١٢٣٤٥٦٧٨٩٫", "01234567890123456789.")
_YEAR_2000 = 946684800  # a year before it is one of the Persian calendar


def _file(link: str, height: int | None) -> dict[str, Any]:
    known = urlsplit(link).path.lower().endswith(".mp4")
    return {
        "format_id": f"http-{height}p" if height else "http",
        "url": link,
        "ext": "mp4",
        "height": height,
        "preference": None if known else -10,  # such as .apt, which is for the site's own programs
        "http_headers": _REFERER,
    }


def _facts(video: dict[str, Any]) -> dict[str, Any]:
    """What both a video's own answer and a list's say of it."""
    said = _text(video.get("duration")).translate(_DIGITS)
    dates = (_text(video.get(key)).translate(_DIGITS) for key in ("sdate_real", "sdate_rss", "create_date", "mdate"))
    uploaded = (unified_timestamp(date, day_first=False, tz_offset=3.5) for date in dates if date)  # Tehran's time
    return {
        "title": _plain(video.get("title")),
        "duration": (parse_duration(said) if said else None) or None,
        "timestamp": next((stamp for stamp in uploaded if stamp and stamp > _YEAR_2000), None),
    }


def _attributes(answer: dict[str, Any]) -> dict[str, Any]:
    data = next(iter(_list(answer.get("data"))), None)
    return _dict(next(iter(_list(_dict(data).get("attributes"))), None))


def _included(answer: dict[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    for item in _list(answer.get("included")):
        if _text(_dict(item).get("type")).lower() == kind:
            yield _dict(_dict(item).get("attributes"))


def _tags(value: object) -> list[Any]:
    tags = re.split(r"[,،]", value) if isinstance(value, str) else _list(value)
    return [_dict(tag).get("name") or _dict(tag).get("title") if isinstance(tag, dict) else tag for tag in tags]


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    """A list as it is; of an object numbered like one ({"0": …}), its values; another thing alone."""
    if isinstance(value, dict) and value and all(str(key).isdigit() for key in value):
        return list(value.values())
    return value if isinstance(value, list) else [] if value is None else [value]


def _text(value: object) -> str:
    return str(value).strip() if isinstance(value, str | int | float) else ""


def _plain(value: object) -> str | None:
    """Text without markup and entities; None if nothing is left."""
    text = re.sub(r"<br\s*/?>|</p>", "\n", _text(value), flags=re.IGNORECASE)
    return html.unescape(re.sub(r"<[^<>]*>", "", text)).strip() or None


def _count(value: object) -> int | None:
    digits = re.sub(r"[\s,.٬،]", "", _text(value))  # Persian digits are digits to Python
    return int(digits) if digits.isdecimal() and len(digits) < 16 else None


def _web_link(value: object) -> str | None:
    link = url_or_none(value)
    link = f"https:{link}" if link and link.startswith("//") else link
    return link if link and link.startswith(("http://", "https://")) else None
