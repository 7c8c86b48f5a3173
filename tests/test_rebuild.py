"""A corpus without its sound, and the sound put back: the same clips, the same rows."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog.records import RATE
from catalog.store import open_catalog
from corpus_builder.audio import Samples
from corpus_builder.config import load_settings
from corpus_builder.export.clips import Choice
from corpus_builder.export.job import export
from corpus_builder.taxonomy import load_taxonomy
from tests.catalog_rows import kept, make_result
from tests.furnished import furnish
from tests.media import EMBEDDED, Pdid, convert, query, start_pdid, write_wav
from tests.web_server import WebServer

VIEWS = {
    "segments": "SELECT * FROM segments ORDER BY segment_id",
    "sources": "SELECT * EXCLUDE (uri) FROM sources ORDER BY source_id",
    "splits": "SELECT * FROM splits ORDER BY ALL",
    "transcripts": "SELECT * FROM transcripts ORDER BY ALL",
    "labels": "SELECT * FROM labels WHERE origin <> 'source metadata' ORDER BY ALL",
    "stages": "SELECT * FROM stages ORDER BY ALL",
    "speakers": "SELECT speaker_id, accent, n_sources, n_segments, hours FROM speakers WHERE n_segments > 0 ORDER BY 1",
}


@pytest.fixture(scope="module")
def media(talk: Path, two_speakers: Path, test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a lossy recording and three plain ones, two of them of one name."""
    folder = tmp_path_factory.mktemp("home") / "secret" / "tapes"
    (folder / "گفت‌وگو").mkdir(parents=True)
    convert(talk, folder / "talk.opus")
    for path in (talk, two_speakers):
        shutil.copy(path, folder / path.name)
    shutil.copy(test_data / "clips" / "conversation" / "sample.wav", folder / "گفت‌وگو" / "talk.wav")
    return folder


@pytest.fixture(scope="module")
def built(media: Path, ingested: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of that folder, with all that can be said of it. Never change it."""
    corpus = Path(shutil.copytree(ingested, tmp_path_factory.mktemp("built") / "corpus"))
    process = start_pdid("ingest", media, "--corpus", corpus, *EMBEDDED)  # of these the lossy one is new
    _, err = process.communicate()
    assert process.returncode == 0, err
    with open_catalog(corpus, write=True) as catalog:  # found elsewhere once; it is these addresses that count here
        for source in catalog.sources():
            result = catalog.result(source.source_id)
            assert result
            mine = tuple(a for a in result.addresses if a.uri.startswith(str(media)))
            catalog.write_source(replace(result, source=replace(result.source, uri=mine[0].uri), addresses=mine))
    furnish(corpus)
    return corpus


@pytest.fixture
def release(pdid: Pdid, built: Path, tmp_path: Path) -> Path:
    """Its metadata-only release."""
    corpus = Path(shutil.copytree(built, tmp_path / "original"))
    done = pdid("export", "--format", "metadata", tmp_path / "release", "--corpus", corpus)
    assert done.code == 0, done.err
    return tmp_path / "release"


def sounds(corpus: Path) -> dict[str, bytes]:
    """Every clip's file, byte by byte."""
    return {str(path.relative_to(corpus)): path.read_bytes() for path in (corpus / "clips").rglob("*.wav")}


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_the_rebuilt_corpus_is_the_same(pdid: Pdid, release: Path, built: Path, media: Path, tmp_path: Path) -> None:
    moved = tmp_path / "other"  # the recordings lie elsewhere, under other names
    moved.mkdir()
    for number, path in enumerate(sorted(path for path in media.rglob("*") if path.is_file())):
        shutil.copy(path, moved / f"{number}.bin")
    (moved / "noise.bin").write_bytes(b"something else")
    done = pdid("rebuild", release, "--corpus", tmp_path / "new", "--media", moved, "--json")
    assert done.code == 0, done.err
    assert {json.loads(line)["differing"] for line in done.out.splitlines()} == {0}
    assert sounds(tmp_path / "new") == sounds(built)
    assert len(sounds(built)) > 4
    for view, sql in VIEWS.items():
        assert query(tmp_path / "new", sql) == query(built, sql), view
        assert query(built, sql), view
    assert query(tmp_path / "new", "SELECT accent, raw FROM labels WHERE origin = 'source metadata' ORDER BY ALL") == [
        ("Lori", "Lori"),
        ("Yazdi", "یزدی"),
    ]
    again = pdid("rebuild", release, "--corpus", tmp_path / "new", "--media", tmp_path / "release", "--json")
    assert again.code == 0
    assert {json.loads(line)["there_before"] for line in again.out.splitlines()} == {True}
    assert pdid("split", "--check", "--name", "one", "--corpus", tmp_path / "new").code in (0, 1)


def test_ingest_goes_on_with_the_rebuilt_corpus(pdid: Pdid, release: Path, media: Path, tmp_path: Path) -> None:
    assert pdid("rebuild", release, "--corpus", tmp_path / "new", "--media", media).code == 0
    assert not (tmp_path / "new" / ".scratch").exists()
    # without the options it was made with: they are in the pdid.toml that came along
    done = pdid("ingest", media, "--corpus", tmp_path / "new", "--diarizer", "embedded")
    assert done.code == 0
    assert "nothing to do" in done.err


def test_a_release_read_one_by_one_is_the_same(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large corpus is read some recordings at a time; here one at a time."""
    for name in ("catalog.store.BATCH", "corpus_builder.export.metadata.BLOCK"):
        monkeypatch.setattr(name, 1)
    corpus = tmp_path / "original"
    taxonomy = load_taxonomy(load_settings(corpus).taxonomy, corpus)
    export(corpus, "metadata", tmp_path / "again", Choice(), taxonomy, lambda line: None)
    files = sorted(path.name for path in release.glob("*.jsonl"))
    assert len(files) == 8
    for name in files:
        assert (tmp_path / "again" / name).read_bytes() == (release / name).read_bytes(), name


def test_a_release_says_nothing_of_the_machine(release: Path, media: Path) -> None:
    everything = "".join(path.read_text("utf-8") for path in release.iterdir())
    assert "secret" not in everything
    assert str(media.parent) not in everything
    assert "embedding" not in everything
    assert not [path for path in release.rglob("*") if path.suffix == ".wav"]
    places = {place["address"] for row in lines(release / "sources.jsonl") for place in row["places"]}
    assert places == {"talk.opus", "tapes/talk.wav", "two.wav", "گفت‌وگو/talk.wav"}
    about = json.loads((release / "release.json").read_text())
    assert about["settings_hold"] is True
    assert about["settings"]["separate"]["mode"] == "never"  # as the command line said, not as the file does


def test_a_release_brings_its_own_taxonomy_and_no_folder_of_models(pdid: Pdid, corpus: Path, tmp_path: Path) -> None:
    furnish(corpus)
    accents = tmp_path / "elsewhere.toml"
    accents.write_text('name = "mine"\n[[accent]]\nname = "Yazdi"\n[[accent]]\nname = "Lori"\n')
    (corpus / "pdid.toml").write_text(f'taxonomy = "{accents}"\n[separate]\nmodel = "/home/me/htdemucs_ft"\n')
    assert pdid("export", "--format", "metadata", tmp_path / "release", "--corpus", corpus).code == 0
    assert pdid("rebuild", tmp_path / "release", "--corpus", "new").code == 1  # no recording is there
    assert Path("new/taxonomy.toml").read_text() == accents.read_text()
    settings = tomllib.loads(Path("new/pdid.toml").read_text("utf-8"))
    assert settings == {"taxonomy": "taxonomy.toml", "separate": {"mode": "never", "model": "htdemucs_ft"}}


def test_what_is_missing_is_listed_and_comes_later(pdid: Pdid, release: Path, media: Path, tmp_path: Path) -> None:
    some = Path(shutil.copytree(media, tmp_path / "some"))
    (some / "two.wav").unlink()
    with (some / "talk.opus").open("ab") as file:
        file.write(b"edited")
    rows = lines(release / "sources.jsonl")
    (gone,) = [row["source"]["source_id"] for row in rows if row["places"][0]["address"] == "two.wav"]
    done = pdid("rebuild", release, "--corpus", tmp_path / "new", "--media", some, "--json")
    assert done.code == 1
    found = {row["source_id"]: row for row in map(json.loads, done.out.splitlines())}
    kept = [row["segment"] for row in lines(release / "segments.jsonl") if row["segment"]["kept"]]
    wanted = {row["segment_id"] for row in kept if row["source_id"] == gone}
    assert {row["segment_id"] for row in found[gone]["missing"]} == wanted
    assert "nor is any file with its SHA-256" in done.err
    assert "has other bytes than the recording" in done.err
    assert "2 of 4 recordings" in done.err
    assert query(tmp_path / "new", "SELECT count(*) FROM sources") == [(2,)]
    assert query(tmp_path / "new", "SELECT count(*) FROM splits") == [(len(kept),)], "a split says what it was"
    done = pdid("rebuild", release, "--corpus", tmp_path / "new", "--media", media)
    assert done.code == 0, done.err
    assert len(sounds(tmp_path / "new")) == len(kept)
    assert query(tmp_path / "new", "SELECT count(*) FROM transcripts") == [(len(lines(release / "transcripts.jsonl")),)]


def test_a_web_address_that_has_nothing_is_explained(pdid: Pdid, release: Path, tmp_path: Path) -> None:
    rows = lines(release / "sources.jsonl")
    with WebServer(tmp_path) as site:
        rows[0]["places"] = [{"address": f"{site.url}/gone.wav", "size_bytes": None}]
        (release / "sources.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = pdid("rebuild", release, "--corpus", tmp_path / "new")
    assert done.code == 1
    assert f"{site.url}/gone.wav can't be fetched: there is nothing there (404" in done.err
    assert "name its folder with --media" in done.err


def test_a_release_of_some_clips_holds_no_others(pdid: Pdid, corpus: Path, media: Path, tmp_path: Path) -> None:
    furnish(corpus)
    done = pdid("export", "--format", "metadata", tmp_path / "part", "--corpus", corpus, "--accent", "Yazdi")
    assert done.code == 0, done.err
    wanted = {row[0] for row in query(corpus, "SELECT segment_id FROM segments WHERE kept AND accent = 'Yazdi'")}
    assert {row["segment"]["segment_id"] for row in lines(tmp_path / "part" / "segments.jsonl")} == wanted
    assert len(lines(tmp_path / "part" / "sources.jsonl")) == 1
    assert lines(tmp_path / "part" / "sources.jsonl")[0]["stages"] == []
    assert len(lines(tmp_path / "part" / "transcripts.jsonl")) == len(wanted)
    assert len(lines(tmp_path / "part" / "split_members.jsonl")) == len(wanted)


@pytest.mark.parametrize(
    ("file", "number", "change", "words"),
    [
        ("segments.jsonl", 2, lambda line: line[:-9], "segments.jsonl, line 2"),
        ("segments.jsonl", 1, lambda line: line.replace('"start": 0', '"start": "soon"'), "line 1: segment.start"),
        ("segments.jsonl", 1, lambda line: line.replace('"start": 0', '"start": -5'), "is no stretch of its recording"),
        ("transcripts.jsonl", 1, lambda line: line.replace('"text"', '"txet"'), "transcripts.jsonl, line 1: text"),
        ("labels.jsonl", 1, lambda line: line.replace("segment", "everything"), "labels.jsonl, line 1: scope"),
        ("sources.jsonl", 1, lambda line: line.replace('"source_id": "', '"source_id": "../../'), "16 hex digits"),
        ("split_members.jsonl", 1, lambda line: line.replace('"one"', '"two"'), "there is no split 'two'"),
        ("release.json", 2, lambda line: '"version": 99,', "is of version 99"),
        ("release.json", 1, lambda line: "{{", "release.json"),
    ],
)
def test_a_release_edited_into_nonsense(
    file: str,
    number: int,
    change: Callable[[str], str],
    words: str,
    pdid: Pdid,
    release: Path,
    media: Path,
    tmp_path: Path,
) -> None:
    text = (release / file).read_text("utf-8").splitlines()
    assert change(text[number - 1]) != text[number - 1]
    text[number - 1] = change(text[number - 1])
    (release / file).write_text("\n".join(text) + "\n", "utf-8")
    done = pdid("rebuild", release, "--corpus", tmp_path / "new", "--media", media)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "new").exists()


def test_a_clips_name_can_not_lead_out_of_the_corpus(pdid: Pdid, release: Path, media: Path, tmp_path: Path) -> None:
    rows = lines(release / "segments.jsonl")
    one = next(row for row in rows if row["segment"]["kept"])
    one["segment"]["segment_id"] = "../../../../escaped"
    (release / "segments.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = pdid("rebuild", release, "--corpus", tmp_path / "new", "--media", media)
    assert done.code == 2
    assert "can't be a segment_id" in done.err
    assert not list(tmp_path.rglob("escaped*"))


def test_what_is_no_release_and_a_corpus_of_others(pdid: Pdid, release: Path, media: Path) -> None:
    done = pdid("rebuild", media, "--corpus", "new")
    assert done.code == 2
    assert "is no metadata release" in done.err
    (release / "marks.jsonl").unlink()
    done = pdid("rebuild", release, "--corpus", "new")
    assert done.code == 2
    assert "marks.jsonl can't be read" in done.err
    (release / "marks.jsonl").write_text("")
    with open_catalog(Path("others"), write=True) as catalog:
        catalog.write_source(make_result(kept(0)))
    done = pdid("rebuild", release, "--corpus", "others", "--media", media)
    assert done.code == 2
    assert "holds 1 recordings that the release does not name" in done.err
    assert sounds(Path("others")) == {}
    assert query(Path("others"), "SELECT count(*) FROM segments") == [(1,)]


def test_separated_clips_need_the_weights(
    pdid: Pdid,
    clip: Callable[[str], Samples],
    models_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone, under = clip("librispeech/1998-15444-0000.flac"), clip("librispeech/1998-15444-0002.flac")[: 4 * RATE]
    music = clip("music/calm_acoustic_1.opus")[20 * RATE :][: len(under) + RATE // 2]
    music *= np.sqrt((under**2).mean() / (music**2).mean()) / 10 ** (6 / 20)
    music[: len(under)] += under
    media = tmp_path / "media"
    media.mkdir()
    write_wav(media / "bed.wav", np.concatenate([alone[: 6 * RATE], np.zeros(RATE, np.float32), music]))
    monkeypatch.setenv("PDID_MODELS", str(models_dir))
    Path("pdid.toml").write_text("[keep]\nmin_snr_db = -999.0\n")  # random weights make noise; keep it to look at it
    assert pdid("ingest", media, "--corpus", "c", "--diarizer", "embedded").code == 0
    separated = [row[0] for row in query(Path("c"), "SELECT path FROM segments WHERE kept AND separated")]
    plain = [row[0] for row in query(Path("c"), "SELECT path FROM segments WHERE kept AND NOT separated")]
    assert separated
    assert plain
    assert pdid("export", "--format", "metadata", "release", "--corpus", "c").code == 0
    Path("pdid.toml").unlink()
    before = sounds(Path("c"))

    monkeypatch.setenv("PDID_MODELS", "")
    done = pdid("rebuild", "release", "--corpus", "new", "--media", media)
    assert done.code == 1
    assert f"missing: {len(separated)} clips of 'bed.wav'" in done.err
    assert "pdid models fetch htdemucs" in done.err
    assert sounds(Path("new")) == {name: before[name] for name in plain}
    assert query(Path("new"), "SELECT count(*) FROM stages") == [(0,)], "it is not whole, and `pdid ingest` must know"

    monkeypatch.setenv("PDID_MODELS", str(models_dir))
    done = pdid("rebuild", "release", "--corpus", "new", "--media", media)
    assert done.code == 0, done.err
    assert sounds(Path("new")) == before
