"""What a benchmark runs on: the clips of a split in the catalog, or of a CSV file (`--dataset`)."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from catalog.errors import PdidError, UsageError
from catalog.records import RATE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from catalog.store import SplitInfo

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
COLUMNS = ("clip", "text", "accent", "speaker", "split")
"""What every dataset file has; `source` (the recording a clip was cut from) is optional, others are passed over."""

_USABLE = "kept AND trim(coalesce(segments.text, '')) <> '' AND segments.accent IS NOT NULL"


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """What is known of a split as a whole: the languages of its usable clips, the commonest first, and the accent
    its settings call the standard, if they do."""

    name: str
    languages: tuple[str, ...]
    standard: str | None


@dataclass(frozen=True, slots=True)
class Utterance:
    """A clip with what is said in it, by whom, in which accent, and the side of the split it is on.

    `segment_id` is the catalog's, or, for a dataset, the first 16 hex digits of the SHA-256 of the clip's bytes.
    """

    segment_id: str
    path: Path
    text: str  # verbatim
    accent: str
    speaker: str
    source: str  # the recording it comes from; where a dataset doesn't say, the speaker
    split: Split
    n_samples: int  # at 16 kHz


def read_dataset(path: Path) -> list[Utterance]:
    """The utterances of a dataset file, in its order: CSV with a header, COLUMNS and an optional `source`.

    Paths are relative to the file. Commas, semicolons or tabs part the cells; the file is UTF-8. Raises UsageError,
    with the line, for a missing column, an empty cell, an unknown split, a clip that is not there, can't be read
    as sound or stands there twice (by its name or by its bytes).
    """
    utterances: list[Utterance] = []
    lines: dict[str, int] = {}  # by segment_id
    for line, row in read_rows(path, COLUMNS, ("source",)):
        try:
            utterance = _utterance(row, path.parent)
        except UsageError as error:
            raise UsageError(f"{path}, line {line}: {error}") from None
        first = lines.setdefault(utterance.segment_id, line)
        if first != line:
            raise UsageError(
                f"{path}, line {line}: the clip {row['clip']!r} stands in line {first} already"
                " (the same bytes): leave one of them"
            )
        utterances.append(utterance)
    if not utterances:
        raise UsageError(f"{path} names no clip: write one per line under the header")
    return utterances


def from_split(corpus: Path, split_name: str | None = None, language: str | None = None) -> list[Utterance]:
    """The utterances of a split of a corpus, the newest split for None, ordered by source and time.

    Kept clips with a transcript and an accent, in `language` where one is given; `left_out` counts the others. Raises
    UsageError if there is no such split, if none of its clips can be used, or if a clip is not on disk.
    """
    name = _split(corpus, split_name).name
    found = [
        Utterance(segment_id, corpus / clip, text, accent, speaker, source, split, round(seconds * RATE))
        for segment_id, clip, text, accent, speaker, source, split, seconds in _query(
            corpus,
            f"SELECT segment_id, path, segments.text, segments.accent, speaker_id, source_id, splits.split, duration_s"
            f" FROM splits JOIN segments USING (segment_id) WHERE split_name = $1 AND {_USABLE}"
            f" AND (segments.language = $2 OR $2 IS NULL) ORDER BY source_id, start_s, segment_id",
            name,
            language,
        )
    ]
    if not found:
        raise UsageError(
            f"no clip of the split {name!r} has a transcript and an accent: add them with `pdid transcribe`"
            " and `pdid label`"
        )
    for utterance in found:
        if not utterance.path.is_file():
            raise UsageError(
                f"the clip {utterance.path} of the split {name!r} is not on disk: bring it back, or run"
                " `pdid ingest` on its source again"
            )
    return found


def left_out(corpus: Path, split_name: str | None = None, language: str | None = None) -> dict[str, int]:
    """Why -> how many clips of a split `from_split` leaves out; empty if it takes them all."""
    reasons = {
        "rejected since": "NOT kept",
        "no transcript": "kept AND trim(coalesce(segments.text, '')) = ''",
        "no accent": "kept AND trim(coalesce(segments.text, '')) <> '' AND segments.accent IS NULL",
        "in another language": f"{_USABLE} AND segments.language IS DISTINCT FROM $2 AND $2 IS NOT NULL",
    }
    counts = ", ".join(f"count(*) FILTER ({condition})" for condition in reasons.values())
    counted = _query(
        corpus,
        f"SELECT {counts} FROM splits JOIN segments USING (segment_id) WHERE split_name = $1",
        _split(corpus, split_name).name,
        language,
    )[0]
    return {why: int(count) for why, count in zip(reasons, counted, strict=True) if count}


def split_facts(corpus: Path, split_name: str | None = None) -> SplitFacts:
    """The languages and the standard accent of a split. Raises UsageError if there is no such split."""
    split = _split(corpus, split_name)
    languages = _query(
        corpus,
        "SELECT segments.language FROM splits JOIN segments USING (segment_id)"
        f" WHERE split_name = ? AND segments.language IS NOT NULL AND {_USABLE}"
        " GROUP BY ALL ORDER BY count(*) DESC, segments.language",
        split.name,
    )
    standard = split.settings.get("standard")
    return SplitFacts(split.name, tuple(row[0] for row in languages), standard if isinstance(standard, str) else None)


def channels(corpus: Path) -> dict[str, str]:
    """Source -> who published it, of the sources of a corpus that say."""
    rows = _query(corpus, "SELECT source_id, trim(channel) FROM sources WHERE trim(coalesce(channel, '')) <> ''")
    return {str(source): str(channel) for source, channel in rows}


def require_splits(utterances: Sequence[Utterance], needed: Collection[Split]) -> None:
    """Raises UsageError if a needed side of the split has no clip: better now than after hours of training."""
    there = {utterance.split for utterance in utterances}
    for split in needed:
        if split not in there:
            raise UsageError(
                f"there is no {split} speech among the {len(utterances)} clips (there is {', '.join(sorted(there))}):"
                " choose another split or add some"
            )


def shared_speakers(utterances: Sequence[Utterance]) -> list[str]:
    """Speakers heard both in training and in test: what is measured on them is not about new speakers."""
    heard = {split: {u.speaker for u in utterances if u.split == split} for split in SPLITS}
    return sorted(heard["train"] & heard["test"])


def read_sound(path: Path) -> NDArray[np.float32]:
    """A clip as mono sound of shape (n,) at 16 kHz, float32 within ±1 or a little over.

    Any format and rate libsndfile reads (WAV, FLAC, OGG, Opus, MP3); channels are averaged, other rates resampled
    by soxr. Raises PdidError if it can't be read or has no sound in it.
    """
    import numpy as np
    import soundfile
    import soxr

    try:
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise PdidError(f"the clip {path} can't be read as sound ({_reason(error)})") from None
    if not len(sound):
        raise PdidError(f"the clip {path} has no sound in it")
    mono = sound.mean(axis=1, dtype=np.float32)
    return np.asarray(mono if rate == RATE else soxr.resample(mono, rate, RATE), np.float32)


def sound_length(path: Path) -> int:
    """A clip's length in samples at 16 kHz by its header. Raises PdidError if it can't be read or has no sound."""
    import soundfile

    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise PdidError(
            f"the clip {str(path)!r} can't be read as sound ({_reason(error)}): convert it to WAV or FLAC"
        ) from None
    if info.frames <= 0:
        raise PdidError(f"the clip {str(path)!r} has no sound in it: leave it out")
    return -(-int(info.frames) * RATE // int(info.samplerate))


def content_id(path: Path) -> str:
    """First 16 hex digits of the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _utterance(row: dict[str, str], folder: Path) -> Utterance:
    for name in COLUMNS:
        if not row[name]:
            raise UsageError(f"the column `{name}` is empty: {_EMPTY[name]}")
    if row["split"].lower() not in SPLITS:
        raise UsageError(f"the split is {row['split']!r}: write train, dev or test")
    path = folder / row["clip"]
    if not path.is_file():
        raise UsageError(f"there is no clip {str(path)!r}: paths are relative to the file")
    try:
        n_samples, segment_id = sound_length(path), content_id(path)
    except PdidError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"the clip {str(path)!r} can't be read: {error.strerror}") from None
    return Utterance(
        segment_id,
        path,
        row["text"],
        row["accent"],
        row["speaker"],
        row.get("source") or row["speaker"],
        cast(Split, row["split"].lower()),
        n_samples,
    )


_EMPTY = {
    "clip": "name a sound file",
    "text": "write what is said, or leave the clip out",
    "accent": "name the accent, or leave the clip out",
    "speaker": "name the speaker: intervals are drawn by speaker, and a made-up one makes them wrong",
    "split": "write train, dev or test",
}


def read_rows(path: Path, columns: Sequence[str], optional: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and rows of a CSV file that has `columns` and may have others, cells by column name in lower case.

    Commas, semicolons or tabs part the cells; empty lines are passed over. Raises UsageError, with the line, for a file
    that is no such table, and for one of `columns` or `optional` that is there twice.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"the table {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start + 1}): save it as CSV in UTF-8") from None
    header_line = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=header_line.count)
    # strict: else one forgotten quote swallows the rest of the file into a cell
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = _header(cells, path, reader.line_num, columns, optional)
                continue
            if len(cells) > len(header):
                raise UsageError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells under {len(header)} columns:"
                    " put a cell with the separator in quotes"
                )
            cells += [""] * (len(header) - len(cells))
            yield reader.line_num, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from None
    if header is None:
        raise UsageError(f"{path} is empty: it needs a header with the columns {', '.join(columns)}")


def _header(cells: list[str], path: Path, line: int, columns: Sequence[str], optional: Sequence[str]) -> list[str]:
    names = [cell.strip().lower() for cell in cells]
    missing = [name for name in columns if name not in names]
    if missing:
        raise UsageError(
            f"{path}, line {line}: the header has no column {', '.join(f'`{name}`' for name in missing)}"
            f" (it has {', '.join(filter(None, names))}): it needs {', '.join(columns)}"
        )
    twice = next((name for name in (*columns, *optional) if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"{path}, line {line}: the column `{twice}` is there twice: rename one")
    return names


def _split(corpus: Path, name: str | None) -> SplitInfo:
    from catalog.store import open_catalog

    with open_catalog(corpus) as catalog:
        splits = catalog.splits()
    if not splits:
        raise UsageError(f"the corpus {corpus} has no split: write one with `pdid split`")
    if name is None:
        return splits[-1]
    named = next((split for split in splits if split.name == name), None)
    if named is None:
        raise UsageError(f"there is no split {name!r} (there is {', '.join(split.name for split in splits)})")
    return named


def _query(corpus: Path, sql: str, *parameters: object) -> list[tuple]:  # type: ignore[type-arg]
    from catalog.store import open_catalog

    with open_catalog(corpus) as catalog:
        return list(catalog.query(sql, parameters).rows)


def _reason(error: Exception) -> str:
    words = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return str(words).strip().rstrip(".")
