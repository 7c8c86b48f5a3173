"""HLS playlists and DASH manifests are read as their standards say, and refused where they are no such thing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from corpus_builder.acquire.manifests import Key, Part, Protected, media_playlist, read_dash, read_hls

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
AT = "http://tv.example/live/list.m3u8?user=1"


def test_hls() -> None:
    text = """\ufeff#EXTM3U
#EXT-X-TARGETDURATION:6
#EXT-X-MEDIA-SEQUENCE:2680
#EXT-X-MAP:URI="init.mp4",BYTERANGE="700@20"
#EXT-X-BYTERANGE:1000@720
#EXTINF:5.96,a title, with a comma
all.mp4
#EXT-X-BYTERANGE:500
#EXTINF:6,
all.mp4

#EXT-X-DISCONTINUITY
#EXT-X-KEY:METHOD=AES-128,URI="https://keys.example/1?a=b,c",IV=0x0F
#EXTINF:4.5,
/other/3.ts
#EXT-X-KEY:METHOD=AES-128,URI="k2"
#EXTINF:4.5,
4.ts
#EXT-X-KEY:METHOD=NONE
#EXTINF:2.0,
//cdn.example/5.ts
"""
    found = read_hls(text.replace("\n", "\r\n"), AT)
    assert (found.ended, found.wait_s) == (False, 2.0)
    first, second, third, fourth, fifth = found.segments
    assert first.init == Part("http://tv.example/live/init.mp4", 20, 700)
    assert first.part == Part("http://tv.example/live/all.mp4", 720, 1000)
    assert second.part == Part("http://tv.example/live/all.mp4", 1720, 500)
    assert (first.at, first.next, first.seconds, first.unit_s) == (2680, 2681, 5.96, 5.96)
    assert [segment.new_clock for segment in found.segments] == [False, False, True, False, False]
    assert third.part == Part("http://tv.example/other/3.ts")
    assert third.key == Key("https://keys.example/1?a=b,c", bytes(15) + b"\x0f")
    assert fourth.key == Key("http://tv.example/live/k2", (2683).to_bytes(16, "big"))
    assert (fifth.part.url, fifth.key) == ("http://cdn.example/5.ts", None)
    assert read_hls("#EXTM3U\n#EXT-X-ENDLIST", AT).ended


def test_hls_that_is_protected() -> None:
    with pytest.raises(Protected, match="SAMPLE-AES"):
        read_hls('#EXTM3U\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://x"', AT)
    with pytest.raises(Protected, match=r"com\.apple"):
        read_hls('#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="x",KEYFORMAT="com.apple.streamingkeydelivery"', AT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>#EXTM3U</html>",
        "#EXTM3U\n#EXTINF:soon,\n1.ts",
        "#EXTM3U\n#EXTINF:-1,\n1.ts",
        "#EXTM3U\n#EXTINF:inf,\n1.ts",
        "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:x",
        "#EXTM3U\n#EXT-X-BYTERANGE:x\n1.ts",
        "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,IV=0xzz\n1.ts",
    ],
)
def test_what_is_no_playlist(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- whatever the words
        read_hls(text, AT)


def test_the_sound_of_a_master_playlist() -> None:
    variants = (
        '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=2000000,CODECS="avc1.4d,mp4a.40.2",RESOLUTION=1280x720\nhigh.m3u8\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=400000,CODECS="avc1.4d,mp4a.40.2"\n#a comment\nlow.m3u8\n'
    )
    sound = '#EXT-X-STREAM-INF:BANDWIDTH={},CODECS="mp4a.40.2"\n{}.m3u8\n'
    renditions = (
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="English",URI="en.m3u8"\n'
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="Persian, main",DEFAULT=YES,URI="fa.m3u8"\n'
        '#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="s",NAME="fa",DEFAULT=YES,URI="a-text.m3u8"\n'
    )
    assert media_playlist(variants, AT) == "http://tv.example/live/low.m3u8"
    both = variants + sound.format(64000, "thin") + sound.format(128000, "full")
    assert media_playlist(both, AT) == "http://tv.example/live/full.m3u8"
    assert media_playlist(variants + renditions, AT) == "http://tv.example/live/fa.m3u8"
    assert media_playlist("#EXTM3U\n#EXTINF:1,\n1.ts", AT) is None
    with pytest.raises(ValueError, match="names no stream"):
        media_playlist("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n", AT)


def mpd(inside: str, kind: str = 'type="dynamic" availabilityStartTime="2026-11-21T11:00:00Z"') -> str:
    """A DASH manifest with the given periods."""
    return f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" {kind}>{inside}</MPD>'


def test_dash_by_numbers_and_the_clock() -> None:
    """An hour and 7.5 s in, of the second period's 1.92 s segments; inherited and formatted names."""
    text = mpd(
        "<BaseURL>cdn/</BaseURL>"
        '<Period id="0" start="PT0S"/><Period id="1" start="PT1H">'
        '<SegmentTemplate timescale="25" startNumber="7"/>'
        '<AdaptationSet mimeType="audio/mp4"><BaseURL>sound/</BaseURL>'
        '<SegmentTemplate duration="48" media="$Number%05d$-$Bandwidth$$$.m4s" initialization="i-$RepresentationID$"/>'
        '<Representation id="x" bandwidth="64000"/><Representation id="y" bandwidth="128000"/></AdaptationSet>'
        "</Period>",
        'type="dynamic" availabilityStartTime="2026-11-21T11:00:00" '
        'timeShiftBufferDepth="PT3M" minimumUpdatePeriod="P1D"',
    )
    found = read_dash(text, "http://tv.example/a/b.mpd", NOW + timedelta(seconds=7.5))
    assert [segment.part.url for segment in found.segments] == [
        "http://tv.example/a/cdn/sound/00007-128000$.m4s",
        "http://tv.example/a/cdn/sound/00008-128000$.m4s",
    ]
    first, second = found.segments
    assert first.init == Part("http://tv.example/a/cdn/sound/i-y")
    assert (first.at, first.next, second.at) == (3_600_000, 3_601_920, 3_601_920)
    assert first.seconds == found.wait_s == 1.92
    assert not found.ended


def test_dash_with_a_timeline_and_two_periods() -> None:
    """Repeats, an open end, an offset; the second period has a clock and a header of its own."""

    def period(start: str, times: str, name: str, offset: int = 0) -> str:
        template = (
            f'<SegmentTemplate timescale="1000" presentationTimeOffset="{offset}" initialization="{name}" '
            f'media="{name}-$Time$"><SegmentTimeline>{times}</SegmentTimeline></SegmentTemplate>'
        )
        form = '<Representation id="1" bandwidth="9" mimeType="audio/mp4"/>'
        return f'<Period start="{start}"><AdaptationSet>{template}{form}</AdaptationSet></Period>'

    text = mpd(
        period("PT59M50S", '<S t="500" d="2000" r="1"/><S d="1000"/>', "ad", 500)
        + period("PT59M55S", '<S t="0" d="2000" r="-1"/>', "show")
    )
    found = read_dash(text, AT, NOW)
    names = [segment.part.url.rpartition("/")[2] for segment in found.segments]
    assert names == ["ad-500", "ad-2500", "ad-4500", "show-0", "show-2000"]
    assert [segment.new_clock for segment in found.segments] == [False, False, False, True, False]
    assert [segment.at for segment in found.segments] == [3_590_000, 3_592_000, 3_594_000, 3_595_000, 3_597_000]
    assert [segment.next for segment in found.segments[:4]] == [segment.at for segment in found.segments[1:]]


def test_dash_that_has_ended_or_prefers_a_set() -> None:
    template = '<SegmentTemplate duration="2" media="{}-$Number$"/>'
    text = mpd(
        '<Period><AdaptationSet contentType="audio">'
        f"{template.format('described')}<Representation bandwidth='900'/></AdaptationSet>"
        f'<AdaptationSet contentType="audio"><Role value="main"/>{template.format("main")}'
        '<Representation bandwidth="9"/></AdaptationSet></Period>',
        'type="static" mediaPresentationDuration="PT9.5S"',
    )
    found = read_dash(text, AT, NOW)
    assert found.ended
    assert [segment.part.url.rpartition("/")[2] for segment in found.segments] == ["main-1", "main-2", "main-3"]


def test_dash_that_is_protected() -> None:
    form = '<Representation bandwidth="9"/>'
    text = mpd(f'<Period><AdaptationSet contentType="audio"><ContentProtection/>{form}</AdaptationSet></Period>')
    with pytest.raises(Protected):
        read_dash(text, AT, NOW)


# entities of entities of entities: the whole would be 30 GB
BOMB = '<!DOCTYPE x [<!ENTITY e0 "ha">'
BOMB += "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 32}">' for i in range(1, 8)) + "]><MPD><Period>&e7;</Period></MPD>"


@pytest.mark.parametrize(
    "text",
    [
        "<html>",
        "<html/>",
        mpd("<Period/>"),
        mpd('<Period start="soon"/>'),
        mpd('<Period><AdaptationSet contentType="audio"><Representation/></AdaptationSet></Period>'),
        mpd('<Period><AdaptationSet contentType="audio"><SegmentTemplate/><Representation/></AdaptationSet></Period>'),
        mpd(
            '<Period><AdaptationSet contentType="audio"><SegmentTemplate><SegmentTimeline><S d="1" r="999999999"/>'
            "</SegmentTimeline></SegmentTemplate><Representation/></AdaptationSet></Period>"
        ),
        BOMB,
    ],
)
def test_what_is_no_dash_manifest(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- whatever the words
        read_dash(text, AT, NOW)
