"""What to ingest: arguments, folders, and the sources file with all that people put in it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from catalog.errors import UsageError
from corpus_builder.sources import SourceRequest, address_of, find_sources, parse_date, read_sources_file
from corpus_builder.taxonomy import load_taxonomy

PERSIAN = load_taxonomy("persian")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def names(requests: list[SourceRequest], folder: Path) -> list[str]:
    return [str(request.path.relative_to(folder)) for request in requests]


def sheet(folder: Path, content: str | bytes) -> Path:
    path = folder / "sources.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


# Arguments


def test_a_folder_is_walked_in_order_without_hidden_files_and_other_things(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "b.wav",
        "a.MP3",
        "sub/c.mkv",
        "sub/.hidden.wav",
        ".git/d.wav",
        "notes.txt",
        "cover.jpg",
        "sub2/e.opus",
    )
    found = find_sources([str(tmp_path)], PERSIAN)
    assert names(found, tmp_path) == ["a.MP3", "b.wav", "sub/c.mkv", "sub2/e.opus"]


def test_the_clips_of_a_corpus_in_a_folder_are_not_ingested(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "corpus/catalog.duckdb", "corpus/clips/x.wav", "corpus/media/y.mp4")
    assert names(find_sources([str(tmp_path)], PERSIAN), tmp_path) == ["a.wav"]
    # but a folder of downloads that is named itself is
    assert names(find_sources([str(tmp_path / "corpus/media")], PERSIAN), tmp_path) == ["corpus/media/y.mp4"]


def test_a_named_file_may_end_as_it_likes(tmp_path: Path) -> None:
    touch(tmp_path, "recording.bin")
    (request,) = find_sources([str(tmp_path / "recording.bin")], PERSIAN)
    assert request == SourceRequest(str(tmp_path / "recording.bin"), tmp_path / "recording.bin")


def test_names_with_everything_in_them(tmp_path: Path) -> None:
    odd = "a b'c\"d\ne,;گفتگو %41 #1.wav"
    touch(tmp_path, odd, "sub/x.wav")
    (request,) = find_sources([str(tmp_path / "sub" / ".." / odd)], PERSIAN)
    assert request.uri == str(tmp_path / odd)


def test_a_name_that_is_no_text_has_an_address_that_is(tmp_path: Path) -> None:
    address = address_of(Path("/media/caf\udce9.wav"))  # latin-1 bytes, as Python reads them
    assert address == "file:///media/caf%E9.wav"


def test_a_file_named_twice_is_one_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.wav", "b.wav")
    monkeypatch.chdir(tmp_path)
    found = find_sources(["a.wav", ".", "./b.wav"], PERSIAN, accent="lori")
    assert [(request.uri, request.accent) for request in found] == [
        (str(tmp_path / "a.wav"), "Lori"),
        (str(tmp_path / "b.wav"), "Lori"),
    ]


def test_web_addresses_are_sources_without_their_passwords(tmp_path: Path) -> None:
    path = sheet(tmp_path, "source,accent\nhttps://me:secret@example.org/a?list=1,Yazdi\nytsearch3:لهجه,\n")
    found = find_sources(["https://example.org/b.mp3"], PERSIAN, sources_file=path, accent="lori")
    assert [(request.uri, request.address, request.accent) for request in found] == [
        ("https://example.org/b.mp3", "https://example.org/b.mp3", "Lori"),
        ("https://example.org/a?list=1", "https://me:secret@example.org/a?list=1", "Yazdi"),
        ("ytsearch3:لهجه", "ytsearch3:لهجه", "Lori"),
    ]
    assert "secret" not in repr(found)


def test_the_sources_file_to_copy_is_one(repository: Path) -> None:
    found = read_sources_file(repository / "docs" / "sources-example.csv", PERSIAN)
    assert len(found) == 7


def test_wrong_arguments_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "empty/notes.txt", "a.wav")
    with pytest.raises(UsageError, match="nothing to ingest"):
        find_sources([], PERSIAN)
    with pytest.raises(UsageError, match=r"no media in the folder .*empty"):
        find_sources([str(tmp_path / "empty")], PERSIAN)
    with pytest.raises(UsageError, match=r"no file or folder .*nope\.wav"):
        find_sources([str(tmp_path / "a.wav"), str(tmp_path / "nope.wav")], PERSIAN)
    for refused in ("file:///etc/passwd", "ftp://example.org/a.mp3", "data:audio/wav;base64,AAAA", "https://"):
        with pytest.raises(UsageError, match=r"can't be fetched|is no web address"):
            find_sources([refused], PERSIAN)
    with pytest.raises(UsageError, match="misspelling of 'Yazdi'"):
        find_sources([str(tmp_path / "a.wav")], PERSIAN, accent="Yazdii")


# The sources file


def test_labels_and_further_columns(tmp_path: Path) -> None:
    path = sheet(
        tmp_path,
        "source,accent,speaker,language,licence,title,channel,uploaded_at,age,city\n"
        'a.wav,اصفهاني,S 7,fa,CC BY,"One, two",Radio,2026-01-31,۴۵,"یزد"\n'
        "sub/b.wav,Scottish,,,,,,,,\n",
    )
    first, second = read_sources_file(path, PERSIAN)
    assert first == SourceRequest(
        str(tmp_path / "a.wav"),
        tmp_path / "a.wav",
        accent="Isfahani",
        speaker="S 7",
        language="fa",
        licence="CC BY",
        title="One, two",
        channel="Radio",
        uploaded_at=datetime(2026, 1, 31, tzinfo=UTC),
        extra={"age": "۴۵", "city": "یزد"},
    )
    assert second.path == tmp_path / "sub/b.wav"
    assert (second.accent, second.speaker, second.uploaded_at) == ("Scottish", None, None)
    assert second.extra == {"age": "", "city": ""}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_what_spreadsheets_write(tmp_path: Path, delimiter: str, ending: str, mark: str) -> None:
    rows = [
        ["Source", " Accent ", "uploaded_at"],
        [],
        ["a.wav", "Lori", "۱۴۰۴/۱۱/۱۱"],
        ["", "", ""],
        ["b.wav", "", "٢٠٢٦-٠١-٣١"],
    ]
    path = sheet(tmp_path, mark + ending.join(delimiter.join(row) for row in rows) + ending)
    first, second = read_sources_file(path, PERSIAN)
    assert (first.path.name, first.accent) == ("a.wav", "Lori")
    assert (second.path.name, second.accent) == ("b.wav", None)
    assert first.uploaded_at == second.uploaded_at == datetime(2026, 1, 31, tzinfo=UTC)


def test_quoted_cells_may_hold_the_separator_and_line_breaks(tmp_path: Path) -> None:
    path = sheet(tmp_path, 'source;title\n"a;b.wav";"line one\nline two"\nc.wav;x\n')
    first, second = read_sources_file(path, PERSIAN)
    assert (first.path.name, first.title) == ("a;b.wav", "line one\nline two")
    assert second.path.name == "c.wav"


def test_a_folder_in_the_file_gives_its_labels_to_all_in_it(tmp_path: Path) -> None:
    touch(tmp_path, "tv/1.mp4", "tv/2.mp4")
    found = read_sources_file(sheet(tmp_path, "source,accent\ntv,Lori\n"), PERSIAN)
    assert [(request.path.name, request.accent) for request in found] == [("1.mp4", "Lori"), ("2.mp4", "Lori")]


def test_a_missing_file_is_left_to_fail_by_itself(tmp_path: Path) -> None:
    (request,) = read_sources_file(sheet(tmp_path, "source\ngone.wav\n"), PERSIAN)
    assert request.path == tmp_path / "gone.wav"


def test_the_same_row_twice_is_one_source_and_other_labels_are_an_error(tmp_path: Path) -> None:
    found = read_sources_file(sheet(tmp_path, "source,accent\na.wav,Lori\n./a.wav,لری\n"), PERSIAN)
    assert len(found) == 1
    with pytest.raises(UsageError, match=r"line 4: .*a\.wav stands in line 2 already"):
        read_sources_file(sheet(tmp_path, "source,accent\na.wav,Lori\nb.wav,\na.wav,Yazdi\n"), PERSIAN)


def test_the_file_goes_over_the_argument_and_the_accent_option_fills_in(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.wav", "c.wav")
    path = sheet(tmp_path, "source,accent,title\na.wav,Yazdi,\nb.wav,,B\n")
    found = find_sources([str(tmp_path)], PERSIAN, sources_file=path, accent="Lori")
    assert [(request.path.name, request.accent, request.title) for request in found] == [
        ("a.wav", "Yazdi", None),
        ("b.wav", "Lori", "B"),
        ("c.wav", "Lori", None),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("source,accent\na.wav,Lori\nb.wav,Shirazy\n", r"sources\.csv, line 3: accent 'Shirazy' .* 'Shirazi'"),
        ("sorce,accent\na.wav,Lori\n", r"line 1: the header has no column `source` .*did you mean 'sorce'\?"),
        ("file,accent\na.wav,Lori\n", r"no column `source` \(it has file, accent\)"),
        ("", "is empty"),
        ("source,accent\n", "names no source"),
        ("source,accent\n,Lori\n", "line 2: the column `source` is empty"),
        ("source,accent\na, b.wav,Lori\n", "line 2: 3 cells under 2 columns"),
        ("source,accent,accent\na.wav,Lori,Yazdi\n", "line 1: the column 'accent' is there twice"),
        ('source,title\n"a.wav,Lori\nb.wav,x\n', "not valid CSV"),
        ("source,uploaded_at\na.wav,yesterday\n", "line 2: 'yesterday' is no date"),
        ("source\nftp://example.org/a.mp3\n", "line 2: 'ftp://example.org/a.mp3' can't be fetched"),
        ("source\nempty\n", "line 2: there is no media in the folder"),
        (b"source,title\na.wav,caf\xe9\n", r"is not UTF-8 \(byte 23\)"),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=message):
        read_sources_file(sheet(tmp_path, content), PERSIAN)


def test_a_sources_file_that_isnt_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the sources file .*gone\.csv can't be read: No such file"):
        find_sources([], PERSIAN, sources_file=tmp_path / "gone.csv")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026/1/5", datetime(2026, 1, 5, tzinfo=UTC)),
        ("2026-01-31 18:30", datetime(2026, 1, 31, 18, 30, tzinfo=UTC)),
        ("2026-01-31T18:30:00+03:30", datetime(2026, 1, 31, 15, tzinfo=UTC)),
        ("۲۰۲۶-۰۱-۳۱", datetime(2026, 1, 31, tzinfo=UTC)),
        # days whose Gregorian dates are on record
        ("1357/11/22", datetime(1979, 2, 11, tzinfo=UTC)),
        ("۱۳۹۹/۱۲/۳۰", datetime(2021, 3, 20, tzinfo=UTC)),  # a leap day
        ("۱۴۰۳/۰۱/۰۱", datetime(2024, 3, 20, tzinfo=UTC)),
        ("۱۴۰۴/۰۱/۰۱", datetime(2025, 3, 21, tzinfo=UTC)),
    ],
)
def test_dates(text: str, expected: datetime) -> None:
    assert parse_date(text) == expected


@pytest.mark.parametrize("text", ["", "2026", "2026-13-01", "2026-02-30", "31.01.2026", "۱۴۰۴/۱۲/۳۰", "1404/00/01"])
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(UsageError, match="is no date"):
        parse_date(text)
