"""Hugging Face's AudioFolder: clips and a metadata.jsonl for each side; `datasets.load_dataset(FOLDER)` reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corpus_builder.export.card import write_card
from corpus_builder.export.clips import record
from corpus_builder.export.croissant import FileSet, write_croissant
from corpus_builder.export.job import Job, dump, write_lines


def write(job: Job, out: Path) -> None:
    """Write SIDE/SOURCE/CLIP.wav and SIDE/metadata.jsonl, README.md and croissant.json.

    A side has a folder for each recording, since the hub takes 10,000 files in one. What is unknown is an empty
    string: `datasets` refuses sides whose columns differ in type, as one without a single accent would.
    """
    for side, clips in job.sides():
        lines = []
        for clip in job.watch(clips, side):
            name = f"{clip.source_id}/{clip.segment_id}.wav"
            job.copy(clip, out / side / name)
            row: dict[str, Any] = {key: "" if value is None else value for key, value in record(clip).items()}
            lines.append(dump({"file_name": name} | row))
        write_lines(out / side / "metadata.jsonl", lines)
    write_card(job, out, {side: f"{side}/**" for side, _ in job.sides()})
    files = [
        FileSet(
            side, f"{side}/metadata.jsonl", "application/jsonlines", {"file_name": "The clip, relative to its side"}
        )
        for side, _ in job.sides()
    ]
    write_croissant(job, out, files)
