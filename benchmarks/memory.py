"""Peak memory of `pdid ingest` on long sources, made by repeating the programmes under $PDID_TEST_DATA.

    python -m benchmarks.memory HOURS... [-- pdid ingest options]

Prints a line per length: hours, wall seconds, peak resident memory of the process in GiB. With
PDID_MODELS set, Demucs and pyannote take part as the options say.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from corpus_builder.ffmpeg import ffmpeg_path


def long_source(hours: float, folder: Path) -> Path:
    """One file of so many hours: the programmes one after the other, again and again."""
    programmes = sorted(p for p in Path(os.environ["PDID_TEST_DATA"], "programmes").iterdir() if p.suffix != ".json")
    once, target = folder / "once.mp3", folder / f"{hours:g}h.mp3"
    ffmpeg = [str(ffmpeg_path()), "-v", "error", "-y"]
    inputs = [word for p in programmes for word in ("-i", str(p))]
    joined = "".join(f"[{i}:a]" for i in range(len(programmes))) + f"concat=n={len(programmes)}:v=0:a=1"
    subprocess.run([*ffmpeg, *inputs, "-filter_complex", joined, "-b:a", "128k", str(once)], check=True)
    seconds = str(hours * 3600)
    subprocess.run(
        [*ffmpeg, "-stream_loop", "-1", "-i", str(once), "-t", seconds, "-c", "copy", str(target)], check=True
    )
    return target


def peak_gib(process: subprocess.Popen[Any]) -> float:
    """Wait for a process, which must succeed, and return the peak of its resident memory in GiB."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return usage.ru_maxrss / 2**20


def main(arguments: list[str]) -> None:
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options = arguments[cut + 1 :] or ["--diarizer", "embedded"]
    print(f"options: {' '.join(options)}\n\n| hours | wall s | peak GiB |\n|---|---|---|", flush=True)
    for hours in map(float, arguments[:cut]):
        with tempfile.TemporaryDirectory() as folder:
            source = long_source(hours, Path(folder))
            start = time.perf_counter()
            pdid = str(Path(sys.executable).with_name("pdid"))
            peak = peak_gib(subprocess.Popen([pdid, "ingest", str(source), "--corpus", f"{folder}/c", *options]))
            wall = time.perf_counter() - start
        print(f"| {hours:g} | {wall:.0f} | {peak:.2f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
