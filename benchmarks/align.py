"""Frames and tokens brought together: planted alignments, the solver's speed, and the arms `ctc` and `align`.

    python benchmarks/align.py planted                      boundary F1 of unbalanced and balanced transport
    python benchmarks/align.py speed                        products against logarithms, batches against one by one
    python benchmarks/align.py data DIGITS FOLDER           data sets of `benchmarks/digits.py make DIGITS`: main, sweep
    python benchmarks/align.py sweep FOLDER                 weights, one seed, dev speech only; take short strings
    python benchmarks/align.py run FOLDER                   pdid benchmark --arms ctc,align, seeds 0, 1 and 2
    python benchmarks/align.py show FOLDER                  what is done of both, a line a cell

In a planted alignment the frames of an utterance are noisy copies of token vectors, so it is known which are a token's.
Frames are repeated; pauses of a sound of their own lie between tokens; or a token's last frame is also the next one's
first. From a coupling a token's frames are read as those with at least half the mass of its heaviest one,
and its boundaries are the first and the last of them, in the same way for every kind of transport.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from asr_experiments.aligning.transport import (
    Form,
    TransportSettings,
    cosine_cost,
    couple,
    log_order_prior,
    shortfall,
    uniform,
)
from catalog.experiments import runs
from catalog.store import open_catalog

KINDS = ("repeats", "silence", "shared", "all")
WIDTH, VOCABULARY = 64, 10  # of the vectors; of the tokens, so that most utterances say one twice
NOISE = 0.8  # length of the noise on a frame, beside a token's 1
TOLERANCE = 1  # frames that a boundary may be off
USUAL = TransportSettings(iterations=2000, tolerance=1e-6)
BALANCED = replace(USUAL, keep_frames=None, keep_tokens=None)
ARMS = {
    "unbalanced, λ .1 and ∞ (default)": USUAL,
    "unbalanced, λ .1 and 5": replace(USUAL, keep_tokens=5.0),
    "unbalanced, λ .5 and .5": replace(USUAL, keep_frames=0.5, keep_tokens=0.5),
    "balanced, λ ∞ and ∞": BALANCED,
}

EPOCHS, SWEEP_EPOCHS = 10, 2
TRAINING = ("--learning-rate", "5e-4", "--batch-size", "4")  # a head from nothing needs updates more than large ones
SWEEP: tuple[tuple[str, ...], ...] = (
    (),  # ctc
    ("--align-weights", "0.1,0.1"),
    ("--align-weights", "0.3,0.3"),
    ("--align-weights", "1,1"),
)


@dataclass(frozen=True, slots=True)
class Planted:
    """An utterance: frames float32 (n, width), tokens (m, width), and each token's frames as [start, end)."""

    frames: NDArray[np.float32]
    tokens: NDArray[np.float32]
    spans: tuple[tuple[int, int], ...]


def plant(kind: str, rng: np.random.Generator) -> Planted:
    """An utterance of 6 to 12 tokens of 1 to 12 frames; `kind` says what else happens."""
    words = _unit(rng.normal(size=(VOCABULARY + 1, WIDTH)))
    said = rng.integers(0, VOCABULARY, rng.integers(6, 13))
    parts: list[NDArray[np.float64]] = []
    spans: list[tuple[int, int]] = []
    for number, word in enumerate(said):
        if kind in ("silence", "all"):  # before the first too
            parts += [words[VOCABULARY]] * int(rng.integers(0, 13))
        own = int(rng.integers(1, 13))
        shared = kind in ("shared", "all") and number and spans[-1][1] == len(parts) and rng.random() < 0.5
        if shared:
            parts[-1] = _unit(parts[-1] + words[word])
        spans.append((len(parts) - bool(shared), len(parts) + own))
        parts += [words[word]] * own
    if kind in ("silence", "all"):
        parts += [words[VOCABULARY]] * int(rng.integers(0, 13))
    noise = NOISE * _unit(rng.normal(size=(len(parts), WIDTH)))
    return Planted((np.stack(parts) + noise).astype(np.float32), words[said].astype(np.float32), tuple(spans))


def read_spans(plan: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Each token's first frame and the one after its last, of those with at least half the mass of its heaviest."""
    heavy = plan >= plan.max(0) / 2
    return [(int(np.flatnonzero(column)[0]), int(np.flatnonzero(column)[-1]) + 1) for column in heavy.T]


def boundary_counts(found: Sequence[tuple[int, int]], true: Sequence[tuple[int, int]]) -> tuple[int, int, int]:
    """Boundaries that meet a true one of their own within TOLERANCE frames, boundaries found, true boundaries."""
    ours, theirs = sorted({x for span in found for x in span}), sorted({x for span in true for x in span})
    met = i = j = 0
    while i < len(ours) and j < len(theirs):
        if abs(ours[i] - theirs[j]) <= TOLERANCE:
            met, i, j = met + 1, i + 1, j + 1
        elif ours[i] < theirs[j]:
            i += 1
        else:
            j += 1
    return met, len(ours), len(theirs)


def boundary_f1(kind: str, settings: TransportSettings, n: int, seed: int = 0) -> tuple[float, float]:
    """Boundary F1 over n planted utterances, and the mean share of the tokens' mass without a frame."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    planted = [plant(kind, rng) for _ in range(n)]
    plans, lost = couplings(planted, settings)
    counts = np.zeros(3)
    for one, plan in zip(planted, plans, strict=True):
        counts += boundary_counts(read_spans(plan), one.spans)
    return float(2 * counts[0] / (counts[1] + counts[2])), lost


def couplings(planted: Sequence[Planted], settings: TransportSettings) -> tuple[list[NDArray[np.float32]], float]:
    """The utterances' couplings, computed as one batch, and the tokens' mean shortfall."""
    pad = torch.nn.utils.rnn.pad_sequence
    frames = pad([torch.from_numpy(one.frames) for one in planted], batch_first=True)
    tokens = pad([torch.from_numpy(one.tokens) for one in planted], batch_first=True)
    n_frames, n_tokens = (
        torch.tensor([len(part) for part in parts])
        for parts in ([one.frames for one in planted], [one.tokens for one in planted])
    )
    (n, m), width = (frames.shape[1], tokens.shape[1]), settings.order_width
    a, b = uniform(n_frames, n), uniform(n_tokens, m)
    made = couple(cosine_cost(frames, tokens), a, b, log_order_prior(n_frames, n_tokens, n, m, width), settings)
    plans = [made.plan[k, : len(one.frames), : len(one.tokens)].numpy() for k, one in enumerate(planted)]
    return plans, float(shortfall(made.token_mass, b).mean())


def show_planted(n: int) -> None:
    print(f"{n} utterances of each kind, boundaries within {TOLERANCE} frame, noise {NOISE:g}\n")
    print("| transport | " + " | ".join(KINDS) + " | shortfall |\n|" + "---|" * (len(KINDS) + 2))
    for name, settings in ARMS.items():
        found = [boundary_f1(kind, settings, n) for kind in KINDS]
        cells = " | ".join(f"{f1:.3f}" for f1, _ in found)
        print(f"| {name} | {cells} | {100 * np.mean([lost for _, lost in found]):.1f} % |", flush=True)


def show_speed() -> None:
    """Fixed iterations of 16 pairs as the digits have them, and of one pair at a time; the best of five."""
    torch.set_num_threads(1)
    print("| frames × tokens | products, ms | logarithms, ms | ratio | products one by one, ms |\n|" + "---|" * 5)
    for n, m in ((275, 9), (400, 14), (1500, 60)):
        frames, tokens = torch.randn(16, n, 128), torch.randn(16, m, 128)
        sizes = torch.full((16,), n), torch.full((16,), m)
        parts = (
            cosine_cost(frames, tokens),
            uniform(sizes[0], n),
            uniform(sizes[1], m),
            log_order_prior(*sizes, n, m, USUAL.order_width),
        )
        settings = replace(USUAL, iterations=50, tolerance=0.0)
        took = [_best(parts, settings, form, 16) for form in ("product", "log")] + [
            _best(parts, settings, "product", 1)
        ]
        product, log, single = (1000 * seconds for seconds in took)
        print(f"| {n} × {m} | {product:.1f} | {log:.1f} | {log / product:.1f} | {single:.1f} |", flush=True)


def _best(parts: Sequence[torch.Tensor], settings: TransportSettings, form: Form, size: int) -> float:
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        for first in range(0, 16, size):
            cost, a, b, prior = (part[first : first + size] for part in parts)
            couple(cost, a, b, prior, settings, form)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return found


# ---------------------------------------------------------------- the arms


def make_data(digits: Path, folder: Path) -> None:
    """`main.csv` with whole paths, and `sweep.csv`, in which dev plays the test and the test's speech is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    with (digits / "main.csv").open() as file:
        rows = [row | {"clip": str((digits / row["clip"]).absolute())} for row in csv.DictReader(file)]
    _write(folder / "main.csv", rows)
    _write(folder / "sweep.csv", [row | {"split": row["split"].replace("dev", "test")} for row in _without_test(rows)])


def _without_test(rows: Sequence[dict[str, str]]) -> Iterator[dict[str, str]]:
    return (row for row in rows if row["split"] != "test")


def _write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(path, len(rows), "strings", flush=True)


def benchmark(folder: Path, data: str, arms: str, seeds: str, epochs: int, *options: str) -> None:
    command = [
        *(sys.executable, "-c", "from corpus_builder.cli import main; main()", "benchmark"),
        *("--dataset", str(folder / data), "--corpus", str(folder / "corpus"), "--model", "whisper-digits"),
        *("--language", "en", "--standard", "USA", "--score", "raw", "--context", "auto", *TRAINING),
        *("--epochs", str(epochs), "--arms", arms, "--seeds", seeds, *options),
    ]
    began = time.monotonic()
    subprocess.run(command, check=True)
    print(f"{arms} {' '.join(options)}: {(time.monotonic() - began) / 60:.1f} minutes", flush=True)


def show(folder: Path) -> None:
    """A line for each cell in the catalog."""
    with open_catalog(folder / "corpus") as catalog:
        found = runs(catalog)
    heads = [
        "experiment",
        "arm",
        "w_a + w_o",
        "updates",
        "seed",
        "WER %",
        "CER %",
        "standard",
        "seen",
        "unseen",
        "apart",
        "transport",
    ]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for run in found:
        if "error" in run.metrics:
            continue
        groups = {group["kind"]: group["forms"]["raw"] for group in run.metrics.get("groups", ())}
        rates = [groups[kind]["wer"] if kind in groups else None for kind in ("standard", "seen", "unseen")]
        last = (run.metrics.get("epochs") or [{}])[-1]
        cells = [
            *(run.experiment_id[-8:], run.arm),
            " + ".join(f"{w:g}" for w in run.config["settings"]["align"]["weights"]) if run.arm == "align" else "–",
            *(run.metrics.get("n_updates", 0), run.seed),
            *(f"{100 * groups['all'][name]:.1f}" for name in ("wer", "cer")),
            *("–" if rate is None else f"{100 * rate:.1f}" for rate in rates),
            *(f"{last[name]:.3f}" if name in last else "–" for name in ("apart", "transport")),
        ]
        print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["planted", "speed", "data", "sweep", "run", "show"])
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--arms", default="ctc,align")
    parser.add_argument("--utterances", type=int, default=200)
    given = parser.parse_args()
    if given.what == "planted":
        show_planted(given.utterances)
    elif given.what == "speed":
        show_speed()
    elif given.what == "data":
        make_data(*given.folders)
    elif given.what == "sweep":
        for options in SWEEP:
            benchmark(given.folders[0], "sweep.csv", "align" if options else "ctc", "0", SWEEP_EPOCHS, *options)
    elif given.what == "show":
        show(given.folders[0])
    else:
        benchmark(given.folders[0], "main.csv", given.arms, given.seeds, EPOCHS)
