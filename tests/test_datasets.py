"""Dataset files and their faults, sound of any kind, a corpus' split as a dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_experiments.datasets import (
    Utterance,
    content_id,
    from_split,
    left_out,
    read_dataset,
    read_sound,
    require_splits,
    shared_speakers,
    sound_length,
    split_facts,
)
from catalog.annotations import write_transcripts
from catalog.errors import PdidError, UsageError
from catalog.records import RATE, SplitMember, Transcript
from catalog.store import open_catalog

HEADER = "clip,text,accent,speaker,split"


def tone(path: Path, seconds: float = 0.5, rate: int = RATE, hertz: float = 440, channels: int = 1) -> Path:
    """Write a tone; every frequency makes another file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, np.repeat(wave[:, None], channels, axis=1), rate)
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write lines as a dataset file beside three clips a.wav, b.wav and c.wav."""
    for i, name in enumerate("abc"):
        tone(tmp_path / f"{name}.wav", hertz=300 + 100 * i)

    def write(*lines: str, header: str = HEADER) -> Path:
        path = tmp_path / "data.csv"
        path.write_text("\n".join([header, *lines]) + "\n", "utf-8")
        return path

    return write


# --- dataset files


def test_a_dataset(dataset: Callable[..., Path], tmp_path: Path) -> None:
    path = dataset("a.wav,سلام،  خوبی؟,Yazdi,s1,train,tv", "", "b.wav,two,US,s2,test,", header=HEADER + ",source")
    path.write_text(path.read_text("utf-8").replace("سلام،  خوبی؟", '"سلام،  خوبی؟"'), "utf-8")
    first, second = read_dataset(path)
    a = (tmp_path / "a.wav").read_bytes()
    assert first == Utterance(
        hashlib.sha256(a).hexdigest()[:16], tmp_path / "a.wav", "سلام،  خوبی؟", "Yazdi", "s1", "tv", "train", RATE // 2
    )
    assert (second.split, second.source, second.text) == ("test", "s2", "two")  # no source: the speaker


def test_separators_order_case_and_further_columns(dataset: Callable[..., Path]) -> None:
    path = dataset("s1;12;test;one, two;a.wav;US", header="Speaker;age;SPLIT;text;clip;accent")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    (only,) = read_dataset(path)
    assert (only.text, only.speaker, only.accent, only.split) == ("one, two", "s1", "US", "test")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a.wav,one,US,s1,train", "x.wav,two,US,s1,test"], ["line 3", "no clip", "x.wav", "relative to the file"]),
        (["a.wav,,US,s1,train"], ["line 2", "`text` is empty", "leave the clip out"]),
        (["a.wav,  ,US,s1,train"], ["line 2", "`text` is empty"]),
        (["a.wav,one,,s1,train"], ["line 2", "`accent` is empty"]),
        (["a.wav,one,US,,train"], ["line 2", "`speaker` is empty"]),
        (["a.wav,one,US,s1,"], ["line 2", "`split` is empty"]),
        (["a.wav,one,US,s1"], ["line 2", "`split` is empty"]),
        ([",one,US,s1,train"], ["line 2", "`clip` is empty"]),
        (["a.wav,one,US,s1,validation"], ["line 2", "'validation'", "train, dev or test"]),
        (["a.wav,one,US,s1,train", "b.wav,b,US,s1,dev", "./a.wav,one,US,s1,test"], ["line 4", "line 2", "same bytes"]),
        (["a.wav,one, two,US,s1,train"], ["line 2", "6 cells under 5 columns", "quotes"]),
        (['a.wav,"one,US,s1,train'], ["not valid CSV"]),
        (["noise.wav,one,US,s1,train"], ["line 2", "noise.wav", "can't be read as sound", "WAV or FLAC"]),
        (["empty.wav,one,US,s1,train"], ["line 2", "no sound in it"]),
        ([], ["names no clip"]),
    ],
)
def test_a_fault_is_said_with_its_line(
    dataset: Callable[..., Path], tmp_path: Path, lines: list[str], words: list[str]
) -> None:
    (tmp_path / "noise.wav").write_bytes(b"no sound at all")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    with pytest.raises(UsageError) as error:
        read_dataset(dataset(*lines))
    for word in ["data.csv", *words]:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_the_same_sound_under_two_names_is_a_duplicate(dataset: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "copy.wav").write_bytes((tmp_path / "a.wav").read_bytes())
    with pytest.raises(UsageError, match=r"line 3: the clip 'copy\.wav' stands in line 2 already"):
        read_dataset(dataset("a.wav,one,US,s1,train", "copy.wav,one,US,s1,test"))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("clip,text,accent,split", "no column `speaker` (it has clip, text, accent, split)"),
        ("file,words", "no column `clip`, `text`, `accent`, `speaker`, `split`"),
        (HEADER + ",Text", "the column `text` is there twice"),
    ],
)
def test_a_header_at_fault(dataset: Callable[..., Path], header: str, words: str) -> None:
    with pytest.raises(UsageError, match="line 1") as error:
        read_dataset(dataset("a.wav,one,US,s1,train", header=header))
    assert words in str(error.value)


def test_no_file_no_text_no_utf8(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there\.csv can't be read: No such file"):
        read_dataset(tmp_path / "there.csv")
    (tmp_path / "empty.csv").write_bytes(b"\n \n")
    with pytest.raises(UsageError, match="is empty: it needs a header"):
        read_dataset(tmp_path / "empty.csv")
    (tmp_path / "latin.csv").write_bytes(HEADER.encode() + b"\na.wav,caf\xe9,US,s1,train\n")
    with pytest.raises(UsageError, match=r"not UTF-8 \(byte 41\)"):
        read_dataset(tmp_path / "latin.csv")


def test_needed_sides_and_shared_speakers(dataset: Callable[..., Path]) -> None:
    utterances = read_dataset(dataset("a.wav,one,US,s1,train", "b.wav,two,US,s1,dev", "c.wav,two,US,s2,train"))
    require_splits(utterances, ["train", "dev"])
    with pytest.raises(UsageError, match=r"no test speech among the 3 clips \(there is dev, train\)"):
        require_splits(utterances, ["train", "test"])
    assert shared_speakers(utterances) == []
    assert shared_speakers(read_dataset(dataset("a.wav,one,US,s1,train", "b.wav,two,US,s1,test"))) == ["s1"]


# --- sound


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [("a.wav", 8000, 1), ("a.wav", 16_000, 2), ("a.flac", 44_100, 2), ("a.ogg", 48_000, 1), ("a.mp3", 22_050, 1)],
)
def test_sound_of_any_kind_is_16_khz_mono(tmp_path: Path, name: str, rate: int, channels: int) -> None:
    path = tone(tmp_path / name, seconds=1.0, rate=rate, channels=channels)
    sound = read_sound(path)
    assert sound.dtype == np.float32
    assert sound.shape == (len(sound),)
    assert abs(len(sound) - sound_length(path)) <= 1
    assert abs(len(sound) - RATE) <= RATE // 10  # coded sound may be padded
    middle = sound[RATE // 4 : 3 * RATE // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * RATE / len(middle) == pytest.approx(440, abs=2)
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.03)


def test_channels_are_averaged(tmp_path: Path) -> None:
    both = np.stack([np.full(100, 0.5), np.full(100, -0.25)], axis=1)
    soundfile.write(tmp_path / "two.wav", both, RATE, subtype="FLOAT")
    assert read_sound(tmp_path / "two.wav") == pytest.approx(np.full(100, 0.125))


def test_no_sound(tmp_path: Path) -> None:
    (tmp_path / "no.wav").write_text("no")
    for path in (tmp_path / "no.wav", tmp_path / "not there.wav"):
        with pytest.raises(PdidError, match=r"\.wav can't be read as sound"):
            read_sound(path)


# --- a split of a corpus


def say(corpus: Path, texts: Iterable[tuple[str, str]]) -> None:
    """Add transcripts (segment_id, text) to a corpus."""
    with open_catalog(corpus, write=True) as catalog:
        clips = {clip.segment_id: clip for clip in catalog.clips()}
        write_transcripts(
            catalog,
            [
                Transcript(
                    clips[name].source_id, clips[name].start, clips[name].end, text, "human", datetime.now(UTC), "en"
                )
                for name, text in texts
            ],
        )


def test_a_split_of_a_corpus(corpus: Path) -> None:
    with open_catalog(corpus, write=True) as catalog:
        clips = catalog.clips()
        catalog.update_labels([replace(source, accent="Yazdi") for source in catalog.sources()])
    with pytest.raises(UsageError, match="has no split: write one"):
        from_split(corpus)
    sides = ["train", "test", "dev"] * len(clips)
    with open_catalog(corpus, write=True) as catalog:
        members = [SplitMember(clip.segment_id, side) for clip, side in zip(clips, sides, strict=False)]
        catalog.write_split(members[:-1], name="one", seed=0, settings={"standard": "Tehrani"})
        catalog.write_split(members, name="two", seed=1, settings={})
    with pytest.raises(UsageError, match="no clip of the split 'two' has a transcript"):
        from_split(corpus)
    assert left_out(corpus) == {"no transcript": len(clips)}
    say(corpus, [(clip.segment_id, f"می‌گوید {i}") for i, clip in enumerate(clips) if i != 1])

    found = from_split(corpus)
    assert [u.segment_id for u in found] == [clip.segment_id for i, clip in enumerate(clips) if i != 1]
    assert left_out(corpus) == {"no transcript": 1}
    first = found[0]
    assert first == Utterance(
        clips[0].segment_id,
        corpus / clips[0].path,
        "می‌گوید 0",
        "Yazdi",
        first.speaker,
        clips[0].source_id,
        "train",
        clips[0].end - clips[0].start,
    )
    assert first.speaker
    for one in found:
        assert len(read_sound(one.path)) == one.n_samples
    assert len(from_split(corpus, "one")) == len(found) - (len(clips) != 2)
    assert split_facts(corpus).languages == ("en",)
    assert (split_facts(corpus).name, split_facts(corpus).standard) == ("two", None)
    assert split_facts(corpus, "one").standard == "Tehrani"
    with pytest.raises(UsageError, match=r"no split 'three' \(there is one, two\)"):
        from_split(corpus, "three")
    first.path.unlink()
    with pytest.raises(UsageError, match="is not on disk"):
        from_split(corpus)


def test_an_id_is_the_contents(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert content_id(tmp_path / "x") == "ba7816bf8f01cfea"
