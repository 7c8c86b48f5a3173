"""Wall time of `pdid ingest` against the plain chain and Emilia's order of stages: same media, weights and machine.

    PDID_MODELS=FOLDER python benchmarks/speed.py MEDIA...

FOLDER holds `demucs/` and `diarization/` (random weights cost the same). Start-up and model loading count.
Prints the machine and one table; run it on an otherwise idle machine.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUNS = (  # name, options, whether the weights are to be had
    ("embedded, no weights", ("--diarizer", "embedded"), False),
    ("embedded, Demucs where speech meets music", ("--diarizer", "embedded"), True),
    ("pyannote, Demucs where speech meets music", ("--diarizer", "pyannote"), True),
)


def run(command: list[str], models: str) -> tuple[float, float, str]:
    """Wall seconds, peak memory in GiB of the largest process so far, and output of a command that must succeed."""
    start = time.perf_counter()
    done = subprocess.run(
        command, env=os.environ | {"PDID_MODELS": models}, check=True, stdout=subprocess.PIPE, text=True
    )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return time.perf_counter() - start, peak, done.stdout


def main(media: list[str]) -> None:
    models = os.environ["PDID_MODELS"]
    rows = []
    duration = 0.0
    for name, options, weights in RUNS:
        with tempfile.TemporaryDirectory() as corpus:
            pdid = str(Path(sys.executable).with_name("pdid"))
            command = [pdid, "ingest", *media, "--corpus", f"{corpus}/c", "--json", *options]
            wall, peak, out = run(command, models if weights else "")
            duration = sum(json.loads(line)["duration_s"] for line in out.splitlines())
            rows.append((name, wall, peak))
    others = {}
    for name, option in (("plain chain", ()), ("Emilia's order", ("--emilia",))):
        others[name] = run([sys.executable, str(HERE / "plain_chain.py"), *option, *media], models)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors; {duration:.0f} s of media\n")
    print("| run | wall s | wall / media | plain chain takes | Emilia's order takes | peak GiB so far |", flush=True)
    print("|---|---|---|---|---|---|")
    plain, emilia = (wall for wall, _, _ in others.values())
    for name, wall, memory in [*rows, *((name, wall, peak) for name, (wall, peak, _) in others.items())]:
        ratios = f"{plain / wall:.1f}x | {emilia / wall:.1f}x"
        print(f"| {name} | {wall:.1f} | {wall / duration:.3f} | {ratios} | {memory:.2f} |")
    for name, (_, _, out) in others.items():
        print(f"\n{name}: {out.strip()}")


if __name__ == "__main__":
    main(sys.argv[1:])
