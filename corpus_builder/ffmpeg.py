"""The ffmpeg program: the machine's own, else the one in the imageio-ffmpeg wheel."""

from __future__ import annotations

import shutil
from pathlib import Path

from catalog.errors import PdidError


def ffmpeg_path() -> Path:
    """Where the ffmpeg program is. Raises PdidError if there is none."""
    own = shutil.which("ffmpeg")
    if own:
        return Path(own)
    import imageio_ffmpeg

    try:
        return Path(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        raise PdidError("there is no ffmpeg: install it, or `pip install imageio-ffmpeg`") from None
