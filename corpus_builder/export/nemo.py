"""NeMo: a JSONL manifest for each side, next to the clips it names.

Rules: NVIDIA NeMo, "Preparing Custom ASR Data": one JSON object a line with audio_filepath, duration (seconds) and
text; a relative audio_filepath is looked for from the manifest's folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corpus_builder.export.clips import ExportClip
from corpus_builder.export.job import Job, dump, write_lines


def write(job: Job, out: Path) -> None:
    """Write SIDE_manifest.json and clips/SOURCE/CLIP.wav. A clip nobody has written down has no `text`."""
    for side, clips in job.sides():
        lines = []
        for clip in job.watch(clips, side):
            name = f"clips/{clip.source_id}/{clip.segment_id}.wav"
            job.copy(clip, out / name)
            lines.append(dump(entry(clip, name)))
        write_lines(out / f"{side}_manifest.json", lines)


def entry(clip: ExportClip, name: str) -> dict[str, Any]:
    """A manifest's line; what is unknown is left out."""
    said = {
        "audio_filepath": name,
        "duration": clip.duration_s,
        "text": clip.line if clip.text is not None else None,
        "lang": clip.language,
        "speaker": clip.speaker_id,
        "accent": clip.accent,
        "licence": clip.licence,
        "text_origin": clip.text_origin,
        "source_id": clip.source_id,
        "segment_id": clip.segment_id,
    }
    return {key: value for key, value in said.items() if value is not None}
