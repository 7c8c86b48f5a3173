"""Near-duplicates across the corpus: re-uploads, repeated adverts, one interview on two channels.

The clips' fingerprints lie in the catalog, so a clip is read once; the pairs are looked for anew, among all, whenever
clips have come or gone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from catalog.duplicates import clips_without_fingerprint, fingerprints, fingerprints_are_stale, write_fingerprints
from catalog.records import RATE, Duplicate
from catalog.store import open_catalog
from corpus_builder.audio import Decoder, MediaError, Samples
from corpus_builder.fingerprint import METHOD, Hashes, find_matches, fingerprint
from corpus_builder.ingest import COMMIT_WAIT_S

BATCH = 1000
"""Clips whose fingerprints are written at a time; an interrupted run has these to do again, no more."""


def update_duplicates(corpus: Path, tell: Callable[[str], None]) -> None:
    """Bring fingerprints and near-duplicates to what the corpus holds now; nothing is read where nothing changed.

    A clip whose file can't be read is left out, and told of. Raises PdidError if the catalog can't be used.
    """
    with open_catalog(corpus) as catalog:
        missing = clips_without_fingerprint(catalog, METHOD)
        stale = fingerprints_are_stale(catalog, METHOD)
    there = {name: corpus / path for name, path in missing.items() if os.path.isfile(f"{corpus}/{path}")}
    made: dict[str, Hashes] = {}
    n = 0
    for name, words in _fingerprints(there):
        if len(made) == BATCH:
            with open_catalog(corpus, write=True, wait_s=COMMIT_WAIT_S) as catalog:
                write_fingerprints(catalog, METHOD, made)
            made = {}
        made[name] = words
        n += 1
    if n < len(missing):
        tell(f"near-duplicates: the files of {len(missing) - n} clips can't be read; what they share is not known")
    if not (made or stale):
        return
    with open_catalog(corpus) as catalog:
        prints = fingerprints(catalog, METHOD) | made
    found = near_duplicates(prints)
    with open_catalog(corpus, write=True, wait_s=COMMIT_WAIT_S) as catalog:
        write_fingerprints(catalog, METHOD, made, found)
    tell(
        f"near-duplicates: {n} clips looked at, {len(found)} pairs share sound"
        + ("; `pdid sql @near_duplicates` lists them" if found else "")
    )


def near_duplicates(prints: Mapping[str, Hashes]) -> list[Duplicate]:
    """The pairs of clips that share sound, by their fingerprints; the order of the clips plays no part."""
    names = sorted(prints)
    return [
        Duplicate(names[match.a], names[match.b], match.seconds, match.score)
        for match in find_matches([prints[name] for name in names])
    ]


def _fingerprints(clips: Mapping[str, Path]) -> Iterator[tuple[str, Hashes]]:
    """Each clip's fingerprint, where its file can be read."""
    shown = track(
        clips.items(),
        "fingerprints",
        console=Console(stderr=True),
        transient=True,
        disable=not (clips and sys.stderr.isatty()),
    )
    for name, path in shown:
        try:
            yield name, fingerprint(read_clip(path))
        except MediaError:
            continue


def read_clip(path: Path) -> Samples:
    """A clip's sound, shape (n,) at 16 kHz. Raises MediaError if it is none."""
    blocks: Sequence[Samples] = [block[:, 0] for block in Decoder(path, RATE)]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
