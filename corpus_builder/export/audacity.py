"""Audacity: a label track for each recording (File > Import > Labels), to look at next to its sound."""

from __future__ import annotations

from pathlib import Path

from corpus_builder.export.job import Job, write_lines
from corpus_builder.export.turns import Piece, recordings, write_sources


def write(job: Job, out: Path) -> None:
    """Write SOURCE.txt for every recording, and sources.csv: start, end (seconds) and label, with tabs between."""
    for source_id, pieces in recordings(job):
        lines = [f"{piece.start_s:.6f}\t{piece.end_s:.6f}\t{label(piece)}" for piece in pieces]
        write_lines(out / f"{source_id}.txt", lines)
    write_sources(job, out)


def label(piece: Piece) -> str:
    """What a piece is: speaker, accent and text where it is a clip, else why it is not, in brackets."""
    if piece.reject_reason:
        return f"[{piece.reject_reason}]" + (f" {piece.speaker_id}" if piece.speaker_id else "")
    return " ".join(" ".join(filter(None, (piece.speaker_id, piece.accent, piece.text))).split())
