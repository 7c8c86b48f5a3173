"""Each export read back: by its own library, or by the format's documented rules."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.exports import exports
from catalog.store import open_catalog
from corpus_builder.export.clips import ExportClip
from corpus_builder.export.kaldi import utterance
from corpus_builder.export.parquet import into_shards
from tests.furnished import ENGLISH, PERSIAN, furnish
from tests.media import Pdid, query

HUB_SIDES = {"train": "train", "dev": "validation", "test": "test"}


@pytest.fixture(scope="module")
def furnished(ingested: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with accents, licences, texts and a split. Never change it."""
    corpus = Path(shutil.copytree(ingested, tmp_path_factory.mktemp("furnished") / "corpus"))
    furnish(corpus)
    return corpus


@pytest.fixture
def expected(furnished: Path) -> dict[str, dict[str, Any]]:
    """What the public views say of each clip, by segment id, and the samples of its file."""
    columns = (
        "segment_id, segments.source_id, speaker_id, segments.accent, segments.language, text, text_origin, licence"
    )
    rows = query(
        furnished,
        f"SELECT {columns}, segments.split, segments.duration_s, path FROM segments JOIN sources USING (source_id)"
        " WHERE kept",
    )
    names = [*columns.replace("segments.", "").split(", "), "split", "duration_s", "path"]
    found = {row[0]: dict(zip(names, row, strict=True)) for row in rows}
    for row in found.values():
        row["bytes"] = (furnished / row["path"]).read_bytes()
    assert {row["split"] for row in found.values()} == {"train", "dev", "test"}
    assert {row["text"] for row in found.values()} == {PERSIAN, ENGLISH, None}
    return found


@pytest.fixture
def write(pdid: Pdid, furnished: Path, tmp_path: Path) -> Any:
    """Export the corpus in a format and return the folder."""

    def run(name: str, *options: object) -> Path:
        done = pdid("export", "--format", name, tmp_path / "out", "--corpus", furnished, *options)
        assert done.code == 0, done.err
        return tmp_path / "out"

    return run


def samples(content: bytes) -> np.ndarray[Any, Any]:
    """The samples of a WAV file's bytes."""
    import io

    with wave.open(io.BytesIO(content)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


@pytest.mark.parametrize("name", ["audiofolder", "parquet"])
def test_datasets_reads_hugging_face_exports(
    name: str, write: Any, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    out = write(name)
    found = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert set(found) == set(HUB_SIDES.values())
    seen = 0
    for side, hub_side in HUB_SIDES.items():
        rows = found[hub_side]
        assert isinstance(rows.features["audio"], datasets.Audio)
        if name == "parquet":
            assert rows.features["audio"].sampling_rate == 16_000
        for row in rows.cast_column("audio", datasets.Audio(decode=False)):
            wanted = expected[row["segment_id"]]
            assert wanted["split"] == side
            for column in ("source_id", "speaker_id", "accent", "language", "text", "text_origin", "licence"):
                unknown = "" if name == "audiofolder" else None
                assert row[column] == (unknown if wanted[column] is None else wanted[column]), column
            assert row["duration_s"] == pytest.approx(wanted["duration_s"], abs=1e-9)
            content = row["audio"]["bytes"] or Path(row["audio"]["path"]).read_bytes()
            assert content == wanted["bytes"]
            seen += 1
    assert seen == len(expected)


def test_nemo_manifests_follow_the_rules(write: Any, expected: dict[str, Any]) -> None:
    out = write("nemo")
    seen = set()
    for side in HUB_SIDES:
        for line in (out / f"{side}_manifest.json").read_text("utf-8").splitlines():
            entry = json.loads(line)
            wanted = expected[entry["segment_id"]]
            assert wanted["split"] == side
            path = Path(entry["audio_filepath"])
            assert not path.is_absolute()
            sound = samples((out / path).read_bytes())
            assert entry["duration"] == pytest.approx(len(sound) / 16_000, abs=1e-9)
            assert (out / path).read_bytes() == wanted["bytes"]
            assert entry.get("text") == (wanted["text"] and " ".join(wanted["text"].split()))
            assert None not in entry.values()
            seen.add(entry["segment_id"])
    assert seen == set(expected)


def test_lhotse_reads_its_manifests(write: Any, expected: dict[str, Any]) -> None:
    import lhotse

    out = write("lhotse")
    seen = set()
    for side in HUB_SIDES:
        cuts = lhotse.CutSet.from_file(out / f"{side}_cuts.jsonl.gz")
        recordings = lhotse.RecordingSet.from_file(out / f"{side}_recordings.jsonl.gz")
        supervisions = lhotse.SupervisionSet.from_file(out / f"{side}_supervisions.jsonl.gz")
        lhotse.validate_recordings_and_supervisions(recordings, supervisions)
        for cut in cuts:
            lhotse.validate(cut, read_data=True)
            (said,) = cut.supervisions
            wanted = expected[said.id]
            assert (wanted["split"], wanted["text"], wanted["speaker_id"]) == (side, said.text, said.speaker)
            assert said.custom.get("accent") == wanted["accent"]
            assert said.language == wanted["language"]
            np.testing.assert_allclose(cut.load_audio()[0] * 32768, samples(wanted["bytes"]), atol=1e-3)
            seen.add(said.id)
    assert seen == set(expected)


def check_kaldi(folder: Path, text: bool) -> dict[str, tuple[str, str | None]]:
    """utils/validate_data_dir.sh's rules on a data folder; utterance -> path and text."""
    tables = {}
    for name in ("wav.scp", "utt2spk", "spk2utt", "utt2dur", "reco2dur", *(["text"] if text else [])):
        raw = (folder / name).read_bytes()
        assert raw.endswith(b"\n")
        lines = raw.decode("utf-8").split("\n")[:-1]
        assert not any(re.search(r"[\t\r\xa0\u2028]| $|  ", line) for line in lines), name
        assert raw.split(b"\n")[:-1] == sorted(raw.split(b"\n")[:-1]), f"{name}: not in the C locale's order"
        tables[name] = dict(line.split(" ", 1) for line in lines)  # fails for a line of one field
        assert len(tables[name]) == len(lines), f"{name}: a key twice"
    utterances = list(tables["utt2spk"])
    for name in set(tables) - {"spk2utt"}:
        assert list(tables[name]) == utterances, name
    assert sorted(tables["utt2spk"].items(), key=lambda row: (row[1].encode(), row[0].encode())) == list(
        tables["utt2spk"].items()
    ), "utt2spk is not in order when sorted first on speaker-id"
    back = {name: speaker for speaker, names in tables["spk2utt"].items() for name in names.split()}
    assert back == tables["utt2spk"]
    assert all(name.startswith(speaker) for name, speaker in tables["utt2spk"].items())
    assert all(float(tables["utt2dur"][name]) > 0 for name in utterances)
    assert not (folder / "text").exists() or text
    return {name: (tables["wav.scp"][name], tables["text"][name] if text else None) for name in utterances}


def test_kaldi_folders_follow_the_rules(write: Any, expected: dict[str, Any]) -> None:
    out = write("kaldi")
    folders = {path.parent.name for path in out.rglob("wav.scp")}
    assert folders == {"train", "dev_untranscribed", "test"}
    seen = set()
    for folder in folders:
        side, _, bare = folder.partition("_")
        for name, (path, text) in check_kaldi(out / folder, text=not bare).items():
            wanted = expected[name.rsplit("-", 1)[1]]
            assert wanted["split"] == side
            assert Path(path).read_bytes() == wanted["bytes"]
            assert text == (wanted["text"] and " ".join(wanted["text"].split()))
            seen.add(wanted["segment_id"])
    assert seen == set(expected)


def test_kaldi_refuses_a_path_with_a_space(pdid: Pdid, furnished: Path, tmp_path: Path) -> None:
    done = pdid("export", "--format", "kaldi", tmp_path / "my data", "--corpus", furnished)
    assert done.code == 1
    assert "no spaces in paths" in done.err
    assert list(tmp_path.iterdir()) == []


NAMES = st.text("0123456789abcdefS-_.", min_size=1, max_size=6)


def make_clip(segment_id: str, speaker_id: str = "s", duration_s: float = 5.0) -> ExportClip:
    return ExportClip(
        segment_id, "src", speaker_id, None, None, None, None, None, "", 0, duration_s, duration_s, "p", "train"
    )


@given(st.lists(st.tuples(NAMES, st.text("0123456789abcdef", min_size=1, max_size=4)), max_size=20))
def test_kaldi_names_sort_by_speaker_and_by_utterance_alike(pairs: list[tuple[str, str]]) -> None:
    names = [utterance(make_clip(segment, speaker)) for speaker, segment in pairs]
    assert sorted(names, key=lambda name: name[1].encode()) == sorted(
        names, key=lambda name: (name[0].encode(), name[1].encode())
    )


@given(st.lists(st.floats(3, 30), min_size=1, max_size=60), st.floats(1e5, 1e7))
def test_shards_hold_every_clip_once_in_order_and_are_even(durations: list[float], size: float) -> None:
    clips = [make_clip(str(i), duration_s=duration) for i, duration in enumerate(durations)]
    shards = list(into_shards(clips, size))
    assert [clip for shard in shards for clip in shard] == clips
    assert all(shards)
    total = sum(durations) * 32_000
    share = total / max(1, round(total / size))
    sizes = [sum(clip.duration_s for clip in shard) * 32_000 for shard in shards]
    assert max(sizes) <= share + 30 * 32_000 + 1


def test_webdataset_reads_its_shards(write: Any, expected: dict[str, Any]) -> None:
    import webdataset

    out = write("webdataset")
    seen = set()
    for side in HUB_SIDES:
        shards = sorted(map(str, (out / side).glob("*.tar")))
        for sample in webdataset.WebDataset(shards, shardshuffle=False):
            about = json.loads(sample["json"])
            wanted = expected[sample["__key__"]]
            assert wanted["split"] == side
            assert sample["wav"] == wanted["bytes"]
            assert (sample["txt"].decode() if "txt" in sample else None) == wanted["text"]
            assert {k: about[k] for k in ("accent", "licence", "speaker_id", "text")} == {
                k: wanted[k] for k in ("accent", "licence", "speaker_id", "text")
            }
            seen.add(sample["__key__"])
        index = [json.loads(line) for line in (out / side / "clips.jsonl").read_text("utf-8").splitlines()]
        assert {row["segment_id"] for row in index} == {k for k, row in expected.items() if row["split"] == side}
    assert seen == set(expected)


def test_webdataset_shards_are_the_same_bytes_twice(pdid: Pdid, furnished: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert pdid("export", "--format", "webdataset", tmp_path / name, "--corpus", furnished).code == 0
    first = sorted((tmp_path / "a").rglob("*.tar"))
    assert first
    for path in first:
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_rttm_is_read_by_pyannote(write: Any, furnished: Path) -> None:
    from pyannote.database.util import load_rttm

    out = write("rttm")
    pieces = query(furnished, "SELECT source_id, speaker_id, sum(duration_s) FROM segments GROUP BY ALL ORDER BY ALL")
    spoken = {(source, speaker): seconds for source, speaker, seconds in pieces if speaker}
    found = {}
    for file in out.glob("*.rttm"):
        ((uri, annotation),) = load_rttm(file).items()
        assert uri == file.stem
        for label in annotation.labels():
            found[uri, label] = annotation.label_duration(label)
    assert found == pytest.approx(spoken, abs=1e-4)
    assert {row.split(",")[0] for row in (out / "sources.csv").read_text("utf-8").splitlines()[1:]} == {
        source for source, _ in spoken
    }


def test_audacity_labels_follow_one_another(write: Any, furnished: Path) -> None:
    out = write("audacity")
    for source_id, seconds in query(furnished, "SELECT source_id, duration_s FROM sources"):
        edge, kept = 0.0, 0
        for line in (out / f"{source_id}.txt").read_text("utf-8").splitlines():
            start, end, label = line.split("\t")  # fails where a label has a tab of its own
            assert float(start) == pytest.approx(edge, abs=2e-6)
            edge = float(end)
            kept += not label.startswith("[")
        assert edge == pytest.approx(seconds, abs=2e-6)
        assert [(kept,)] == query(furnished, f"SELECT count(*) FROM segments WHERE kept AND source_id = '{source_id}'")
    everything = "".join(path.read_text("utf-8") for path in out.glob("*.txt"))
    assert f"Yazdi {PERSIAN}\n" in everything
    assert "[silence]" in everything


@pytest.mark.parametrize("name", ["audiofolder", "parquet", "webdataset", "metadata"])
def test_croissant_is_read_by_mlcroissant(name: str, write: Any, expected: dict[str, Any], furnished: Path) -> None:
    import mlcroissant

    out = write(name)
    described = mlcroissant.Dataset(jsonld=str(out / "croissant.json"))
    metadata = described.metadata
    assert metadata.ctx.issues.errors == set()
    assert metadata.ctx.issues.warnings == set()
    assert "https://creativecommons.org/licenses/by/4.0/" in metadata.license
    assert any("Yazdi, train" in bias for bias in metadata.data_biases)
    assert any("imported" in line for line in metadata.data_annotation_protocol)
    assert any("silero" in tool for tool in metadata.machine_annotation_tools)
    assert metadata.personal_sensitive_information
    assert metadata.data_collection_missing_data
    for file in metadata.file_objects:
        assert hashlib.sha256((out / file.content_url).read_bytes()).hexdigest() == file.sha256
    if name == "metadata":
        rows = list(described.records("segments"))
        assert [(len(rows),)] == query(furnished, "SELECT count(*) FROM segments")
        assert {row["segments/segment_id"].decode() for row in rows if row["segments/kept"]} == set(expected)
        return
    seen = set()
    for side in HUB_SIDES:
        for row in described.records(side):
            wanted = expected[row[f"{side}/segment_id"].decode()]
            assert wanted["split"] == side
            assert (row[f"{side}/text"] or b"").decode() == (wanted["text"] or "")
            assert row[f"{side}/duration_s"] == pytest.approx(wanted["duration_s"], abs=1e-9)
            if name == "parquet":
                assert row[f"{side}/audio"] == wanted["bytes"]
            seen.add(wanted["segment_id"])
    assert seen == set(expected)


def test_the_card_says_what_the_catalog_says(write: Any, expected: dict[str, Any]) -> None:
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(write("audiofolder", "--licence", "cc by  4.0") / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.language == ["fa"]
    assert card.data.annotations_creators == ["expert-generated"]
    assert card.data.size_categories == ["n<1K"]
    assert card.data.configs[0]["data_files"] == [{"split": "train", "path": "train/**"}]
    mine = [row for row in expected.values() if row["licence"] == "CC BY 4.0"]
    hours = sum(row["duration_s"] for row in mine) / 3600
    assert f"| Yazdi | train | {len(mine)} | {hours:.3f} |" in card.content
    assert f"| human | {len(mine)} |" in card.content
    assert "CC0" not in card.content


def test_a_card_of_several_licences_says_other(write: Any) -> None:
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(write("audiofolder") / "README.md")
    assert card.data.license == "other"
    assert "| (not stated) |" in card.content


def test_each_export_is_noted_with_its_recordings(write: Any, furnished: Path) -> None:
    with open_catalog(furnished) as catalog:
        before = {export.export_id for export in exports(catalog)}
    out = write("nemo", "--licence", "CC0")
    with open_catalog(furnished) as catalog:
        (noted,) = [export for export in exports(catalog) if export.export_id not in before]
        rows = list(catalog.query("SELECT source_id, n_clips FROM exports WHERE export_id = ?", [noted.export_id]).rows)
    assert (noted.format, noted.path) == ("nemo", str(out))
    assert noted.settings["licences"] == ["CC0"]
    assert noted.settings["split"] == "one"
    wanted = query(
        furnished,
        "SELECT source_id, count(*) FROM segments JOIN sources USING (source_id)"
        " WHERE kept AND licence = 'CC0' GROUP BY 1",
    )
    assert rows == wanted
    assert noted.clips == dict(wanted)


def test_without_a_split_everything_is_on_one_side(pdid: Pdid, ingested: Path, tmp_path: Path) -> None:
    corpus = Path(shutil.copytree(ingested, tmp_path / "c"))
    done = pdid("export", "--format", "nemo", tmp_path / "out", "--corpus", corpus, "--json")
    assert done.code == 0, done.err
    (line,) = map(json.loads, done.out.splitlines())
    assert line["side"] == "unsplit"
    assert line["clips"] == len((tmp_path / "out" / "unsplit_manifest.json").read_text().splitlines()) > 3
    assert "no licence" in done.err
