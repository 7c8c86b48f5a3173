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


def tidy(corpus: Path, clips: set[str], known: Known) -> set[str]:
    """Delete clips and downloads that no row names, as a killed run leaves them.

    `clips` are the paths of all that a row names, relative to the corpus folder; those that are there are taken out of
    it. Returns the ids of sources with clips that are gone.
    """
    for entry in list(os.scandir(corpus / CLIPS)):
        if entry.is_dir(follow_symlinks=False):
            clips -= sweep(corpus, entry.name, clips)
        else:
            os.unlink(entry.path)
    shelf.sweep(corpus / MEDIA, {Path(fetch.media or "").stem for fetch in known.media.values()})
    return {name.split("/")[1] for name in clips}


def sweep(corpus: Path, source_id: str, wanted: Container[str | None], previews: bool = True) -> set[str]:
    """Delete a source's clip files that are not wanted, and their previews unless they are; return what is left."""
    folder = corpus / CLIPS / source_id
    there: set[str] = set()
    entries: list[os.DirEntry[str]] = []
    with suppress(FileNotFoundError, NotADirectoryError):
        entries = list(os.scandir(folder))  # a path for each file would take longer than the rest
    for entry in entries:
        name = f"{CLIPS}/{source_id}/{entry.name}"
        if name in wanted:
            there.add(name)
        elif entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        elif not (previews and name.endswith(".mp3") and name.removesuffix(".mp3") + ".wav" in wanted):
            os.unlink(entry.path)
    if not there:
        with suppress(OSError):
            folder.rmdir()  # only if it is empty
    return there
