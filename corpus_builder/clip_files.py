"""The files of a corpus folder against its catalog: what no row names goes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Container
from contextlib import suppress
from pathlib import Path

from corpus_builder.acquire import shelf
from corpus_builder.survey import Known

CLIPS = "clips"
MEDIA = "media"


def tidy(corpus: Path, known: Known) -> set[str]:
    """Delete clips and downloads that no row names, as a killed run leaves them.

    Returns the ids of sources with clips that are gone.
    """
    there: set[str] = set()
    for entry in list(os.scandir(corpus / CLIPS)):
        if entry.is_dir(follow_symlinks=False):
            there |= sweep(corpus, entry.name, known.clips)
        else:
            os.unlink(entry.path)
    shelf.sweep(corpus / MEDIA, {Path(fetch.media or "").stem for fetch in known.media.values()})
    return {name.split("/")[1] for name in known.clips - there}


def sweep(corpus: Path, source_id: str, wanted: Container[str | None], previews: bool = True) -> set[str]:
    """Delete a source's clip files that are not wanted, and their previews unless they are; return what is left."""
    folder = corpus / CLIPS / source_id
    there: set[str] = set()
    for file in list(folder.iterdir()) if folder.is_dir() else ():
        name = f"{CLIPS}/{source_id}/{file.name}"
        if name in wanted:
            there.add(name)
        elif file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        elif not (previews and file.suffix == ".mp3" and name.removesuffix(".mp3") + ".wav" in wanted):
            file.unlink()
    with suppress(OSError):
        folder.rmdir()  # only if it is empty
    return there
