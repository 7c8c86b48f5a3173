"""What a live stream's manifest says is there now: HLS playlists and DASH manifests, read into one shape.

No network here. Of HLS (RFC 8216), whole segments in the clear or under AES-128; of DASH (ISO/IEC 23009-1), what live
streams use: segment templates with numbers or a timeline. Text that is no manifest raises ValueError, since a server
in trouble sends such pages and a minute later the manifest again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urljoin
from xml.etree import ElementTree


class Protected(Exception):
    """The sound is encrypted in a way that only licensed players undo."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file on the server, or `size` bytes of it from `first` on."""

    url: str
    first: int | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """What a segment is encrypted with: AES-128 in CBC mode, PKCS #7 padding."""

    url: str
    iv: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """A few seconds of the stream. With `init` before it, it can be read by itself."""

    part: Part
    seconds: float
    at: int  # its place in the stream, counted in units of `unit_s` seconds
    next: int  # where the segment after it lies
    unit_s: float
    init: Part | None = None
    key: Key | None = None
    new_clock: bool = False  # its timestamps do not go on from those before


@dataclass(frozen=True, slots=True)
class Manifest:
    """What can be had now, oldest first."""

    segments: tuple[Segment, ...]
    ended: bool
    wait_s: float  # until it is worth asking again


MOST_SEGMENTS = 100_000
"""In one manifest; with more it is a mistake or a trap."""

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",\s]*)')


def _attributes(line: str) -> dict[str, str]:
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(line)}


def media_playlist(text: str, url: str) -> str | None:
    """The address of the sound where `text` is a master playlist, else None. Raises ValueError if it names none.

    That is the audio rendition played by default, or else the best variant without a picture, or else the leanest.
    """
    sounds: list[tuple[int, str]] = []
    variants: list[tuple[int, int, str]] = []
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for i, line in enumerate(lines):
        said = _attributes(line)
        if line.startswith("#EXT-X-MEDIA:") and said.get("TYPE") == "AUDIO" and said.get("URI"):
            sounds.append((said.get("DEFAULT") != "YES", said["URI"]))
        elif line.startswith("#EXT-X-STREAM-INF:"):
            target = next((other for other in lines[i + 1 :] if not other.startswith("#")), None)
            if target:
                picture = "RESOLUTION" in said or re.search(r"avc|hvc|hev|vp0?9|av01", said.get("CODECS", ""))
                rate = int(said.get("BANDWIDTH") or 0)
                variants.append((bool(picture), rate if picture else -rate, target))
    if sounds:
        return urljoin(url, min(sounds)[1])
    if variants:
        return urljoin(url, min(variants)[2])
    if "#EXT-X-STREAM-INF" in text:
        raise ValueError("a master playlist that names no stream")
    return None


def read_hls(text: str, url: str) -> Manifest:
    """A media playlist. Raises ValueError if it is none, Protected if it can't be decrypted with a plain key."""
    text = text.lstrip("\ufeff \r\n")
    if not text.startswith("#EXTM3U"):
        raise ValueError("no HLS playlist (#EXTM3U is missing)")
    segments: list[Segment] = []
    number, target, seconds = 0, 0.0, 0.0
    key: dict[str, str] = {}
    init: Part | None = None
    span: str | None = None
    fresh = False
    for line in filter(None, map(str.strip, text.splitlines())):
        tag, _, value = line.partition(":")
        if tag == "#EXTINF":
            seconds = _seconds(value.split(",")[0])
        elif tag == "#EXT-X-TARGETDURATION":
            target = _seconds(value)
        elif tag == "#EXT-X-MEDIA-SEQUENCE":
            number = int(value)
        elif tag == "#EXT-X-DISCONTINUITY":
            fresh = True
        elif tag == "#EXT-X-BYTERANGE":
            span = value
        elif tag == "#EXT-X-MAP":
            said = _attributes(value)
            init = _span(urljoin(url, said.get("URI", "")), said.get("BYTERANGE"), None)
        elif tag == "#EXT-X-KEY":
            key = _attributes(value)
            if key.get("METHOD") not in {"NONE", "AES-128"} or key.get("KEYFORMAT", "identity") != "identity":
                raise Protected(key.get("KEYFORMAT") or key.get("METHOD") or "unknown")
        elif not line.startswith("#"):
            part = _span(urljoin(url, line), span, segments[-1].part if segments else None)
            secret = _key(key, url, number) if key.get("METHOD") == "AES-128" else None
            segments.append(Segment(part, seconds, number, number + 1, seconds or target, init, secret, fresh))
            number, fresh, span = number + 1, False, None
    wait = (segments[-1].seconds if segments else target) or target or 1.0
    return Manifest(tuple(segments), "#EXT-X-ENDLIST" in text, wait)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.0 <= seconds <= 86400.0:
        raise ValueError(f"a segment of {text[:20]} seconds")
    return seconds


def _span(url: str, said: str | None, before: Part | None) -> Part:
    """`said` is LENGTH[@FIRST]; without FIRST the part follows the one before in the same file."""
    if not said:
        return Part(url)
    length, _, first = said.partition("@")
    if not first and before and before.url == url and before.size is not None:
        return Part(url, (before.first or 0) + before.size, int(length))
    return Part(url, int(first or 0), int(length))


def _key(said: dict[str, str], url: str, number: int) -> Key:
    iv = said.get("IV")
    by_number = (number % 2**128).to_bytes(16, "big")
    return Key(urljoin(url, said.get("URI", "")), bytes.fromhex(iv[2:].zfill(32)) if iv else by_number)


@dataclass(frozen=True, slots=True)
class _Period:
    start_s: float
    end_s: float | None
    base: str
    template: dict[str, str]
    timeline: list[dict[str, str]] | None
    values: dict[str, str]  # what stands for $RepresentationID$ and $Bandwidth$


def read_dash(text: str, url: str, now: datetime) -> Manifest:
    """A DASH manifest's best sound. `now` is the server's clock, which tells what is there of a stream by numbers.

    Raises ValueError if it is none or has no sound in segment templates, Protected if all its sound is encrypted.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"no DASH manifest ({error})") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    if root.tag != "MPD":
        raise ValueError(f"no DASH manifest (it is <{root.tag[:40]}>)")
    live = root.get("type") == "dynamic"
    elapsed = math.inf
    if live:
        since = datetime.fromisoformat(root.get("availabilityStartTime") or "1970-01-01T00:00:00Z")
        elapsed = (now - (since if since.tzinfo else since.replace(tzinfo=UTC))).total_seconds()
    elif said := root.get("mediaPresentationDuration"):
        elapsed = _duration(said)
    depth = _duration(root.get("timeShiftBufferDepth") or "PT1H")
    segments: list[Segment] = []
    for period in _periods(root, urljoin(url, root.findtext("BaseURL", "").strip())):
        fresh = bool(segments)
        for segment in _of_period(period, elapsed, depth):
            segments.append(segment if not fresh else _renewed(segment))
            fresh = False
    longest = segments[-1].seconds if segments else 2.0
    wait = min(_duration(root.get("minimumUpdatePeriod") or "PT1H") or longest, longest)
    return Manifest(tuple(segments), not live, wait)


def _renewed(segment: Segment) -> Segment:
    return Segment(segment.part, segment.seconds, segment.at, segment.next, segment.unit_s, segment.init, None, True)


def _duration(text: str) -> float:
    """Seconds of an ISO 8601 duration such as PT1H2M3.5S."""
    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?", text.strip())
    if not found:
        raise ValueError(f"no duration: {text[:40]!r}")
    days, hours, minutes, seconds = (float(value or 0) for value in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _periods(root: ElementTree.Element, base: str) -> Iterator[_Period]:
    elements = root.findall("Period")
    if not elements:
        raise ValueError("the DASH manifest has no Period")
    starts, at = [], 0.0
    for element in elements:
        at = _duration(element.get("start") or f"PT{at}S")
        starts.append(at)
        at += _duration(element.get("duration") or "PT0S")
    protected = False
    for i, element in enumerate(elements):
        place = urljoin(base, element.findtext("BaseURL", "").strip())
        best: tuple[bool, int] | None = None
        chosen: _Period | None = None
        said = element.get("duration")
        end = starts[i] + _duration(said) if said else starts[i + 1] if i + 1 < len(elements) else None
        for group in element.findall("AdaptationSet"):
            main = any(role.get("value") == "main" for role in group.findall("Role"))
            for form in group.findall("Representation"):
                kind = " ".join(e.get(name, "") for e in (group, form) for name in ("contentType", "mimeType"))
                if "audio" not in kind:
                    continue
                if group.findall("ContentProtection") or form.findall("ContentProtection"):
                    protected = True
                    continue
                layers = [e for e in (x.find("SegmentTemplate") for x in (element, group, form)) if e is not None]
                rank = (main, int(form.get("bandwidth") or 0))
                if layers and (best is None or rank > best):
                    best = rank
                    template = {name: value for layer in layers for name, value in layer.items()}
                    lines = [e for e in (layer.find("SegmentTimeline") for layer in layers) if e is not None]
                    timeline = [dict(s.items()) for s in lines[-1].findall("S")] if lines else None
                    values = {"RepresentationID": form.get("id", ""), "Bandwidth": form.get("bandwidth", "")}
                    where = urljoin(urljoin(place, group.findtext("BaseURL", "")), form.findtext("BaseURL", "").strip())
                    chosen = _Period(starts[i], end, where, template, timeline, values)
        if chosen:
            yield chosen
        elif protected:
            raise Protected("DASH ContentProtection")
        elif i + 1 == len(elements):
            raise ValueError("the DASH manifest has no sound in segment templates")


def _of_period(period: _Period, elapsed: float, depth: float) -> Iterator[Segment]:
    """The period's segments. Places are milliseconds since the presentation's start."""
    scale = int(period.template.get("timescale") or 1)
    start_number = int(period.template.get("startNumber") or 1)
    offset = int(period.template.get("presentationTimeOffset") or 0)
    init_name = period.template.get("initialization")
    init = Part(urljoin(period.base, _filled(init_name, period.values))) if init_name else None
    inside = min(elapsed, period.end_s or math.inf) - period.start_s  # seconds of the period that there are
    for number, time, length in _ticks(period, scale, start_number, offset, inside, depth):
        values = {**period.values, "Number": str(number), "Time": str(time)}
        part = Part(urljoin(period.base, _filled(period.template.get("media", ""), values)))
        at = round((period.start_s + (time - offset) / scale) * 1000)
        after = round((period.start_s + (time - offset + length) / scale) * 1000)
        yield Segment(part, length / scale, at, after, 0.001, init)


def _ticks(
    period: _Period, scale: int, start_number: int, offset: int, inside: float, depth: float
) -> Iterator[tuple[int, int, int]]:
    """Number, time and length (in ticks of 1/scale s) of each segment."""
    if period.timeline is None:
        length = int(period.template.get("duration") or 0)
        if length <= 0 or math.isinf(inside):
            raise ValueError("the DASH manifest does not say which segments there are")
        # one that has just begun to be there may still be missing, and a Date header is good to a second
        there = max(0, math.floor((inside - 2.0) * scale / length))
        for i in range(max(0, there - min(math.ceil(depth * scale / length), MOST_SEGMENTS)), there):
            yield start_number + i, offset + i * length, length
        return
    number, time = start_number, 0
    for i, line in enumerate(period.timeline):
        time, length, more = int(line.get("t") or time), int(line["d"]), int(line.get("r") or 0)
        if length <= 0:
            raise ValueError("a DASH segment without length")
        if more < 0:  # until the next line, or as far as the stream has come
            later = period.timeline[i + 1].get("t") if i + 1 < len(period.timeline) else None
            end = int(later) if later else offset + inside * scale
            more = 0 if math.isinf(end) else max(0, math.floor((end - time) / length) - 1)
        if number - start_number + more >= MOST_SEGMENTS:
            raise ValueError("a DASH manifest with far too many segments")
        for _ in range(more + 1):
            yield number, time, length
            number, time = number + 1, time + length


def _filled(template: str, values: dict[str, str]) -> str:
    """A template's address: $Number%05d$ and the like filled in, $$ a dollar."""

    def value(found: re.Match[str]) -> str:
        name, width = found.group(1), found.group(2)
        if not name:
            return "$"
        return values.get(name, found.group()).zfill(int(width or 0))

    return re.sub(r"\$(?:(\w+)(?:%0(\d+)d)?)?\$", value, template)
