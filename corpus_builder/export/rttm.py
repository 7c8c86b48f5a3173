"""RTTM: who speaks when, as diarization tools read it.

Format: NIST, "The 2009 (RT-09) Rich Transcription Meeting Recognition Evaluation Plan", appendix A.
"""

from __future__ import annotations

from pathlib import Path

from corpus_builder.export.job import Job, write_lines
from corpus_builder.export.turns import recordings, turns, write_sources


def write(job: Job, out: Path) -> None:
    """Write SOURCE.rttm for every recording, and sources.csv. Turns are of kept and rejected pieces alike."""
    for source_id, pieces in recordings(job):
        write_lines(
            out / f"{source_id}.rttm",
            [
                f"SPEAKER {source_id} 1 {turn.start_s:.6f} {turn.end_s - turn.start_s:.6f} <NA> <NA> "
                f"{turn.speaker_id} <NA> <NA>"
                for turn in turns(pieces)
            ],
        )
    write_sources(job, out)
