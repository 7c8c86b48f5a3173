"""Subtitles beside the media: the site's own in all languages, automatic ones in the language that is spoken."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corpus_builder.acquire.client import Client
from corpus_builder.acquire.records import SubtitleFile

_FORMATS = ("vtt", "srt")
_CHAT = frozenset({"live_chat", "rechat", "danmaku", "comments"})
_ORIGINAL = "-orig"
"""How YouTube's automatic subtitles in the spoken language are named; all others there are translations."""


def fetch_subtitles(client: Client, info: dict[str, Any], part: Path, target: Path) -> tuple[SubtitleFile, ...]:
    """Download the subtitles of a recording to `target`.LANGUAGE.vtt, automatic ones to `target`.LANGUAGE.auto.vtt.

    `part` and `target` are paths without an ending: where they come to, and where they go. Only vtt and srt are taken.
    One that fails is left out: the recording is what counts.
    """
    found = []
    for language, formats, automatic in _wanted(info):
        form = next((one for ending in _FORMATS for one in formats or () if one.get("ext") == ending), None)
        if form is None:
            continue
        name = re.sub(r"[^A-Za-z0-9-]", "_", language)[:40] + (".auto" if automatic else "")
        ending = f".{name}.{form['ext']}"
        came = part.with_name(part.name + ending)
        try:
            _download(client, info, form, came)
            if came.stat().st_size:
                path = target.with_name(target.name + ending)
                os.replace(came, path)
                found.append(SubtitleFile(path, language, automatic))
        except Exception as error:
            client.messages.warning(f"subtitles in {language}: {error}")
            came.unlink(missing_ok=True)
    return tuple(found)


def _wanted(info: dict[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """Language, formats, whether automatic."""
    for language, formats in (info.get("subtitles") or {}).items():
        if language not in _CHAT:
            yield str(language), formats, False
    automatic = {str(key): formats for key, formats in (info.get("automatic_captions") or {}).items()}
    originals = [language for language in automatic if language.endswith(_ORIGINAL)]
    spoken = str(info.get("language") or "")
    if not originals:
        originals = [name for name in (spoken, spoken.split("-")[0]) if name in automatic][:1]
    if not originals and len(automatic) == 1:
        originals = [*automatic]
    for language in originals:
        yield language.removesuffix(_ORIGINAL), automatic[language], True


def _download(client: Client, info: dict[str, Any], form: dict[str, Any], path: Path) -> None:
    if form.get("data") is not None:
        path.write_text(form["data"], "utf-8")
    else:
        client.dl(str(path), {"http_headers": info.get("http_headers"), "id": info.get("id"), **form}, subtitle=True)
