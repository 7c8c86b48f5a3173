"""Lhotse: recordings, supervisions and cuts of each side, written by lhotse itself."""

from __future__ import annotations

from pathlib import Path

from catalog.errors import PdidError
from catalog.records import RATE
from corpus_builder.export.job import Job


def write(job: Job, out: Path) -> None:
    """Write SIDE_recordings.jsonl.gz, SIDE_supervisions.jsonl.gz, SIDE_cuts.jsonl.gz and clips/SOURCE/CLIP.wav.

    A clip is a recording with one supervision over all of it; its id is the clip's. Paths are absolute.
    Raises PdidError where lhotse is not installed.
    """
    try:
        from lhotse import AudioSource, CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet
    except ImportError:
        raise PdidError("a lhotse export needs lhotse: pip install 'pdid[lhotse]'") from None

    for side, clips in job.sides():
        recordings, supervisions = [], []
        for clip in job.watch(clips, side):
            name = f"clips/{clip.source_id}/{clip.segment_id}.wav"
            job.copy(clip, out / name)
            n = round(clip.duration_s * RATE)
            source = AudioSource("file", [0], str(job.home / name))
            recordings.append(Recording(clip.segment_id, [source], RATE, n, n / RATE))
            said = {
                "accent": clip.accent,
                "licence": clip.licence,
                "text_origin": clip.text_origin,
                "source_id": clip.source_id,
                "start_s": clip.start_s,
            }
            supervisions.append(
                SupervisionSegment(
                    id=clip.segment_id,
                    recording_id=clip.segment_id,
                    start=0.0,
                    duration=n / RATE,
                    channel=0,
                    text=clip.text,
                    language=clip.language,
                    speaker=clip.speaker_id,
                    custom={key: value for key, value in said.items() if value is not None},
                )
            )
        recording_set = RecordingSet.from_recordings(recordings)
        supervision_set = SupervisionSet.from_segments(supervisions)
        cuts = CutSet.from_manifests(recording_set, supervision_set)
        recording_set.to_file(out / f"{side}_recordings.jsonl.gz")
        supervision_set.to_file(out / f"{side}_supervisions.jsonl.gz")
        cuts.to_eager().to_file(out / f"{side}_cuts.jsonl.gz")
