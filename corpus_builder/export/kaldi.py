"""Kaldi: a data folder for each side.

Rules: Kaldi, "Data preparation", and utils/validate_data_dir.sh: every file sorted in the C locale by its first
field, the speaker a prefix of the utterance so that both orders agree, the same utterances in every file, no
empty text. No `segments`: an utterance is a recording of its own here. No spk2gender: the catalog has none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from catalog.errors import PdidError
from corpus_builder.export.clips import ExportClip
from corpus_builder.export.job import Job, write_lines


def write(job: Job, out: Path) -> None:
    """Write SIDE/wav.scp, utt2spk, spk2utt, utt2dur, reco2dur, text and clips/SOURCE/CLIP.wav.

    Clips without words go to a folder SIDE_untranscribed without `text`, since Kaldi wants all or none. Paths in
    wav.scp are absolute, as Kaldi's scripts run in other folders. Raises PdidError for a path with a space in it.
    """
    if re.search(r"\s", str(job.home)):
        raise PdidError(f"Kaldi takes no spaces in paths, and {str(job.home)!r} has one: name another folder")
    for side, clips in job.sides():
        for clip in job.watch(clips, side):
            job.copy(clip, out / _file(clip))
        written = [clip for clip in clips if clip.line]
        for name, some in ((side, written), (f"{side}_untranscribed", [clip for clip in clips if not clip.line])):
            if some:
                _folder(out / name, some, job.home, text=some is written)


def utterance(clip: ExportClip) -> tuple[str, str]:
    """A clip's speaker and utterance in names that sort alike.

    Only digits and letters make up a speaker, with _ for the rest; the - after it sorts before all of these, so
    utterances sorted by name are sorted by speaker.
    """
    speaker = re.sub(r"[^0-9A-Za-z]", "_", clip.speaker_id)
    return speaker, f"{speaker}-{clip.segment_id}"


def _file(clip: ExportClip) -> str:
    return f"clips/{clip.source_id}/{clip.segment_id}.wav"


def _folder(folder: Path, clips: Sequence[ExportClip], home: Path, *, text: bool) -> None:
    """One data folder. Names are ASCII, so Python's order is the C locale's."""
    rows = sorted(((*utterance(clip), clip) for clip in clips), key=lambda row: row[1])
    spoken = groupby(rows, key=lambda row: row[0])
    write_lines(folder / "spk2utt", [f"{speaker} {' '.join(row[1] for row in some)}" for speaker, some in spoken])
    write_lines(folder / "utt2spk", [f"{name} {speaker}" for speaker, name, _ in rows])
    write_lines(folder / "wav.scp", [f"{name} {home / _file(clip)}" for _, name, clip in rows])
    for file in ("utt2dur", "reco2dur"):
        write_lines(folder / file, [f"{name} {clip.duration_s:.6f}" for _, name, clip in rows])
    if text:
        write_lines(folder / "text", [f"{name} {clip.line}" for _, name, clip in rows])
