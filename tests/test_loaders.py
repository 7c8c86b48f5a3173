"""The loaders of published corpora: a small copy of each, in the layout it comes in, becomes a dataset."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_experiments.datasets import (
    read_dataset,
    read_sound,
)
from asr_experiments.loaders import LOADERS, write_dataset
from catalog.errors import PdidError, UsageError
from catalog.records import RATE
from tests.test_datasets import tone


def librispeech(root: Path) -> None:
    root = root / "LibriSpeech"
    for subset, speaker, chapter in (
        ("train-clean-100", "19", "198"),
        ("dev-other", "116", "288045"),
        ("test-clean", "61", "70968"),
    ):
        folder = root / subset / speaker / chapter
        ids = [f"{speaker}-{chapter}-{i:04d}" for i in range(2)]
        for i, name in enumerate(ids):
            tone(folder / f"{name}.flac", hertz=200 + int(speaker) + 50 * i)
        (folder / f"{speaker}-{chapter}.trans.txt").write_text(
            "".join(f"{name} CHAPTER {i} IT'S\n" for i, name in enumerate(ids))
        )
    (root / "SPEAKERS.TXT").write_text(
        ";ID  |SEX| SUBSET           |MINUTES| NAME\n19   | F | train-clean-100  | 25.19 | A\n"
    )


def edacc(root: Path) -> None:
    root = root / "edacc_v1.0"
    rate = 32_000
    for i, conversation in enumerate(("EDACC-C06", "EDACC-C30_P1")):
        path = root / "data" / f"{conversation}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        ramp = np.linspace(-0.5, 0.5, 10 * rate)
        soundfile.write(path, ramp * (-1) ** i, rate)
    for split in ("dev", "test"):
        (root / split).mkdir()
    (root / "dev" / "stm").write_text(
        ";; a comment\n"
        "EDACC-C06 1 EDACC-C06-A 0.00 2.50 <male,l1> C ELEVEN DASH P ONE\n"
        "EDACC-C06 1 EDACC-C06-B 2.50 4.00 <female,l2> <laugh> YEAH <overlap>\n"
        "EDACC-C06 1 EDACC-C06-A 4.00 5.00 <male,l1> <laugh>\n"
        "EDACC-C06 1 EDACC-C06-A 5.00 6.00 <male,l1> IGNORE_TIME_SEGMENT_IN_SCORING\n"
    )
    (root / "test" / "stm").write_text(
        "EDACC-C30_P1 1 EDACC-C30-A 1.25 3.00 <male,l2> HELLO THERE\n"
        "EDACC-C30_P1 1 EDACC-C30-B 3.00 4.00 <male,l2> NOBODY ASKED\n"
        "EDACC-C30_P1 1 EDACC-C30-A 9.50 12.00 <male,l2> THE END\n"
        "EDACC-C30_P1 1 EDACC-C30-A 11.00 12.00 <male,l2> AFTER THE END\n"
    )
    accent = "How would you describe your accent in English? (e.g. Italian, Glaswegian)"
    with (root / "linguistic_background.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [
                ["PARTICIPANT_ID", "What is your gender?", accent],
                ["EDACC-C06-A", "Male", "Scottish (Fife)"],
                ["EDACC-C06-B", "Female", "Standard American,Scottish "],
                ["EDACC-C30-A", "Male", "Jamaican"],
                ["EDACC-C30-B", "Male", "NA"],
            ]
        )


def common_voice(root: Path) -> None:
    """One language of release 17, and in test.tsv the columns of releases before 8."""
    votes = "up_votes down_votes age gender"
    new = f"client_id path sentence_id sentence sentence_domain {votes} accents variant locale segment"
    old = f"client_id path sentence {votes} accent locale segment"
    rows = {
        "train": (
            new,
            [
                [
                    "a" * 128,
                    "common_voice_en_1.mp3",
                    "x",
                    '"No," he said.',
                    "",
                    "2",
                    "0",
                    "",
                    "",
                    "Scottish English",
                    "",
                    "en",
                    "",
                ]
            ],
        ),
        "dev": (
            new,
            [["b" * 128, "common_voice_en_2.mp3", "y", "A dog, a cat", "", "2", "0", "", "", "", "", "en", ""]],
        ),
        "test": (old, [["c" * 128, "common_voice_en_3", "Wait.", "2", "0", "", "", "indian", "en", ""]]),
    }
    for i, (split, (header, lines)) in enumerate(rows.items()):
        tone(root / "clips" / f"common_voice_en_{i + 1}.mp3", rate=32_000, hertz=300 + 100 * i)
        text = "\n".join("\t".join(line) for line in [header.split(), *lines]) + "\n"
        (root / f"{split}.tsv").write_text(text, "utf-8")


def commonaccent(root: Path) -> None:
    for i, (split, accent) in enumerate(
        (("train", "SCOTTISH ENGLISH"), ("dev", "FILIPINO"), ("test", "WELSH ENGLISH"))
    ):
        clip = tone(root.parent / "cv" / f"common_voice_en_{i}.mp3", rate=32_000, hertz=300 + 100 * i)
        with (root / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(
                [
                    ["ID", "utt_id", "wav", "wav_format", "text", "duration", "accent"],
                    [0, f"common_voice_en_{i}", clip, "mp3", f"WORDS, {i}", "0.500", accent],
                ]
            )
    (root / "validated.tsv").write_text(
        "client_id\tpath\tsentence\n" + "".join(f"{'abc'[i] * 128}\tcommon_voice_en_{i}.mp3\tW\n" for i in range(3))
    )


def pdid_folders(root: Path) -> None:
    for i, name in enumerate(("Yazdi/spk1/1.wav", "Yazdi/spk2/2.wav", "Tajiki/3.wav")):
        tone(root / name, hertz=300 + 100 * i)
        (root / name).with_suffix(".txt").write_text(f" متن {i}\n", "utf-8")
    tone(root / "Yazdi/spk1/silent.wav", hertz=900)  # no transcript


def pdid_export(root: Path) -> None:
    for i, split in enumerate(("train", "test")):
        tone(root / split / f"{i}.wav", hertz=300 + 100 * i)
        (root / split / "metadata.csv").write_text(
            f"file_name,text,accent,speaker_id,source_id\n{i}.wav,متن {i},Lori,sp{i},src{i}\n", "utf-8"
        )


def crema_d(root: Path) -> None:
    names = ("1001_DFA_ANG_XX", "1004_IEO_HAP_LO", "1005_TIE_NEU_XX", "1001_XYZ_ANG_XX", "notes")
    for i, name in enumerate(names):  # the last two have no known sentence
        tone(root / "AudioWAV" / f"{name}.wav", hertz=300 + 100 * i)


def tess(root: Path) -> None:
    names = ("OAF_angry/OAF_back_angry", "OAF_neutral/OA_bite_neutral", "YAF_pleasant_surprised/YAF_back_ps")
    for i, name in enumerate(names):  # the second as it is misspelt in the corpus
        tone(root / f"{name}.wav", hertz=300 + 100 * i)
    tone(root / "YAF_sad" / "YAF_back_weary.wav", hertz=900)  # no known emotion


EXPECTED = {
    "librispeech": [
        ("CHAPTER 0 IT'S", "standard", "librispeech-116", "dev", "librispeech-116-288045"),
        ("CHAPTER 1 IT'S", "standard", "librispeech-116", "dev", "librispeech-116-288045"),
        ("CHAPTER 0 IT'S", "standard", "librispeech-61", "test", "librispeech-61-70968"),
        ("CHAPTER 1 IT'S", "standard", "librispeech-61", "test", "librispeech-61-70968"),
        ("CHAPTER 0 IT'S", "standard", "librispeech-19", "train", "librispeech-19-198"),
        ("CHAPTER 1 IT'S", "standard", "librispeech-19", "train", "librispeech-19-198"),
    ],
    "edacc": [
        ("C ELEVEN DASH P ONE", "Scottish (Fife)", "EDACC-C06-A", "dev", "EDACC-C06"),
        ("YEAH", "Standard American,Scottish", "EDACC-C06-B", "dev", "EDACC-C06"),
        ("HELLO THERE", "Jamaican", "EDACC-C30-A", "test", "EDACC-C30_P1"),
        ("THE END", "Jamaican", "EDACC-C30-A", "test", "EDACC-C30_P1"),
    ],
    "common-voice": [
        ('"No," he said.', "Scottish English", "cv-" + "a" * 16, "train", "cv-" + "a" * 16),
        ("Wait.", "indian", "cv-" + "c" * 16, "test", "cv-" + "c" * 16),
    ],
    "commonaccent": [
        ("WORDS, 0", "SCOTTISH ENGLISH", "cv-" + "a" * 16, "train", "cv-" + "a" * 16),
        ("WORDS, 1", "FILIPINO", "cv-" + "b" * 16, "dev", "cv-" + "b" * 16),
        ("WORDS, 2", "WELSH ENGLISH", "cv-" + "c" * 16, "test", "cv-" + "c" * 16),
    ],
    "pdid": [
        ("متن 2", "Tajiki", "pdid-Tajiki", "test", "pdid-Tajiki"),
        ("متن 0", "Yazdi", "pdid-Yazdi-spk1", "train", "pdid-Yazdi-spk1"),
        ("متن 1", "Yazdi", "pdid-Yazdi-spk2", "train", "pdid-Yazdi-spk2"),
    ],
    "pdid exported": [
        ("متن 1", "Lori", "sp1", "test", "src1"),
        ("متن 0", "Lori", "sp0", "train", "src0"),
    ],
    "crema-d": [
        ("Don't forget a jacket.", "anger", "crema-d-1001", "train", "crema-d-1001"),
        ("It's eleven o'clock.", "happiness", "crema-d-1004", "dev", "crema-d-1004"),
        ("That is exactly what happened.", "neutral", "crema-d-1005", "test", "crema-d-1005"),
    ],
    "tess": [
        ("Say the word back.", "anger", "tess-OAF", "train", "tess-OAF"),
        ("Say the word bite.", "neutral", "tess-OAF", "train", "tess-OAF"),
        ("Say the word back.", "pleasant surprise", "tess-YAF", "test", "tess-YAF"),
    ],
}  # fmt: skip
TREES = {
    "librispeech": librispeech,
    "edacc": edacc,
    "common-voice": common_voice,
    "commonaccent": commonaccent,
    "pdid": pdid_folders,
    "pdid exported": pdid_export,
    "crema-d": crema_d,
    "tess": tess,
}


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[str], Path]:
    """Make a small copy of a corpus."""

    def make(name: str) -> Path:
        root = tmp_path / "copy"
        root.mkdir()
        TREES[name](root)
        return root

    return make


@pytest.mark.parametrize("name", TREES)
def test_a_local_copy_becomes_a_dataset(tree: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    target = tmp_path / "out" / f"{name}.csv"
    count = write_dataset(name.split()[0], tree(name), target)
    found = read_dataset(target)  # every clip is there and is sound
    assert [(u.text, u.accent, u.speaker, u.split, u.source) for u in found] == EXPECTED[name]
    assert count == len(found)
    assert not [path for path in target.parent.iterdir() if path.name.startswith(".")]


def test_every_loader_is_tested() -> None:
    assert {name.split()[0] for name in TREES} == set(LOADERS)


def test_edaccs_turns_are_cut_where_the_stm_says(tree: Callable[[str], Path], tmp_path: Path) -> None:
    target = tmp_path / "edacc.csv"
    root = tree("edacc")
    write_dataset("edacc", root, target)
    lengths = [u.n_samples / RATE for u in read_dataset(target)]
    assert lengths == [2.5, 1.5, 1.75, 0.5]  # the last ends with its recording
    sound = read_sound(tmp_path / "edacc-clips" / "EDACC-C30-A-0000125-0000300.wav")
    # the second conversation falls from 0.5 to −0.5 in 10 s
    assert sound[100:-100] == pytest.approx(np.linspace(0.375, 0.2, len(sound))[100:-100], abs=1e-3)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "edacc-clips").iterdir()}
    assert len(before) == 4
    write_dataset("edacc", root, target)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "edacc-clips").iterdir()} == before
    (root / "edacc_v1.0" / "data" / "EDACC-C06.wav").unlink()
    for path in before:
        path.unlink()
    with pytest.raises(PdidError, match=r"EDACC-C06 1 EDACC-C06-A.*can't be cut out"):
        write_dataset("edacc", root, target)
    assert len(read_dataset_rows(target)) == 4  # the file is as it was


def read_dataset_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_label_for_speech_without_an_accent(tree: Callable[[str], Path], tmp_path: Path) -> None:
    target = tmp_path / "cv.csv"
    write_dataset("common-voice", tree("common-voice"), target, "Tehrani")
    assert [row["accent"] for row in read_dataset_rows(target)] == ["Scottish English", "Tehrani", "indian"]
    write_dataset("common-voice", tmp_path / "copy", target)
    assert [row["accent"] for row in read_dataset_rows(target)] == ["Scottish English", "indian"]


def test_paths_are_relative_to_the_file(tree: Callable[[str], Path], tmp_path: Path) -> None:
    target = tmp_path / "sub" / "libri.csv"
    write_dataset("librispeech", tree("librispeech"), target)
    clips = [row["clip"] for row in read_dataset_rows(target)]
    assert clips[0] == "../copy/LibriSpeech/dev-other/116/288045/116-288045-0000.flac"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("librispeech", "train-clean-100"),
        ("edacc", r"linguistic_background\.csv"),
        ("common-voice", "train.tsv, dev.tsv, test.tsv and clips"),
        ("commonaccent", "train.csv, dev.csv and test.csv"),
        ("pdid", r"metadata\.csv"),
        ("crema-d", r"AudioWAV/ with files like 1001_DFA_ANG_XX\.wav"),
        ("tess", "folders like OAF_angry"),
    ],
)
def test_a_folder_that_is_no_copy(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=words):
        write_dataset(name, tmp_path / "empty", tmp_path / "out.csv")
    with pytest.raises(UsageError, match="no folder"):
        write_dataset(name, tmp_path / "nowhere", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_an_unknown_corpus(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no loader for 'timit': choose from librispeech, edacc, commonaccent"):
        write_dataset("timit", tmp_path, tmp_path / "out.csv")


def test_commonaccent_needs_common_voices_speakers(tree: Callable[[str], Path], tmp_path: Path) -> None:
    root = tree("commonaccent")
    (root / "validated.tsv").unlink()
    with pytest.raises(UsageError, match=r"no speaker for 'common_voice_en_0': put Common Voice's validated\.tsv"):
        write_dataset("commonaccent", root, tmp_path / "out.csv")


def test_a_missing_column_of_a_copy(tree: Callable[[str], Path], tmp_path: Path) -> None:
    root = tree("common-voice")
    (root / "dev.tsv").write_text("client_id\tpath\nx\ty\n")
    with pytest.raises(UsageError, match=r"dev\.tsv has no column 'sentence' \(it has client_id, path\)"):
        write_dataset("common-voice", root, tmp_path / "out.csv")


def test_nothing_of_use(tree: Callable[[str], Path], tmp_path: Path) -> None:
    root = tree("common-voice")
    for split in ("train", "dev", "test"):
        (root / f"{split}.tsv").write_text("client_id\tpath\tsentence\taccents\nx\ty.mp3\tz\t\n")
    with pytest.raises(UsageError, match=r"nothing in .* can be used"):
        write_dataset("common-voice", root, tmp_path / "out.csv")
    assert not list(tmp_path.glob("*out.csv*"))
