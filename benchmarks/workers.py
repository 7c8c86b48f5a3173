"""Two workers with one thread each against one such worker, on a machine of two processors.

    PDID_TEST_DATA=FOLDER python -m benchmarks.workers [SOURCES=12 [SECONDS=60]]

SOURCES recordings of SECONDS each are cut from the programmes. One worker is `pdid ingest --jobs 1` that has one
processor and is told of no other; two are `--jobs 2`, and `--executor ray --jobs 2` where Ray is installed. Start-up
counts. Prints one table; run it on an otherwise idle machine.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.acquire import recordings

PDID = (sys.executable, "-c", "from corpus_builder.cli import main; main()")
ALONE = (sys.executable, "-c", "import os; os.cpu_count = lambda: 1; from corpus_builder.cli import main; main()")


def wall(command: tuple[str, ...], files: list[Path], corpus: Path, *options: str) -> float:
    """Seconds of a run that must succeed."""
    words = [*command, "ingest", *map(str, files), "--corpus", str(corpus), "--diarizer", "embedded", *options]
    start = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main(n: int = 12, seconds: int = 60) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = recordings(n, seconds, folder)
        runs = {
            "one worker": ((("taskset", "-c", "0", *ALONE)), ("--jobs", "1")),
            "two processes": (PDID, ("--jobs", "2")),
        }
        if importlib.util.find_spec("ray"):
            runs["two actors of Ray"] = (PDID, ("--jobs", "2", "--executor", "ray"))
        walls = {
            run: wall(command, files, folder / str(i), *options)
            for i, (run, (command, options)) in enumerate(runs.items())
        }
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors; {n} sources of {seconds} s\n")
    print("| run | wall s | times as fast |\n|---|---|---|")
    for run, took in walls.items():
        print(f"| {run} | {took:.1f} | {walls['one worker'] / took:.2f} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
