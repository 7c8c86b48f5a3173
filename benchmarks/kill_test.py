"""Kill `pdid ingest` at random moments, run it again, and compare the catalog with an undisturbed run's.

    python -m benchmarks.kill_test [--times 20] [--jobs 1] [--seed N] [MEDIA…]

Run it in the repository's root. Without MEDIA it takes short pieces of the conversation in $PDID_TEST_DATA.
Compared is every row of the catalog but seconds and times of day; and no file may lie in the corpus that
no row names. Exit status 1 where anything differs.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from catalog.records import RATE
from corpus_builder.audio import Decoder
from tests.media import EMBEDDED, assert_whole, rows, start_pdid, write_wav


def pieces(folder: Path) -> list[Path]:
    """Five files of 8 to 12 seconds of two people on the telephone."""
    conversation = Path(os.environ["PDID_TEST_DATA"]) / "clips" / "conversation" / "sample.wav"
    sound = np.concatenate([block[:, 0] for block in Decoder(conversation, RATE)])
    return [write_wav(folder / f"{n}.wav", sound[n * RATE : (3 * n - 8) * RATE]) for n in range(8, 13)]


def ingest(media: list[Path], corpus: Path, jobs: int) -> subprocess.Popen[str]:
    """Start a run, in a session of its own so that the kill finds its processes and no others."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return start_pdid("ingest", *media, "--corpus", corpus, "--jobs", jobs, *EMBEDDED, start_new_session=True, **quiet)


def main() -> int:
    """Run the test and print a line for each kill; the number of runs that came out wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("media", nargs="*", type=Path)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="the moments come from it")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        media = options.media or pieces(base)
        start = time.monotonic()
        if ingest(media, base / "undisturbed", options.jobs).wait():
            sys.exit("the undisturbed run failed")
        whole = time.monotonic() - start
        expected = rows(base / "undisturbed")
        n = sum(len(found["segments"]) for found in expected.values())
        print(f"undisturbed: {whole:.1f} s, {len(expected)} sources, {n} pieces; seed {options.seed}")
        for k in range(options.times):
            corpus = base / f"killed{k}"
            process = ingest(media, corpus, options.jobs)
            moment = moments.uniform(0, whole)
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
            ended = process.wait()
            left = len(list(corpus.rglob("*")))
            code = ingest(media, corpus, 1).wait()
            same = code == 0 and rows(corpus) == expected
            try:
                assert_whole(corpus)
                assert {entry.name for entry in corpus.iterdir()} == {"catalog.duckdb", "clips"}
                clean = True
            except AssertionError:
                clean = False
            wrong += not (same and clean)
            print(
                f"{k + 1:3}: killed at {moment:5.2f} s (exit {ended}, {left} files there); "
                f"then {'the same rows' if same else 'OTHER ROWS'}, {'no orphan' if clean else 'ORPHANS'}",
                flush=True,
            )
    print(f"{options.times - wrong} of {options.times} as undisturbed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
