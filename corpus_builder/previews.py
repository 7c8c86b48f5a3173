"""MP3 previews of clips, for listening on a phone or in a browser: pydub and the ffmpeg at hand."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from corpus_builder.ffmpeg import ffmpeg_path

BITRATE = "48k"


def write_preview(clip: Path) -> Path:
    """Write `clip` (a 16 kHz WAV) as an MP3 beside it and return that path."""
    with warnings.catch_warnings():  # pydub warns of no ffmpeg before it can be told where it is
        warnings.simplefilter("ignore", RuntimeWarning)
        from pydub import AudioSegment
    AudioSegment.converter = str(ffmpeg_path())
    target = clip.with_suffix(".mp3")
    beside = target.with_name(f".{target.name}.part")
    AudioSegment.from_wav(clip).export(beside, format="mp3", bitrate=BITRATE).close()
    os.replace(beside, target)
    return target
