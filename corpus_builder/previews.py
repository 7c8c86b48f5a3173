"""MP3 previews of clips, for listening on a phone or in a browser: pydub and the ffmpeg at hand."""

from __future__ import annotations

import os
from pathlib import Path

from corpus_builder.ffmpeg import ffmpeg_path
from corpus_builder.pauses import AudioSegment

BITRATE = "48k"


def write_preview(clip: Path) -> Path:
    """Write `clip` (a 16 kHz WAV) as an MP3 beside it and return that path."""
    AudioSegment.converter = str(ffmpeg_path())
    target = clip.with_suffix(".mp3")
    beside = target.with_name(f".{target.name}.part")
    AudioSegment.from_wav(clip).export(beside, format="mp3", bitrate=BITRATE).close()
    os.replace(beside, target)
    return target
