"""Local copies of published corpora as dataset files: LibriSpeech, EdAcc, CommonAccent, Common Voice, PDID, and
CREMA-D and TESS, whose label is an emotion.

Each loader reads a corpus in the layout it is published in (docs/datasets.md) and yields rows in the columns of
`datasets.read_dataset`. Nothing is downloaded; only EdAcc, which comes as whole conversations, is cut into clips.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from asr_experiments.datasets import COLUMNS, SPLITS, Split, sound_length
from catalog.errors import PdidError, UsageError
from catalog.records import RATE

STANDARD = "standard"
"""The label of LibriSpeech's readers, of whom no accent is said."""

TEST_ONLY = ("Tajiki", "Shirazi", "Balochi")
"""Accents of PDID that the paper keeps out of training."""

_SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "dev": "dev", "valid": "dev", "validation": "dev", "test": "test",
}  # fmt: skip
_SOUND = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus"})
_CREMA_D = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_[A-Z]{2}")
_CREMA_D_EMOTIONS = {
    "ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness",
}  # fmt: skip
_CREMA_D_SENTENCES = {
    "DFA": "Don't forget a jacket.",
    "IEO": "It's eleven o'clock.",
    "IOM": "I'm on my way to the meeting.",
    "ITH": "I think I have a doctor's appointment.",
    "ITS": "I think I've seen this before.",
    "IWL": "I would like a new alarm clock.",
    "IWW": "I wonder what this is about.",
    "MTI": "Maybe tomorrow it will be cold.",
    "TAI": "The airplane is almost full.",
    "TIE": "That is exactly what happened.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
_TESS_EMOTIONS = {
    "angry": "anger", "disgust": "disgust", "fear": "fear", "happy": "happiness", "neutral": "neutral",
    "ps": "pleasant surprise", "sad": "sadness",
}  # fmt: skip
_EDACC_ACCENT = "How would you describe your accent in English? (e.g. Italian, Glaswegian)"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a dataset file."""

    clip: Path  # absolute
    text: str
    accent: str
    speaker: str
    split: Split
    source: str


Loader = Callable[[Path, Path, str | None], Iterator[Row]]
"""(folder of the corpus, folder for clips that must be cut, label of speech without an accent) -> rows."""


def write_dataset(name: str, folder: Path, target: Path, accent: str | None = None) -> int:
    """Write a local copy of a corpus as a dataset file and return the number of clips.

    `accent` labels speech that has no accent of its own; without it such speech is left out (LibriSpeech's is
    STANDARD). Clips that are cut go to a folder beside the file, NAME-clips. Paths in the file are relative to it.
    Raises UsageError for an unknown corpus, a folder that isn't one, or if nothing in it can be used.
    """
    loader = LOADERS.get(name)
    if loader is None:
        raise UsageError(f"there is no loader for {name!r}: choose from {', '.join(LOADERS)}")
    if not folder.is_dir():
        raise UsageError(f"there is no folder {str(folder)!r}")
    base = target.resolve().parent
    base.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    count = 0
    try:
        with beside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*COLUMNS, "source"])
            for row in loader(folder.resolve(), base / f"{target.stem}-clips", accent):
                clip = os.path.relpath(row.clip, base)
                writer.writerow([clip, row.text, row.accent, row.speaker, row.split, row.source])
                count += 1
        if not count:
            raise UsageError(f"nothing in {folder} can be used: speech without an accent needs a label for it")
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    return count


def librispeech(folder: Path, clips: Path, accent: str | None = None) -> Iterator[Row]:
    """LibriSpeech (Panayotov et al., ICASSP 2015): SUBSET/SPEAKER/CHAPTER/ID.flac, transcripts in S-C.trans.txt.

    The split is the first word of the subset's name; a source is a chapter.
    """
    del clips
    root = folder / "LibriSpeech" if (folder / "LibriSpeech").is_dir() else folder
    subsets = [path for path in sorted(root.iterdir()) if path.is_dir() and path.name.split("-")[0] in SPLITS]
    if not subsets:
        raise UsageError(f"{folder} is no copy of LibriSpeech: it has no folder like train-clean-100 or test-other")
    for subset in subsets:
        for listing in sorted(subset.glob("*/*/*.trans.txt")):
            speaker, chapter = listing.parent.parent.name, listing.parent.name
            for line in _lines(listing):
                name, _, text = line.partition(" ")
                yield Row(
                    listing.parent / f"{name}.flac",
                    text.strip(),
                    accent or STANDARD,
                    f"librispeech-{speaker}",
                    _SPLIT_NAMES[subset.name.split("-")[0]],
                    f"librispeech-{speaker}-{chapter}",
                )


def common_voice(folder: Path, clips: Path, accent: str | None = None) -> Iterator[Row]:
    """Common Voice (Ardila et al., LREC 2020), one language: train.tsv, dev.tsv, test.tsv and clips/*.mp3.

    The speaker is `client_id`; the accent `accents` (`accent` before release 8) as its speaker wrote it.
    """
    del clips
    if not all((folder / f"{split}.tsv").is_file() for split in SPLITS):
        raise UsageError(f"{folder} is no language of Common Voice: it needs train.tsv, dev.tsv, test.tsv and clips/")
    for split in SPLITS:
        for row in _table(folder / f"{split}.tsv", "\t", ("client_id", "path", "sentence"), quoted=False):
            label = (row.get("accents") or row.get("accent") or "").strip() or accent
            if not label or not row["sentence"].strip():
                continue
            name = row["path"] if Path(row["path"]).suffix else f"{row['path']}.mp3"
            speaker = f"cv-{row['client_id'][:16]}"
            yield Row(folder / "clips" / name, row["sentence"].strip(), label, speaker, split, speaker)


def commonaccent(folder: Path, clips: Path, accent: str | None = None) -> Iterator[Row]:
    """CommonAccent (Zuluaga-Gomez et al., Interspeech 2023): train.csv, dev.csv, test.csv as its recipe writes them
    (ID, utt_id, wav, wav_format, text, duration, accent).

    These name no speaker, and intervals need one, so Common Voice's own tables (client_id, path) are read too: any
    *.tsv in the folder or one below it.
    """
    del clips
    if not all((folder / f"{split}.csv").is_file() for split in SPLITS):
        raise UsageError(f"{folder} is no copy of CommonAccent: it needs train.csv, dev.csv and test.csv")
    speakers: dict[str, str] = {}
    for table in sorted([*folder.glob("*.tsv"), *folder.glob("*/*.tsv")]):
        if "client_id" in next(_lines(table), "").split("\t"):
            for row in _table(table, "\t", ("client_id", "path"), quoted=False):
                speakers[Path(row["path"]).stem] = f"cv-{row['client_id'][:16]}"
    for split in SPLITS:
        for row in _table(folder / f"{split}.csv", ",", ("utt_id", "wav", "text", "accent")):
            label = row["accent"].strip() or accent
            if not label or not row["text"].strip():
                continue
            speaker = speakers.get(Path(row["utt_id"]).stem)
            if speaker is None:
                raise UsageError(
                    f"{folder / f'{split}.csv'} names no speaker for {row['utt_id']!r}: put Common Voice's"
                    " validated.tsv of the same release into the folder"
                )
            yield Row(folder / row["wav"], row["text"].strip(), label, speaker, split, speaker)


def edacc(folder: Path, clips: Path, accent: str | None = None) -> Iterator[Row]:
    """EdAcc (Sanabria et al., ICASSP 2023): data/CONVERSATION.wav, dev/stm, test/stm, linguistic_background.csv.

    Each turn is cut out of its conversation into `clips` (WAV, 16 kHz, mono, 16 bit) unless it is there already.
    The accent is what the speaker says of it. Left out: the passage all speakers read (IGNORE_TIME_SEGMENT_IN_SCORING),
    turns of nothing but <laugh> and the like, and, without `accent`, speakers who say nothing.
    """
    import soundfile

    root = folder / "edacc_v1.0" if (folder / "edacc_v1.0").is_dir() else folder
    background = root / "linguistic_background.csv"
    if not background.is_file():
        raise UsageError(f"{folder} is no copy of EdAcc: it has no linguistic_background.csv")
    said = {
        row["PARTICIPANT_ID"].strip(): row[_EDACC_ACCENT].strip()
        for row in _table(background, ",", ("PARTICIPANT_ID", _EDACC_ACCENT))
    }
    clips.mkdir(parents=True, exist_ok=True)
    for split in ("dev", "test"):
        for line in _lines(root / split / "stm"):
            if line.startswith(";;"):
                continue
            # EDACC-C06 1 EDACC-C06-A 0.00 5.27 <male,l1> C ELEVEN DASH P ONE
            conversation, _, speaker, start, end, words = [*line.split(maxsplit=5), ""][:6]
            text = " ".join(re.sub(r"<[^>]*>", " ", words).split())
            label = said.get(speaker, "")
            label = (label if label != "NA" else "") or (accent or "")
            if not label or not text or "IGNORE_TIME_SEGMENT_IN_SCORING" in words:
                continue
            try:
                first, last = float(start), float(end)
                clip = clips / f"{speaker}-{round(100 * first):07d}-{round(100 * last):07d}.wav"
                if not clip.is_file() and not _cut(root / "data" / f"{conversation}.wav", first, last, clip):
                    continue
            except (ValueError, OSError, soundfile.LibsndfileError) as error:
                raise PdidError(f"{root / split / 'stm'}: {line[:60]!r} can't be cut out: {error}") from None
            yield Row(clip, text, label, speaker, _SPLIT_NAMES[split], conversation)


def pdid(folder: Path, clips: Path, accent: str | None = None) -> Iterator[Row]:
    """PDID: a folder with metadata.csv as `pdid export --format audiofolder` writes it, or folders of clips.

    Folders: [SPLIT/]ACCENT/[SPEAKER/]CLIP.wav with the transcript in CLIP.txt beside it. Without SPLIT, TEST_ONLY
    accents are test and the others train; without SPEAKER all clips of an accent count as one speaker's, so that
    it gets no interval rather than a wrong one.
    """
    del clips
    tables = [*folder.glob("metadata.csv"), *folder.glob("*/metadata.csv")]
    if tables:
        for table in sorted(tables):
            yield from _audiofolder(table, accent)
        return
    found = False
    for text_file in sorted(folder.rglob("*.txt")):
        clip = next(
            (p for p in sorted(text_file.parent.glob(f"{text_file.stem}.*")) if p.suffix.lower() in _SOUND), None
        )
        parts = list(text_file.relative_to(folder).parts[:-1])
        split = _SPLIT_NAMES.get(parts[0].lower()) if parts else None
        parts = parts[1:] if split else parts
        text = text_file.read_text("utf-8-sig").strip()
        if clip is None or not parts or not text:
            continue
        found = True
        speaker = "-".join(("pdid", *parts[:2]))
        split = split or ("test" if parts[0] in TEST_ONLY else "train")
        yield Row(clip, text, parts[0], speaker, split, speaker)
    if not found:
        raise UsageError(f"{folder} is no copy of PDID: it has neither metadata.csv nor ACCENT/CLIP.wav with CLIP.txt")


def crema_d(folder: Path, clips: Path, accent: str | None = None) -> Iterator[Row]:
    """CREMA-D (Cao et al., IEEE Transactions on Affective Computing 5, 2014): AudioWAV/1001_DFA_ANG_XX.wav.

    The label is the emotion that was acted. No split is published: by the actor's number, a fifth of them is test and
    a fifth dev.
    """
    del clips, accent
    root = folder / "AudioWAV" if (folder / "AudioWAV").is_dir() else folder
    found = [(path, match) for path in sorted(root.glob("*.wav")) if (match := _CREMA_D.fullmatch(path.stem))]
    if not found:
        raise UsageError(f"{folder} is no copy of CREMA-D: it has no AudioWAV/ with files like 1001_DFA_ANG_XX.wav")
    sides: dict[int, Split] = {0: "test", 4: "dev"}
    for path, match in found:
        actor, sentence, emotion = match.groups()
        if sentence in _CREMA_D_SENTENCES and emotion in _CREMA_D_EMOTIONS:
            speaker, split = f"crema-d-{actor}", sides.get(int(actor) % 5, "train")
            yield Row(path, _CREMA_D_SENTENCES[sentence], _CREMA_D_EMOTIONS[emotion], speaker, split, speaker)


def tess(folder: Path, clips: Path, accent: str | None = None) -> Iterator[Row]:
    """TESS (Pichora-Fuller & Dupuis, University of Toronto, 2020): OAF_angry/OAF_back_angry.wav.

    The label is the emotion that was acted. Of the two speakers the older is train and the younger test.
    """
    del clips, accent
    found = [path for path in sorted(folder.glob("[OY]AF_*/*.wav")) if path.stem.count("_") >= 2]
    if not found:
        raise UsageError(f"{folder} is no copy of TESS: it has no folders like OAF_angry with OAF_back_angry.wav")
    for path in found:
        _, word, *_, emotion = path.stem.lower().split("_")
        name = path.parent.name[:3]  # the files' own has typing errors
        if emotion in _TESS_EMOTIONS:
            split: Split = "train" if name == "OAF" else "test"
            yield Row(path, f"Say the word {word}.", _TESS_EMOTIONS[emotion], f"tess-{name}", split, f"tess-{name}")


LOADERS: dict[str, Loader] = {
    "librispeech": librispeech,
    "edacc": edacc,
    "commonaccent": commonaccent,
    "common-voice": common_voice,
    "pdid": pdid,
    "crema-d": crema_d,
    "tess": tess,
}


def _audiofolder(table: Path, accent: str | None) -> Iterator[Row]:
    folder_split = _SPLIT_NAMES.get(table.parent.name.lower())
    for row in _table(table, ",", ("file_name",)):
        text = next((row[name] for name in ("text", "transcription", "sentence") if row.get(name)), "").strip()
        label = (row.get("accent") or "").strip() or accent
        if not text or not label:
            continue
        split = _SPLIT_NAMES.get((row.get("split") or "").strip().lower()) or folder_split
        split = split or ("test" if label in TEST_ONLY else "train")
        speaker = (row.get("speaker_id") or row.get("speaker") or f"pdid-{label}").strip()
        source = (row.get("source_id") or row.get("source") or speaker).strip()
        yield Row(table.parent / row["file_name"], text, label, speaker, split, source)


def _cut(recording: Path, start_s: float, end_s: float, clip: Path) -> bool:
    """Write [start_s, end_s) of a recording as a 16 kHz clip; False if there is no sound there."""
    import soundfile
    import soxr

    with soundfile.SoundFile(recording) as file:
        first, last = round(start_s * file.samplerate), min(round(end_s * file.samplerate), file.frames)
        if first >= last:
            return False
        file.seek(first)
        mono = file.read(last - first, dtype="float32", always_2d=True).mean(axis=1)
        sound = mono if file.samplerate == RATE else soxr.resample(mono, file.samplerate, RATE)
    beside = clip.with_name(f".{clip.name}")
    soundfile.write(beside, sound.clip(-1, 1), RATE, subtype="PCM_16", format="WAV")
    os.replace(beside, clip)
    return sound_length(clip) > 0


def _table(path: Path, delimiter: str, needed: tuple[str, ...], *, quoted: bool = True) -> Iterator[dict[str, str]]:
    """Rows of a table with a header. Common Voice's are unquoted: a quote is a letter of the sentence."""
    csv.field_size_limit(1 << 20)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(
            file, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, restval=""
        )
        missing = [name for name in needed if name not in (reader.fieldnames or ())]
        if missing:
            raise UsageError(f"{path} has no column {missing[0]!r} (it has {', '.join(reader.fieldnames or ())})")
        yield from reader


def _lines(path: Path) -> Iterator[str]:
    """Lines that are not empty, without their ends."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line in file:
                if line.strip():
                    yield line.rstrip("\r\n")
    except FileNotFoundError:
        raise UsageError(f"there is no {path}: the copy of the corpus is not whole") from None
