"""Near-duplicates across the corpus: re-uploads, repeated adverts, one interview on two channels.

The clips' fingerprints lie in the catalog, so a clip is read once; the pairs are looked for anew, among all, whenever
clips have come or gone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import astuple
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from catalog.duplicates import (
    clips_without_fingerprint,
    count_without_fingerprint,
    fingerprints,
    fingerprints_are_stale,
    write_fingerprints,
)
from catalog.errors import PdidError
from catalog.records import Duplicate
from catalog.store import Catalog, open_catalog
from corpus_builder.audio import read_clip
from corpus_builder.fingerprint import METHOD, Hashes, fingerprint
from corpus_builder.ingest import COMMIT_WAIT_S
from corpus_builder.matches import PART, Prints, find_matches
from corpus_builder.piles import Pile

T = TypeVar("T")

BATCH = 1000
"""Clips whose fingerprints are written at a time; an interrupted run has these to do again, no more."""

MEMORY = "256MiB"
"""For DuckDB while it hands out all fingerprints: it would keep each, as long as the machine has room."""

FOUND = np.dtype([("a", np.uint32), ("b", np.uint32), ("seconds", np.float64), ("score", np.float64)])
"""A match: there may be as many as there are clips."""


def update_duplicates(corpus: Path, tell: Callable[[str], None]) -> None:
    """Bring fingerprints and near-duplicates to what the corpus holds now; nothing is read where nothing changed.

    A clip whose file can't be read is left out, and told of. Raises PdidError if the catalog can't be used, or if the
    corpus folder has no room for scratch files, which a big corpus needs.
    """
    with open_catalog(corpus) as catalog:
        missing = count_without_fingerprint(catalog, METHOD)
        stale = fingerprints_are_stale(catalog, METHOD)
    made: dict[str, Hashes] = {}
    n = 0
    for name, one in _fingerprints(corpus, missing):
        if len(made) == BATCH:
            with open_catalog(corpus, write=True, wait_s=COMMIT_WAIT_S) as catalog:
                write_fingerprints(catalog, METHOD, made)
            made = {}
        made[name] = one
        n += 1
    if n < missing:
        tell(f"near-duplicates: the files of {missing - n} clips can't be read; what they share is not known")
    if not (made or stale):
        return
    with closing(Pile(corpus, np.uint32, PART)) as words:
        with open_catalog(corpus, memory=MEMORY) as catalog:
            names, prints = gather(_stored(catalog, made), words)
        number, pairs = near_duplicates(names, prints, corpus)
    with open_catalog(corpus, write=True, wait_s=COMMIT_WAIT_S) as catalog:
        write_fingerprints(catalog, METHOD, made, pairs)
    tell(
        f"near-duplicates: {n} clips looked at, {number} pairs share sound"
        + ("; `pdid sql @near_duplicates` lists them" if number else "")
    )


def gather(pages: Iterable[Mapping[str, Hashes]], words: Pile[np.uint32]) -> tuple[NDArray[np.bytes_], Prints]:
    """The ids of clips, shape (clips,), in order, and their fingerprints, all of which go into `words`."""
    ids, lengths = [np.zeros(0, "S1")], [np.zeros(0, np.int64)]
    for page in filter(None, pages):
        ids.append(np.array([name.encode() for name in page]))
        lengths.append(np.array([len(one) for one in page.values()], np.int64))
        words.append(np.concatenate(list(page.values())))
    names, length = np.concatenate(ids), np.concatenate(lengths)
    order = np.argsort(names, kind="stable")
    return names[order], Prints(words, (np.cumsum(length) - length)[order], length[order])


def near_duplicates(
    names: NDArray[np.bytes_], prints: Prints, scratch: Path, part: int = PART
) -> tuple[int, Iterator[Duplicate]]:
    """How many pairs of clips share sound, and the pairs, by their ids.

    What `find_matches` has no room for in memory lies in files without a name in the folder `scratch`. Raises
    PdidError where there is no room for them.
    """
    found = np.fromiter(map(astuple, find_matches(prints, scratch, part, _shown)), FOUND)
    rows = (row.item() for row in found)
    return len(found), (Duplicate(names[a].decode(), names[b].decode(), *how) for a, b, *how in rows)


def _stored(catalog: Catalog, made: Mapping[str, Hashes]) -> Iterator[Mapping[str, Hashes]]:
    """The fingerprints in the catalog, some at a time, and those that are not there yet."""
    for page in fingerprints(catalog, METHOD):
        yield {name: words for name, words in page.items() if name not in made}
    yield made


def _fingerprints(corpus: Path, missing: int) -> Iterator[tuple[str, Hashes]]:
    """The fingerprint of each clip without one, of which there are `missing`, where its file can be read."""

    def one(path: str) -> Hashes | None:
        try:
            return fingerprint(read_clip(corpus / path))
        except PdidError:
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = (pair for page in _without(corpus) for pair in zip(page, pool.map(one, page.values()), strict=True))
        for name, words in _shown(made if missing else (), "fingerprints", missing):
            if words is not None:
                yield name, words


def _without(corpus: Path) -> Iterator[dict[str, str]]:
    """Clips without a fingerprint and their paths, page by page, in order; each once, whatever becomes of it."""
    last = ""
    while True:
        with open_catalog(corpus, wait_s=COMMIT_WAIT_S) as catalog:
            page = clips_without_fingerprint(catalog, METHOD, last)
        if not page:
            return
        yield page
        last = max(page)


def _shown(steps: Iterable[T], what: str, number: int | None = None) -> Iterable[T]:
    """The steps of some work as they are; on a terminal with a bar."""
    total = len(steps) if isinstance(steps, Sized) else number
    off = not (total and sys.stderr.isatty())
    return track(steps, what, total, console=Console(stderr=True), transient=True, disable=off)
