"""Subtitles come in as what is said, when: tags out, repeated lines once, and nothing dropped without a word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from catalog.errors import UsageError
from corpus_builder.scripts import contradicts, language_code
from corpus_builder.subtitles import Cue, name_and_language, read_subtitles

Write = Callable[[str, str], Path]

# As YouTube's automatic captions come through yt-dlp: the last line stays on the screen while the next one is spoken.
ROLLING = """WEBVTT
Kind: captions
Language: en

00:00:00.480 --> 00:00:03.120 align:start position:0%
~
welcome<00:00:01.469><c> to</c><00:00:01.620><c> the</c><00:00:01.740><c> show</c>

00:00:03.120 --> 00:00:03.130 align:start position:0%
welcome to the show
~

00:00:03.130 --> 00:00:05.000 align:start position:0%
welcome to the show
R&amp;D<00:00:03.500><c> is</c><00:00:04.000><c> next</c>

00:00:05.000 --> 00:00:05.010 align:start position:0%
R&amp;D is next
~

00:00:05.010 --> 00:00:07.500 align:start position:0%
R&amp;D is next
R&amp;D<00:00:06.000><c> again</c>
""".replace("~", " ")

SUBRIP = (
    "\ufeff1\r\n00:00:01,000 --> 00:00:02,500\r\n<i>سلام</i> {\\an8}و <font color='#fff'>خوش</font>\r\nآمدید\r\n\r\n"
    "2\r\n00:00:02,500 --> 00:00:03,000\r\n\r\n3\r\n00:01:05,250 --> 00:01:06,000\r\nمی‌روم & می‌آیم\r\n"
)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return make


def test_subrip(write: Write) -> None:
    assert read_subtitles(write("talk.srt", SUBRIP)) == [
        Cue(2, 16_000, 40_000, ("سلام و خوش", "آمدید")),
        Cue(10, 65_250 * 16, 66_000 * 16, ("می‌روم & می‌آیم",)),
    ]


def test_each_line_of_rolling_captions_comes_once(write: Write) -> None:
    cues = read_subtitles(write("talk.en.vtt", ROLLING))
    assert [cue.text for cue in cues] == ["welcome to the show", "R&D is next", "R&D again"]
    assert [(cue.line, cue.start, cue.end) for cue in cues] == [
        (5, 7680, 49_920),
        (13, 50_080, 80_000),
        (21, 80_160, 120_000),
    ]


def test_what_people_say_twice_stays_twice(write: Write) -> None:
    said = ["No.", "No.", "Why not?", "Because.", "No."]
    blocks = [f"{i}\n00:00:0{i},000 --> 00:00:0{i + 1},000\n{text}\n" for i, text in enumerate(said)]
    assert [cue.text for cue in read_subtitles(write("a.srt", "\n".join(blocks)))] == said


def test_notes_styles_and_voices_are_not_said(write: Write) -> None:
    text = (
        "WEBVTT\n\nSTYLE\n::cue { color: red }\n\nNOTE by\nAli\n\nintro\n00:02.000 --> 00:04.000\n"
        "<v Sara>خوبم</v> 2 < 3 &lt;ok&gt;\n\nNOTE later\n\n00:01.000 --> 00:02.000\nfirst\n"
    )
    assert [cue.text for cue in read_subtitles(write("a.vtt", text))] == ["first", "خوبم 2 < 3 <ok>"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.srt", "1\n00:00:01 -> 00:00:03\nx\n", "no line of times"),
        (
            "a.srt",
            "1\n00:00:01,000 --> 00:00:02,000\nx\n\n2\n00:00:0x,000 --> 00:00:04,000\ny\n",
            "line 6: .* no times",
        ),
        ("a.srt", "1\n00:00:03,000 --> 00:00:02,000\nx\n", "line 2: .* ends before it begins"),
        ("a.srt", "text\n00:00:01,000 --> 00:00:02,000\nx\n", "is no .srt file"),
        ("a.vtt", "00:01.000 --> 00:02.000\nx\n", "is no .vtt file: expected the line WEBVTT"),
        ("a.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\n \n", "no subtitle with text"),
        ("a.vtt", "", "no line of times"),
        ("a.vtt", "WEBVTT\n\0\n\n00:01.000 --> 00:02.000\nx\n", "zero bytes"),
    ],
)
def test_what_is_no_subtitle_file(write: Write, name: str, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_subtitles(write(name, text))


def test_a_file_in_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_bytes("1\n00:00:01,000 --> 00:00:02,000\nسلام\n".encode("cp1256"))
    with pytest.raises(UsageError, match=r"line 3: not UTF-8"):
        read_subtitles(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("talk.fa.vtt", ("talk", "fa")),
        ("گفت‌وگو [dQw4].fa-IR.srt", ("گفت‌وگو [dQw4]", "fa")),
        ("talk.en-orig.vtt", ("talk", "en")),
        ("talk.srt", ("talk", None)),
        ("v1.2.srt", ("v1.2", None)),
    ],
)
def test_names_as_yt_dlp_writes_them(name: str, expected: tuple[str, str | None]) -> None:
    assert name_and_language(Path(name)) == expected


@pytest.mark.parametrize(
    ("text", "language", "script"),
    [
        ("سلام، خوبی؟", "fa", None),
        ("hello there", "fa", "Latin"),
        ("hello there", "Persian", "Latin"),
        ("سلام", "en-GB", "Arabic"),
        ("گوگل Google است و بس", "fa", None),
        ("салом", "fa", "Cyrillic"),
        ("салом", "tg", None),
        ("12 34!", "fa", None),
        ("hello", "ku", None),
        ("hello", "xx", None),
    ],
)
def test_a_text_in_another_script(text: str, language: str, script: str | None) -> None:
    assert contradicts(text, language) == script


def test_language_codes() -> None:
    assert [language_code(name) for name in ("fa", " FA_ir", "Persian", "farsi", "ckb")] == [
        "fa",
        "fa",
        "fa",
        "fa",
        "ckb",
    ]
