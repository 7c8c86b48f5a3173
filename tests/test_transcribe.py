"""`pdid transcribe`: texts by a real Whisper and from files, a file whole or not at all, a run that can be stopped."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import jiwer
import pytest

from catalog import whisper as whispers
from catalog.store import open_catalog
from catalog.texts import untranscribed
from corpus_builder import transcribe
from corpus_builder.transcribe import loops
from tests.media import Pdid, query

TEXTS = "SELECT source_id, start_s, text FROM transcripts ORDER BY source_id, start_s, created_at"


@pytest.fixture
def spoken(digits: Path, tmp_path: Path) -> Path:
    """A copy of the corpus of digits to write transcripts into."""
    return Path(shutil.copytree(digits, tmp_path / "corpus"))


@pytest.fixture
def truth(digits: Path) -> Path:
    """What is said in them: source, start_s, end_s, text."""
    return digits.parent / "transcripts.csv"


# ---------------------------------------------------------------- a model


def test_the_model_hears_what_is_said(pdid: Pdid, spoken: Path, truth: Path, whisper_digits: Path) -> None:
    done = pdid("transcribe", "--model", whisper_digits, "--language", "English", "--corpus", spoken, "--json")
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in done.out.splitlines()]
    heard = query(
        spoken,
        "SELECT segment_id, text, text_origin, text_confidence, text_flags, language, accent, source_id"
        " FROM segments WHERE kept",
    )
    assert len(lines) == len(heard) > 10
    assert {line["segment_id"]: line["text"] for line in lines} == {row[0]: row[1] for row in heard}
    assert {(row[2], row[5]) for row in heard} == {("model:whisper-digits", "en")}
    assert all(0 < row[3] < 1 for row in heard)
    assert all(row[4] == [] for row in heard)
    # a second run has nothing to do, and the truth takes the model's place
    again = pdid("transcribe", "--model", whisper_digits, "--language", "en", "--corpus", spoken, "--json")
    assert (again.code, again.out) == (0, "")
    assert "nothing to do" in again.err
    assert pdid("transcribe", "--import", truth, "--corpus", spoken).code == 0
    true = dict(query(spoken, "SELECT segment_id, text FROM segments WHERE kept AND text_origin = 'imported'"))
    assert true.keys() == {row[0] for row in heard}
    for accent, low, high in (("USA", 0.0, 0.15), ("Belgian French", 0.25, 0.8)):
        mine = [row for row in heard if row[6] == accent]
        rate = jiwer.wer([true[row[0]] for row in mine], [row[1] for row in mine])
        assert low <= rate <= high, accent  # the model's own: 2 and 8 % for the US speakers, 53 % for the Belgian


def test_a_run_that_is_cut_off_is_gone_on_with(
    pdid: Pdid, spoken: Path, whisper_digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def interrupted(*arguments: object, **options: object) -> object:
        calls.append(len(arguments[1]))  # type: ignore[arg-type]
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whispers.transcribe(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(transcribe, "BATCHES", 1)
    monkeypatch.setattr(transcribe, "transcribe", interrupted)
    command = ("transcribe", "--model", whisper_digits, "--language", "en", "--corpus", spoken)
    assert pdid(*command).code == 130
    first = query(spoken, TEXTS)
    assert len(first) == calls[0] == 8  # the batch that was done is there
    assert pdid(*command).code == 0
    whole = query(spoken, TEXTS)
    assert set(first) < set(whole)
    assert (
        len(whole) == len({row[:2] for row in whole}) == query(spoken, "SELECT count(*) FROM segments WHERE kept")[0][0]
    )


def test_another_language_is_heard_and_flagged(pdid: Pdid, spoken: Path, whisper_digits: Path) -> None:
    """English digits transcribed as Persian: the model says so itself, and so do the Latin letters."""
    source = query(spoken, "SELECT source_id FROM sources ORDER BY uri LIMIT 1")[0][0]
    with open_catalog(spoken, write=True) as catalog:
        catalog.connection.execute("DELETE FROM base.segment WHERE kept AND source_id <> ?", [source])
    assert pdid("transcribe", "--model", whisper_digits, "--language", "fa", "--corpus", spoken).code == 0
    flags = [row[0] for row in query(spoken, "SELECT text_flags FROM segments WHERE kept")]
    assert flags
    assert all("language" in found for found in flags)
    flagged = pdid("sql", "@flagged_transcripts", "--corpus", spoken, "--json")
    assert len(flagged.out.splitlines()) == len(flags)


def test_a_clip_that_is_gone_does_not_stop_the_rest(pdid: Pdid, spoken: Path, whisper_digits: Path) -> None:
    (first, path), *others = query(
        spoken, "SELECT segment_id, path FROM segments WHERE kept ORDER BY source_id, start_s"
    )
    (spoken / path).unlink()
    (spoken / others[0][1]).write_bytes(b"RIFF")
    done = pdid("transcribe", "--model", whisper_digits, "--language", "en", "--corpus", spoken)
    assert done.code == 1
    assert done.err.count("failed: the clip") == 2
    assert "2 failed" in done.err
    model = whispers.load_whisper(whisper_digits).version
    with open_catalog(spoken) as catalog:
        left = untranscribed(catalog, model, "en")
        assert {clip.segment_id for clip in left} == {first, others[0][0]}
        assert len(untranscribed(catalog, model, "fa")) == len(others) + 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two three four one two three four", False),
        ("six six six six", False),
        ("six six six six six", True),
        ("and then he said and then he said and then he said and then he said and then he said", True),
        ("ه" * 60, True),
        ("سلام، خوش آمدید به برنامهٔ ما. امروز دربارهٔ بازار ماهی‌فروشان بندر حرف می‌زنیم.", False),
        ("", False),
    ],
)
def test_loops(text: str, expected: bool) -> None:
    assert loops(text) is expected


def test_a_language_the_model_does_not_know(pdid: Pdid, spoken: Path, whisper_digits: Path) -> None:
    for arguments in (["--language", "xx"], []):
        done = pdid("transcribe", "--model", whisper_digits, *arguments, "--corpus", spoken)
        assert done.code == 2
        assert "it knows en, fa" in done.err
    assert query(spoken, TEXTS) == []


# ---------------------------------------------------------------- files


def test_a_file_comes_in_once_and_changed_rows_again(pdid: Pdid, spoken: Path, truth: Path, tmp_path: Path) -> None:
    done = pdid("transcribe", "--import", truth, "--corpus", spoken, "--language", "en", "--json")
    assert done.code == 0
    assert len(done.out.splitlines()) == 30
    assert "30 transcripts imported" in done.err
    before = query(spoken, TEXTS)
    again = pdid("transcribe", "--import", truth, "--corpus", spoken, "--language", "en", "--json")
    assert (again.code, again.out) == (0, "")
    assert query(spoken, TEXTS) == before
    kept = query(spoken, "SELECT count(*), count(text), min(language) FROM segments WHERE kept")
    assert kept[0][0] == kept[0][1] > 10
    assert kept[0][2] == "en"
    assert pdid("sql", "@transcripts_without_a_piece", "--corpus", spoken, "--json").out == ""
    lines = truth.read_text().replace("media/", f"{truth.parent}/media/").splitlines()
    (tmp_path / truth.name).write_text("\n".join([lines[0], f"{lines[1]} and more", *lines[2:]]))
    done = pdid("transcribe", "--import", tmp_path / truth.name, "--corpus", spoken, "--language", "en", "--json")
    assert [json.loads(line)["text"] for line in done.out.splitlines()] == [f"{lines[1].split(',')[-1]} and more"]
    assert "1 transcript imported" in done.err
    assert "29 were there already" in done.err
    first = query(spoken, "SELECT text FROM segments JOIN sources USING (source_id) WHERE kept ORDER BY uri, start_s")[
        0
    ]
    assert first[0].startswith(f"{lines[1].split(',')[-1]} and more")
    status = json.loads(pdid("status", "--corpus", spoken, "--json").out)
    assert status["hours_with_text"] == pytest.approx(status["hours_kept"])
    assert [row["origin"] for row in status["texts"]] == ["imported"]


def stamp(seconds: float) -> str:
    return f"00:00:{seconds:06.3f}".replace(".", ",")


def test_all_formats_say_the_same(pdid: Pdid, spoken: Path, tmp_path: Path) -> None:
    """A piece by its id, its time in the recording, JSON Lines, and subtitles beside the recording or named."""
    rows = query(
        spoken,
        "SELECT segment_id, uri, start_s, end_s FROM segments JOIN sources USING (source_id)"
        " WHERE kept AND uri LIKE '%0000.wav' ORDER BY start_s",
    )
    uri = rows[0][1]
    said = [f"سلام، شمارهٔ {n}" for n in range(len(rows))]
    files = {
        "ids.csv": "segment_id;text;origin\n" + "".join(f"{r[0]};{t};human\n" for r, t in zip(rows, said, strict=True)),
        "times.tsv": "source\tstart_s\tend_s\ttext\n"
        + "".join(f"{os.path.relpath(uri, tmp_path)}\t{r[2]}\t{r[3]}\t{t}\n" for r, t in zip(rows, said, strict=True)),
        "times.jsonl": "".join(
            json.dumps({"source": uri, "start_s": r[2], "end_s": r[3], "text": t, "confidence": 0.5}) + "\n"
            for r, t in zip(rows, said, strict=True)
        ),
        "digits_0000.fa.srt": "".join(
            f"{n}\n{stamp(r[2])} --> {stamp(r[3])}\n<i>{t}</i>\n\n"
            for n, (r, t) in enumerate(zip(rows, said, strict=True), 1)
        ),
    }
    files["other.vtt"] = "WEBVTT\n\n" + "".join(
        f"{stamp(r[2]).replace(',', '.')} --> {stamp(r[3]).replace(',', '.')}\n{t}\n\n"
        for r, t in zip(rows, said, strict=True)
    )
    for name, text in files.items():
        corpus = Path(shutil.copytree(spoken, tmp_path / f"for {name}"))
        (tmp_path / name).write_text(text, "utf-8")
        more = ["--source", uri] if name == "other.vtt" else []
        done = pdid("transcribe", "--import", tmp_path / name, "--language", "fa", "--corpus", corpus, *more)
        assert done.code == 0, done.err
        found = query(
            corpus,
            "SELECT text, text_origin, language FROM segments WHERE kept AND text IS NOT NULL ORDER BY start_s",
        )
        origin = {"ids.csv": "human", "other.vtt": "subtitle", "digits_0000.fa.srt": "subtitle"}.get(name, "imported")
        assert found == [(text, origin, "fa") for text in said], name


BAD_ROWS = {
    "unknown segment": ("segment_id,text\nnope,سلام\n", "line 2: there is no segment 'nope'"),
    "unknown recording": ("source,text\nmedia/nope.wav,سلام\n", "line 2: there is no recording 'media/nope.wav'"),
    "beyond the end": ("source,start_s,end_s,text\nA,1,2,سلام\nA,1,99,خوبی\n", "line 3: 1 to 99 s is not within"),
    "before the start": ("source,start_s,end_s,text\nA,-1,2,سلام\n", "line 2: -1 to 2 s is not within"),
    "backwards": ("source,start_s,end_s,text\nA,5,2,سلام\n", "it ends before it begins"),
    "no number": ("source,start_s,end_s,text\nA,0:05,9,سلام\n", "line 2: `start_s` is '0:05': write a number"),
    "not finite": ("source,start_s,end_s,text\nA,nan,9,سلام\n", "line 2: `start_s` is 'nan'"),
    "one time": ("source,start_s,end_s,text\nA,5,,سلام\n", "`start_s` and `end_s` go together"),
    "empty text": ("source,start_s,end_s,text\nA,1,2,سلام\nA,3,4,  \n", "line 3: the text is empty"),
    "wrong language": ("source,start_s,end_s,text\nA,1,2,سلام\nA,3,4,hello\n", "line 3: the text is in Latin letters"),
    "its own language": ("source,text,language\nA,hello,fa\n", "which fa is not written in"),
    "nothing to pin it to": ("text\nhello\n", "expected either `segment_id`, or `source`"),
    "misspelt column": ("source,start_s,end,text\nA,1,2,سلام\n", "did you mean 'end_s'?"),
    "origin": ("source,text,origin\nA,سلام,me\n", "'me' is no origin"),
    "confidence": ("source,text,confidence\nA,سلام,90\n", "the confidence is 90: it goes from 0 to 1"),
    "nothing": ("source,start_s,end_s,text\n", "has no transcript in it"),
    "an open quote": ('source,text\nA,"سلام\n', "not valid CSV"),
}


@pytest.mark.parametrize("fault", BAD_ROWS)
def test_a_bad_row_is_named_and_nothing_comes_in(pdid: Pdid, digits: Path, tmp_path: Path, fault: str) -> None:
    text, words = BAD_ROWS[fault]
    uri = query(digits, "SELECT min(uri) FROM sources")[0][0]
    path = tmp_path / "texts.csv"
    path.write_text(text.replace("\nA,", f"\n{uri},"), "utf-8")
    done = pdid("transcribe", "--import", path, "--language", "fa", "--corpus", digits)
    assert done.code == 2
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert query(digits, TEXTS) == []


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.csv", b"source,text\n\x00\x01\x02", "it has zero bytes in it"),
        ("a.csv", b"source,text\nA,\xd3\xe1\xc7\xe3\n", "line 2: not UTF-8"),
        ("a.jsonl", b'{"source": "A", "text": "x"}\n{"source"\n', "line 2: not valid JSON"),
        ("a.jsonl", b'["source"]\n', "line 1: expected a JSON object"),
        ("a.docx", b"PK", "expected a file ending in .csv"),
        ("nothing.srt", b"1\n00:00:01,000 --> 00:00:02,000\nx\n", "no recording 'nothing' in the catalog: name"),
        ("digits_0001.srt", b"1\n00:59:01,000 --> 00:59:02,000\nx\n", "line 2: 3541 to 3542 s is not within"),
        ("digits_0001.fa.srt", b"1\n00:00:01,000 --> 00:00:02,000\nhello\n", "subtitles are in Latin letters"),
    ],
)
def test_a_bad_file_is_named_and_nothing_comes_in(
    pdid: Pdid, digits: Path, tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(data)
    done = pdid("transcribe", "--import", tmp_path / name, "--corpus", digits)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert query(digits, TEXTS) == []


def test_options_that_exclude_each_other(pdid: Pdid, digits: Path, truth: Path, tmp_path: Path) -> None:
    assert pdid("transcribe", "--import", truth, "--model", "small", "--corpus", digits).code == 2
    assert pdid("transcribe", "--source", "x.wav", "--corpus", digits).code == 2
    assert pdid("transcribe", "--import", truth, "--source", "x.wav", "--corpus", digits).code == 2
    assert pdid("transcribe", "--import", truth, "--corpus", tmp_path / "none").code == 2
    assert not (tmp_path / "none").exists()
